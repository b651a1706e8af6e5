"""python distill.py tune=...: studies that processes share, that survive a killed one, and that report what is true."""

import csv
import json
import os
import signal
import statistics
import time

import optuna
import pytest
import yaml
from conftest import TINY, files

import infer
from infer.pipeline.run import create
from infer.pipeline.study_process import take_over

WORDS = ["tune=default", "ipc=5", "students.seeds=1", "tune.space.recipe.ufc=null", "recipe.ufc.steps=30"]
SINGLE = ["students.sources=[distilled]", "dataset.validation=0.1", "ipc=5", "students.seeds=1"]


def test_two_processes_work_on_one_study_and_one_may_be_killed(command, start, tmp_path):
    words = ["distill.py", f"output={tmp_path}", *TINY, *WORDS, "recipe.ufc.steps=30"]
    one, two = start(*words), start(*words)
    before = []
    for line in one.stdout:
        before.append(line)
        if sum(line.startswith("trial") for line in before) == 3:
            break
    time.sleep(1)  # into the fourth
    os.kill(one.pid, signal.SIGKILL)
    output, _ = two.communicate()
    assert two.returncode == 0, output
    training = "Training teacher convnet_narrow ("
    assert "".join(before).count(training) + output.count(training) == 1  # they share it
    assert output.count("the recipe as it is") >= 1

    folder = tmp_path / "tune" / "digits" / "infer-ipc5"
    study = json.loads((folder / "study.json").read_text())
    over = [trial for trial in study["trials"] if trial["state"] in ("complete", "pruned")]
    assert len(over) == 20
    assert len({trial["trial"] for trial in study["trials"]}) == len(study["trials"])
    gone = [trial for trial in study["trials"] if trial["state"] == "fail"]
    assert len(gone) <= 1  # that of the killed process, if it had one
    for trial in [trial for trial in gone if len(trial["values"]) == len(over[0]["values"])]:
        assert [other["values"] for other in over].count(trial["values"]) == 1  # tried again
    best = max((trial for trial in over if trial["state"] == "complete"), key=lambda trial: trial["accuracy"])
    assert study["best"]["accuracy"] == best["accuracy"]
    gain = best["accuracy"] - study["default"]["accuracy"]
    assert ("points on the recipe" if gain > 0 else "no better than") in output
    with (folder / "trials.csv").open() as table:
        rows = list(csv.DictReader(table))
    rates = {str(trial["trial"]): str(trial["values"]["recipe.student.lr"]) for trial in over}
    assert {row["trial"]: row["recipe.student.lr"] for row in rows if row["trial"] in rates} == rates
    assert {"history.png", "importances.png"} <= {path.name for path in folder.iterdir()}

    recipe = ["--config-dir", str(folder), "recipe=best", "dataset=digits", "trainer=cpu"]
    again = command("distill.py", *recipe, *SINGLE, f"output={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    (file,) = files(tmp_path / "again")
    (row,) = json.loads((file.parent / "result.json").read_text())["students"]
    assert row["accuracy_mean"] == study["best"]["accuracy"]

    more = command(*words)  # the study is complete: nothing is tried
    assert more.returncode == 0
    assert "trial " not in more.stdout.replace("best, trial ", "")


def test_a_trial_that_lags_is_ended_early(run):
    """Of trials whose learning rates are far apart, the worst do not reach their last step."""
    words = [*WORDS, "tune.space.mixing=null", "tune.space.recipe.student.temperature=null", "tune.trials=10"]
    words += ["tune.space.recipe.student.lr.low=0.000001", "recipe.student.steps=40", "tune.seed=1"]
    found = run("distill", *words)
    states = [trial["state"] for trial in found["trials"]]
    assert "pruned" in states
    ended = [trial["values"]["recipe.student.lr"] for trial in found["trials"] if trial["state"] == "pruned"]
    assert statistics.median(ended) < found["best"]["values"]["recipe.student.lr"]


def test_two_objectives_have_a_front_and_bytes_a_limit(run, tmp_path):
    words = ["tune=bytes", "method=infer_plus", "ipc=20", "students.seeds=1", "labels.proxy_steps=20", "tune.trials=5"]
    words += ["budget.codec=jpeg", "tune.space.labels.candidates=null", "labels.candidates=1"]
    found = run("distill", *words)
    complete = [trial for trial in found["trials"] if trial["state"] == "complete"]
    assert len(complete) == 5
    better = [
        trial["trial"]
        for trial in complete
        if not any(
            other["accuracy"] >= trial["accuracy"]
            and other["bytes"] <= trial["bytes"]
            and (other["accuracy"], other["bytes"]) != (trial["accuracy"], trial["bytes"])
            for other in complete
        )
    ]
    assert found["front"] == better
    folder = tmp_path / "outputs" / "tune" / "digits" / "infer_plus-ipc20"
    assert (folder / "front.png").exists()
    recipe = yaml.safe_load((folder / "recipe" / "best.yaml").read_text())
    assert recipe["budget"]["quality"] == found["best"]["values"]["budget.quality"]
    least = min(trial["bytes"] for trial in complete)
    with pytest.raises(
        infer.UserError, match=rf"no trial has come to a good end \(none of 1 has .* tune.max_bytes={least // 2}\)"
    ):
        run("distill", *words, "tune.trials=1", f"tune.max_bytes={least // 2}")


def test_a_study_keeps_its_time_budget(run):
    began = time.monotonic()
    found = run("distill", *WORDS, "tune.trials=500", "tune.timeout=4s", "tune.storage=null")
    assert 1 <= len(found["trials"]) < 500
    assert time.monotonic() - began < 120


def test_a_database_may_hold_the_study(run, tmp_path):
    found = run("distill", *WORDS, "tune.trials=2", f"tune.storage=sqlite:///{tmp_path}/study.db")
    assert len(found["trials"]) == 2
    assert (tmp_path / "study.db").exists()
    with pytest.raises(infer.UserError, match=r"tune.storage=sqlite:////nowhere/x.db: cannot be opened"):
        run("distill", *WORDS, "tune.trials=2", "tune.storage=sqlite:////nowhere/x.db")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["+tune.space.recipe.student.rl=[1]"],
            r"tune.space.recipe.student.rl=1: unknown; choose one of batch, ",
        ),
        (["+tune.space.recipe.student.weight_decay=[none]"], r"tune.space.recipe.student.weight_decay=none: must be "),
        (["tune.space.mixing.alpha.low=5"], r"tune.space.mixing.alpha=\{low: 5, .* low first"),
        (["tune.space.mixing.natural_ratio.high=2"], r"mixing.natural_ratio=2: must lie between 0 and 1"),
        (["tune.objectives=[accuracy,bytes]"], r"tune.prune=true: .* give tune.prune=false"),
        (["tune.objectives=[speed]"], r"tune.objectives=\[speed\]: choose"),
        (["trainer.strategy=ddp_spawn"], r"trainer.strategy=ddp_spawn: a trial of a study takes one device"),
        (["budget.choices.mixing.alpha=[0.2,0.8]"], r"budget.choices.mixing.alpha=.*: a study tries settings itself"),
        (["tune.seed=-1"], r"tune.seed=-1: must lie between 0"),
        (["dry_run=true"], r"dry_run=true: lists runs, not the trials of a study"),
        (["tune.timeout=soon"], r"tune.timeout=soon: give a number and s, m or h"),
        (["tune.space.recipe=null", "tune.space.mixing=null"], r"tune.space: nothing is open in it"),
        (["tune.max_bytes=0"], r"tune.max_bytes=0: must lie between 1"),
        (["tune.space.mixing.alpha.high=nan"], r"tune.space.mixing.alpha=.*nan.*: give \{low, high\}, numbers"),
        (["tune.space.mixing.alpha.high=inf"], r"tune.space.mixing.alpha=.*inf.*: give \{low, high\}, numbers"),
        (["tune.space.mixing.alpha.log=often"], r"tune.space.mixing.alpha=.*often.*: give \{low, high\}, numbers"),
    ],
)
def test_options_that_make_no_study_are_one_line(config, words, says):
    with pytest.raises(infer.UserError, match=says):
        config("distill", "tune=default", *words)


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(run, monkeypatch):
    calls = []

    def fails(*args):
        calls.append(args)
        if len(calls) == 2:  # after the recipe as it is
            raise RuntimeError("out of\nmemory")
        return create(*args)

    monkeypatch.setattr("infer.pipeline.tune.create", fails)
    found = run("distill", *WORDS, "tune.trials=2")
    assert [(trial["state"], trial["error"]) for trial in found["trials"]] == [
        ("fail", "RuntimeError: out of memory"),
        ("complete", None),
    ]


def test_settings_that_kill_every_process_are_tried_twice():
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.5})
    for _ in range(2):  # two processes, which they kill
        study.ask().suggest_float("x", 0, 1)
        take_over(study)
    assert study.ask().suggest_float("x", 0, 1) != 0.5
    assert [trial.params["x"] for trial in study.trials][:2] == [0.5, 0.5]


def test_a_trial_is_found_again_as_the_run_that_one_would_type(config):
    tried = config("distill", *SINGLE).with_trial({"recipe.student.lr": 0.02, "mixing.kind": "cutmix"})
    typed = config("distill", *SINGLE, "recipe.student.lr=0.02", "mixing.kind=cutmix")
    assert tried == typed
    assert create(tried, {}) == create(typed, {})


@pytest.mark.parametrize("given", [None, "mine"])
def test_runs_of_a_study_are_one_group_unless_the_user_has_given_another(run, monkeypatch, given):
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    if given:
        monkeypatch.setenv("WANDB_RUN_GROUP", given)
    groups = []

    def spied(*args):
        groups.append(os.environ.get("WANDB_RUN_GROUP"))
        return create(*args)

    monkeypatch.setattr("infer.pipeline.tune.create", spied)
    run("distill", *WORDS, "tune.trials=1")
    assert groups[-1] == given or groups[-1].startswith("digits-infer-ipc5-")
    assert os.environ.get("WANDB_RUN_GROUP") == given


def test_a_study_goes_on_after_its_journal_was_torn(run, tmp_path, caplog):
    run("distill", *WORDS, "tune.trials=1")
    (journal,) = tmp_path.rglob("study.journal")
    with journal.open("ab") as file:
        file.write(b'{"op_code": 6, "trial')
    found = run("distill", *WORDS, "tune.trials=2")
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 2
    assert f"{journal}: its last line was torn" in caplog.text
