"""A run with a learning curve: its points, what is trained for them, and what is trained but once."""

import csv
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import files
from hydra import compose, initialize_config_dir

import infer
from infer.cli import schema
from infer.core.errors import UserError
from infer.core.files import file_digest, read_json
from infer.data import read_dataset
from infer.pipeline import curve
from infer.pipeline.options import DistillOptions
from infer.pipeline.run import distill
from infer.pipeline.run_folder import Run
from infer.report.curve import interval

OWN = 100 * 10 * 64
WORDS = [
    *("method=random", "budget=raw", "labels=static", "ipc=100", "teachers.margin=-1", "trainer=cpu"),
    *("teachers.backbones=[convnet_narrow]", "recipe.teacher.epochs=1", "recipe.teacher.min_steps=0"),
    *("recipe.student.steps=3", "recipe.student.real_epochs=0", "students.seeds=2"),
    "students.sources=[distilled,random,real]",
]
CURVE = "report.curve=[0.5,2,3]"


def composed(*words: str) -> DistillOptions:
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return schema.typed(compose("distill", [*WORDS, *words]))


def run(*words: str) -> dict[str, Any]:
    options = composed(*words)
    return distill(options, schema.backbones(options), quiet=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The folder and the result of a run that is asked for a curve at once."""
    output = tmp_path_factory.mktemp("curve")
    result = run(f"output={output}", CURVE)
    return output / "distill" / "digits" / "random-ipc100" / "seed0", result


def without_seconds(points: list[dict]) -> list[dict]:
    return [{key: value for key, value in point.items() if key != "seconds"} for point in points]


def test_a_curve_has_the_file_random_pictures_of_two_kinds_and_all_pictures(made):
    folder, result = made
    assert [(point["source"], point["budget"]) for point in result["curve"]] == [
        *((source, budget) for budget in (OWN // 2, OWN) for source in ("distilled", "random", "random_hard")),
        ("real", None),
    ]
    assert result == read_json(folder / "result.json")
    known = {(point["source"], point["budget"]): point for point in result["curve"]}
    for budget, file in ((OWN // 2, folder / "curve" / f"{OWN // 2}bytes" / "distilled.safetensors"), (OWN, None)):
        small = infer.load(file or folder / "distilled.safetensors")
        point = known["distilled", budget]
        assert (point["pictures"], point["bytes"]) == (len(small.naturals), small.payload)
        assert 0.98 * budget < len(small.to_bytes()) <= budget
        assert small.header.provenance["settings"]["budget"].get("bytes") == (None if budget == OWN else budget)
        plain = known["random_hard", budget]  # 64 pixels and a class, without ten numbers of two bytes
        assert plain["pictures"] == pytest.approx(point["pictures"] * 85 / 65, abs=2)
    assert known["real", None]["pictures"] == sum(result["train_pictures"]) == 1438


def test_the_points_of_the_runs_own_budget_are_the_rows_of_its_table(made):
    _, result = made
    rows = {row["source"]: row for row in result["students"]}
    assert set(rows) == {"distilled", "random", "real"}
    for point in result["curve"]:
        assert (point["backbone"], point["seeds"]) == ("convnet_narrow", 2)
        if point["source"] in rows and point["budget"] in (OWN, None):
            row = rows[point["source"]]
            assert (point["accuracy"], point["bytes"]) == (pytest.approx(row["accuracy_mean"]), row["bytes"])
            assert (point["low"], point["high"]) == interval(row["accuracies"], 359)


def test_budgets_with_every_picture_are_left_out(made):
    folder, result = made
    assert result["curve_left_out"] == [{"budget": 2 * OWN, "reason": "whole"}, {"budget": 3 * OWN, "reason": "whole"}]
    assert not list((folder / "curve" / f"{2 * OWN}bytes").glob("students"))


@pytest.mark.parametrize("words", [[], ["budget.choices.labels.share=[0.1,0.25]"]])
def test_a_budget_without_room_for_a_picture_of_each_class_is_refused_before_anything_is_trained(words, tmp_path):
    with pytest.raises(UserError) as error:
        run(f"output={tmp_path}", "report.curve=[0.5,0.02]", *words)
    assert str(error.value) == (
        "report.curve=[0.5,0.02]: there is no file of 0.02 times the budget (budget.bytes=1280: at most 0 naturals fit "
        "beside the header and the labels, fewer than the 10 classes); leave 0.02 out, or change the budget"
    )
    assert not list(tmp_path.iterdir())


def test_points_that_a_time_may_bring_are_checked_too():
    options = composed("report.curve=null")
    assert Run.prepare(options, schema.backbones(options), [0.5]).options == options
    with pytest.raises(UserError, match=r"^report.curve=\[0.5,0.02\]: there is no file of 0.02 times the budget"):
        Run.prepare(options, schema.backbones(options), [0.5, 0.02])


def test_a_budget_whose_compressed_pictures_turn_out_too_large_is_left_out(tmp_path, caplog):
    """Before they are compressed it is not certain."""
    words = ["budget=coded", "budget.quality=100", "ipc=20", "students.seeds=1", "recipe.student.steps=2"]
    result = run(f"output={tmp_path}", *words, "report.curve=[0.24]")
    assert result["curve_left_out"] == [{"budget": 3072, "reason": "small"}]
    assert "the learning curve has no point there" in caplog.text


def test_a_finished_run_gets_the_missing_points_alone_and_its_file_stays_bit_for_bit(made, tmp_path):
    reference, result = made
    words = [f"output={tmp_path}"]
    assert "curve" not in run(*words)
    (file,) = files(tmp_path)
    written = file.stat().st_mtime_ns
    assert file_digest(file) == file_digest(reference / "distilled.safetensors")
    first = run(*words, "report.curve=[0.5]")
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    more = run(*words, CURVE)
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert file.stat().st_mtime_ns == written
    assert without_seconds(more["curve"]) == without_seconds(result["curve"])
    assert more["curve_left_out"] == result["curve_left_out"]
    assert first["curve"] == more["curve"]
    assert run(*words, "report.curve=[0.5]") == more  # fewer multiples take nothing away
    assert run(*words, "dry_run=true", CURVE)["state"] == "finished"
    assert run(*words, "dry_run=true", "report.curve=[0.25]")["state"] == "unfinished"
    assert run(*words, "dry_run=true", CURVE, "students.backbones=[convnet_deep]")["state"] == "unfinished"


def test_a_run_that_is_stopped_in_its_curve_goes_on_with_the_next_budget(made, tmp_path, monkeypatch):
    compared, stopped = [], curve.compare

    def stops(sets, options, folder, known):
        compared.append(options.budget.bytes)
        if options.budget.bytes == OWN:
            raise KeyboardInterrupt
        return stopped(sets, options, folder, known)

    monkeypatch.setattr(curve, "compare", stops)
    with pytest.raises(KeyboardInterrupt):
        run(f"output={tmp_path}", CURVE)
    assert compared == [OWN // 2, OWN]
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert [path for path in trained if "curve" in path.parts and path.name == "student.safetensors"]
    monkeypatch.setattr(curve, "compare", stopped)
    result = run(f"output={tmp_path}", CURVE)
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert without_seconds(result["curve"]) == without_seconds(made[1]["curve"])


def test_the_recommended_command_distils_the_file_of_the_point(made):
    folder, _ = made
    words = [f"output={folder.parents[3]}", CURVE]
    result = run(*words, "report.tolerance=100")
    assert result["recommended"]["budget"] == OWN // 2  # trained by chance alone, none loses more than all
    assert result["recommended"]["pictures"] == result["curve"][0]["pictures"]
    *_, size, no_curve = shlex.split(result["recommended"]["command"])
    assert (size, no_curve) == (f"budget.bytes={OWN // 2}", "report.curve=null")
    again = run(words[0], size, no_curve)
    point, new = (
        infer.load(file)
        for file in (
            folder / "curve" / f"{OWN // 2}bytes" / "distilled.safetensors",
            folder.parents[1] / f"random-{OWN // 2}bytes" / "seed0" / "distilled.safetensors",
        )
    )
    assert torch.equal(point.naturals, new.naturals)
    assert torch.equal(point.labels, new.labels)
    rows = {row["source"]: row["accuracies"] for row in again["students"]}
    assert result["curve"][0]["accuracy"] == pytest.approx(sum(rows["distilled"]) / 2)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["budget=infer", CURVE], "multiplies bytes, and budget.by=images counts images; choose budget=coded or"),
        (["report.curve=[]"], "report.curve=[]: give one multiple of the budget or more, such as [0.25,0.5,1], or"),
        (["report.curve=[0]"], "report.curve=[0.0]: must lie between 0.001 and 1000"),
        (
            ["students.sources=[distilled]", CURVE],
            "a report compares real, distilled, random; add real, random, or",
        ),
    ],
)
def test_a_curve_that_means_nothing_is_refused_in_one_line(words, line):
    with pytest.raises(UserError) as error:
        composed(*words)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_that_are_classes_need_no_second_kind_of_random_pictures(tmp_path):
    words = [f"output={tmp_path}", "labels=hard", "ipc=20", "students.seeds=1", "report.curve=[1]"]
    assert [point["source"] for point in run(*words)["curve"]] == ["distilled", "random", "real"]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "selected.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_pictures_of_a_file_are_listed_by_their_numbers_in_its_order(made):
    folder, _ = made
    small, data = infer.load(folder / "distilled.safetensors"), read_dataset(composed().dataset)
    rows = table(folder)
    numbers = [int(row["path"].removeprefix("train/")) for row in rows]
    assert torch.equal(data.train.images[numbers], small.naturals)
    assert [small.classes.index(row["class"]) for row in rows] == small.natural_targets.tolist()
    assert {row["why"] for row in rows} == {"random"}


@pytest.mark.parametrize("stream", [False, True])
def test_pictures_of_a_folder_are_listed_by_their_paths(pictures, tmp_path, stream):
    words = [f"output={tmp_path}", "dataset=image_folder", f"dataset.root={pictures}", "dataset.image_size=16"]
    words += ["dataset.channels=1", f"dataset.stream={stream}", "labels=hard", "ipc=4", "students.seeds=1"]
    words += ["method=herding", "budget=infer", "students.sources=[distilled]", "dataset.validation=0.2"]
    run(*words)
    (file,) = files(tmp_path)
    small, rows = infer.load(file), table(file.parent)
    data = read_dataset(composed(*words).dataset)
    assert len(rows) == len(small.naturals) == 12
    for row, image in zip(rows, small.naturals, strict=True):
        assert Path(row["path"]).parts[:2] == ("train", row["class"])
        found = torch.zeros(1, *data.train.shape, dtype=torch.uint8)
        data.decoder.decode_all([pictures / row["path"]], found)
        assert torch.equal(found[0], image)
        assert row["why"] == "keeps the mean of those chosen closest to the class mean (herding)"


def test_created_images_are_no_pictures_to_list(tmp_path, caplog):
    words = [f"output={tmp_path}", "method=rded", "budget=infer", "ipc=2", "students.seeds=1"]
    with caplog.at_level("INFO", "infer"):
        run(*words, "students.sources=[distilled]", "method.options.crops=1", "method.options.candidates=2")
    assert caplog.text.count("method=rded creates its images: there is no selected.csv") == 1
    assert not list(tmp_path.rglob("selected.csv"))
