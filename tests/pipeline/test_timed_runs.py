"""A run with a time ends with its plan, finds it again, and is refused at once where the time is too short."""

import json
import time
from contextvars import ContextVar
from types import SimpleNamespace

import pytest
import torch

import infer
from infer.core.errors import UserError
from infer.core.files import write_json
from infer.core.forecast import forecasting
from infer.pipeline import timed
from infer.pipeline.costs import Expectation, Speeds, choices_of_networks
from infer.pipeline.plan import Costs, Point
from infer.pipeline.timed import planned
from infer.training.context import Context
from infer.training.speed import Speed

WORDS = ["experiment=poc", "dataset.image_size=16", "dataset.channels=1", "ipc=8", "labels.proxy_steps=3"]
WORDS += ["labels.candidates=1", "teachers.margin=-1", "students.sources=[distilled,random,real]"]
WORDS += ["teachers.backbones=[convnet_narrow,convnet]", "recipe.student.steps=3", "recipe.teacher.epochs=1"]
NOW = ["students.seeds=1", "budget.choices.budget.quality=[60]", "report.curve=null"]


def test_a_run_with_a_time_has_its_plan_and_finds_it_again(run, config, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("infer.training.speed._SECONDS", 0.05)
    monkeypatch.setattr("infer.pipeline.plan._MOST_SEEDS", 1)
    ends = []
    monkeypatch.setattr(
        "infer.pipeline.run.forecasting", lambda pieces, end: ends.append(end) or forecasting(pieces, end)
    )
    words = [*WORDS, *NOW, f"dataset.root={pictures}", "time=1h"]
    result = run("distill", *words)
    assert 3000 < ends[0] - time.perf_counter() < 3600
    plan = result["plan"]
    assert (plan["time"], plan["seeds"], plan["tries"], plan["points"], plan["left_out"]) == ("1h", 1, 0, 0, [])
    assert plan["settings"] == {
        "dataset.image_size": 16,
        "teachers.backbones": ["convnet_narrow", "convnet"],
        "students.backbones": ["convnet_narrow"],
    }
    assert set(plan["stages"]) == {"start", "teachers", "set", "students", "report", "suspects"}
    assert plan["planned_seconds"] == pytest.approx(sum(plan["stages"].values()), abs=0.3)
    assert plan["seconds"] > 0
    assert result["budget"]["quality"] == 60  # the one choice is taken, and not tried
    (folder,) = {path.parent for path in tmp_path.rglob("report.html")}
    assert json.loads((folder / "result.json").read_text())["plan"] == plan
    state = run("distill", *words, "dry_run=true")
    assert state == {"state": "finished", "folder": str(folder)}
    assert run("distill", *words)["plan"] == plan
    options = config("distill", *words, "seed=3")
    with planned(options, {}, 0.0) as chosen:  # which runs of all seeds share
        assert chosen.seed == 3
        assert len([*tmp_path.rglob("plan.json")]) == 1

    stored = json.loads((folder / "result.json").read_text())
    write_json(folder / "result.json", {key: value for key, value in stored.items() if key != "plan"})
    resumed = run("distill", *words)["plan"]  # as if the command had been stopped at its very end
    assert resumed == {key: value for key, value in plan.items() if key != "seconds"}
    write_json(folder / "result.json", stored)

    plan_file = next(tmp_path.rglob("plan.json"))
    plan_file.write_text(json.dumps({**plan, "settings": {"dataset.image_size": 16}}))
    assert run("distill", *words)["plan"] == plan  # a damaged plan is made again, and comes to the same run


@pytest.mark.parametrize(("seconds", "seeds", "points"), [(101, 1, 0), (102, 2, 0), (200, 3, 1), (1000, 10, 1)])
def test_the_first_students_decide_how_many_more_there_are(config, monkeypatch, tmp_path, seconds, seeds, points):
    """They took 40 s where 20 were expected: more students take 40 s each, and the report 20 instead of 10.

    The two sets took a second each before; all of the time is filled.
    """
    now, trained = [0.0], []

    class Sets:
        def __getitem__(self, source: str) -> None:
            now[0] += 1

    costs = Costs({"start": 3, "report": 10, "suspects": 0}, [10, 10], points=[Point(5, 5)])
    left_out = [{"what": "large", "needs_seconds": 9.0}, {"what": "3 students a row", "needs_seconds": 9.0}]
    plan = {"time": f"{seconds}s", "stages": {}, "seeds": 1, "tries": 0, "points": 0, "left_out": left_out}
    clock = timed._Clock(0.0, seconds, plan, tmp_path / "plan.json", [0.5], 3, costs)

    def compare(sets, options, folder, known):
        trained.append((options.students.seeds, options.trainer.threads))
        now[0] += 40
        return [options.students.seeds]

    monkeypatch.setattr(timed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(timed, "compare", compare)
    monkeypatch.setattr(timed, "_clock", ContextVar("clock", default=clock))
    monkeypatch.setattr(timed.torch, "get_num_threads", lambda: 16)
    options = config("distill", "trainer=cpu", "students.sources=[distilled,random,real]")
    options, rows = timed.compared(Sets(), options, tmp_path, [])
    # with the threads that were measured, however many students there are
    assert trained == [(1, 1), *([(seeds, 1)] if seeds > 1 else [])]
    assert rows == [seeds]
    assert options.students.seeds == seeds
    assert options.report.curve == ([0.5] if points else None)
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert kept["seeds"] == seeds
    names = [*(["3 students a row"] if seeds < 3 else []), *(["1 points of the curve"] if not points else [])]
    assert [each["what"] for each in kept["left_out"]] == ["large", *names]
    assert all(each["needs_seconds"] > seconds for each in kept["left_out"][1:])


def test_faster_students_make_no_report_faster(tmp_path):
    costs = Costs({"report": 10.0, "suspects": 4.0}, [10, 10], points=[Point(5, 5)], analysed=3.0)
    clock = timed._Clock(0.0, 60, {"stages": {}}, tmp_path / "plan.json", [0.5], 3, costs)
    clock.learn(15.0)  # where 20 were expected
    assert clock.costs.students == pytest.approx([7.5, 7.5])
    assert (clock.costs.stages, clock.costs.analysed) == ({"report": 10.0, "suspects": 4.0}, 3.0)
    clock.learn(30.0)  # where 15 were
    assert (clock.costs.stages, clock.costs.analysed) == ({"report": 20.0, "suspects": 8.0}, 6.0)


def test_students_of_a_file_are_expected_to_learn_from_its_pictures_and_no_more(config):
    """A frozen network passes 30 test pictures, and those it learns from: 100, 20 of the file, 10 of half of it."""
    name = "efficientnet_lite0_linear"
    words = [f"teachers.backbones=[{name}]", f"students.backbones=[{name}]", "labels=hard", "budget=raw", "trainer=cpu"]
    options = config("distill", *words, "method=random", "ipc=5", "students.sources=[distilled,random,real]")
    images = {count: torch.zeros(count, 1, 8, 8, dtype=torch.uint8) for count in (100, 30)}
    data = infer.Splits.from_arrays(images[100], torch.arange(100) % 4, images[30], torch.arange(30) % 4)
    speeds = Speeds(8, 1, {name: Speed(100.0, 0.0)}, encoding=0.0, stored=20)
    costs = Expectation(Context(data, trainer=options.trainer), speeds).of(options, 0.0, [0.5])

    def seconds(pictures: int) -> float:
        return (30 + pictures) / 3 / 100 + 1.5e-3 * pictures

    assert costs.students == pytest.approx([seconds(100), seconds(20), seconds(20)])
    assert costs.points[0].students == pytest.approx(2 * seconds(10))  # of the file, and random ones like it


@pytest.mark.parametrize(("train", "looked_at", "checked", "area"), [(1500, 1530, 1500, 1), (60_000, 2030, 50_000, 4)])
def test_a_report_looks_at_2000_pictures_and_suspects_are_among_50000(config, train, looked_at, checked, area):
    """A network sees pictures of 32 pixels at 128. For suspects it sees more than 10,000 at 64, a quarter of that."""
    name = "efficientnet_lite0_linear"
    words = [f"teachers.backbones=[{name}]", f"students.backbones=[{name}]", "labels=hard", "trainer=cpu"]
    options = config("distill", *words, "method=random", "report.language=en", "report.suspects=true")
    images = {count: torch.zeros(1, 1, 32, 32, dtype=torch.uint8).expand(count, -1, -1, -1) for count in (train, 30)}
    data = infer.Splits.from_arrays(images[train], torch.arange(train) % 4, images[30], torch.arange(30) % 4)
    speeds = Speeds(32, 1, {name: Speed(100.0, 0.0)}, encoding=0.0, stored=20)
    costs = Expectation(Context(data, trainer=options.trainer), speeds).of(options, 0.0, [])
    stages = costs.stages
    assert stages["report"] == pytest.approx(12 + 10 * looked_at / 3 / 100)
    assert costs.analysed == pytest.approx(3 * 30 / 3 / 100)  # the students of three sources, on the test pictures
    assert stages["suspects"] == pytest.approx(checked / area / 3 / 100 + 2 * 1.5e-3 * checked)


def test_too_short_a_time_is_refused_before_anything_is_trained(run, pictures, tmp_path):
    words = [*WORDS, *NOW, f"dataset.root={pictures}", "time=0.1s"]
    with pytest.raises(
        UserError, match=r"^time=0.1s: too short for the smallest plan \(16 pixels, convnet_narrow, .*m?s?$"
    ):
        run("distill", *words)
    assert not [*tmp_path.rglob("*.json")]


def test_too_short_a_time_for_large_pictures_names_the_key_of_smaller_ones(run, pictures):
    words = [*WORDS, *NOW, f"dataset.root={pictures}", "dataset.image_size=40", "time=0.1s"]
    with pytest.raises(UserError, match=r"40 pixels.*, or dataset\.image_size=auto for smaller pictures$"):
        run("distill", *words)


@pytest.mark.parametrize("time", ["45", "ten minutes", "-3m"])
def test_a_time_is_a_duration(config, time):
    with pytest.raises(infer.UserError, match=rf"^time={time}: give a number and s, m or h, such as 30m$"):
        config("distill", f"time={time}")


def test_a_time_is_for_one_device(config):
    with pytest.raises(UserError, match=r"^time=5m: is planned for one device"):
        config("distill", "time=5m", "trainer.devices=2", "trainer.strategy=ddp")


def test_a_study_has_a_time_of_its_own(config):
    with pytest.raises(infer.UserError, match=r"^tune.timeout: limits a study; leave time=3m away, or tune=$"):
        config("distill", "tune=default", "time=3m")


def test_a_plan_may_have_fewer_networks_and_at_last_the_frozen_one_alone():
    found = choices_of_networks(["deep"], ["linear", "deep"], lambda name: name == "linear")
    assert found == [(["deep"], ["linear", "deep"]), (["deep"], ["linear"]), (["linear"], ["linear"])]
    found = choices_of_networks(["a", "b", "c"], ["a"], lambda name: False)
    assert found == [(["a", "b", "c"], ["a"]), (["a", "b"], ["a"]), (["a"], ["a"])]
