"""What a run says at its end: where its files are, and how to use them."""

import shlex
import sys
from pathlib import Path

import pytest

from infer.pipeline.next_steps import after_distilling, after_logging

ROWS = [
    {"backbone": "mine", "steps": 30, "source": "real"},
    {"backbone": "resnet18", "steps": 20, "source": "distilled", "weights": ["a b/seed0/student.safetensors", "c"]},
]
RESULT = {"labels": "static", "bytes": {"file": 12345}, "students": ROWS}


def lines(folder: Path, result: dict = RESULT, loggers: tuple = ()) -> list[str]:
    return after_distilling(result, folder, folder / "distilled.safetensors", loggers)


def test_the_file_the_report_and_a_snippet_are_named(tmp_path):
    assert lines(tmp_path) == [
        f"File:      {tmp_path}/distilled.safetensors (12,345 B)",
        f"Datasheet: {tmp_path}/datasheet.md",
        f"Figures:   {tmp_path}/result.json",
        f"Pictures:  {tmp_path}/images",
        "To classify a folder: infer-predict 'a b/seed0' FOLDER",
        "To use it in Python:",
        "    import infer",
        f"    small = infer.load('{tmp_path}/distilled.safetensors')",
        "    student = infer.train_student(small, 'resnet18', steps=20)",
    ]
    (tmp_path / "report.html").touch()
    assert f"Report:    {tmp_path}/report.html" in lines(tmp_path)


def test_a_run_without_students_of_its_file_names_none(tmp_path):
    assert not [line for line in lines(tmp_path, {**RESULT, "students": ROWS[:1]}) if "infer-predict" in line]


def test_a_frozen_network_is_trained_without_steps(tmp_path):
    rows = [{**row, "backbone": "resnet18", "steps": 0} for row in ROWS]
    assert lines(tmp_path, {**RESULT, "students": rows})[-1].endswith("infer.train_student(small, 'resnet18')")


def test_the_recommended_file_has_its_command_where_it_is_another(tmp_path):
    found = {"pictures": 680, "bytes": 900, "budget": 1000, "within": 0.022, "command": "python distill.py ipc=1"}
    told = "Learning curve: 680 stored pictures lose 2.2 points against all of them (900 B)"
    given = {**RESULT, "recommended": found}
    assert f"{told}; they are those of this file" in lines(tmp_path, {**given, "bytes": {"file": 1, "budget": 1000}})
    other = lines(tmp_path, {**given, "bytes": {"file": 1, "budget": 2000}})
    at = other.index(f"{told}; the command:")
    assert other[at + 1] == "    python distill.py ipc=1"


def test_a_set_without_labels_of_its_own_is_used_by_train(tmp_path, monkeypatch):
    """Its labels come from the teachers; Python's train_student has none."""
    monkeypatch.setattr(sys, "argv", ["distill.py"])
    folder = tmp_path / "a b"
    *_, last = lines(folder, {**RESULT, "labels": "dynamic"})
    assert last.startswith("To use it: python train.py source=distilled source.path=")
    words = shlex.split(last.removeprefix("To use it: ").partition(", with")[0])
    assert words[-1] == f"source.path={folder}/distilled.safetensors"


@pytest.mark.parametrize("name", ["plain", "a b"])
def test_loggers_say_how_to_see_what_they_wrote(tmp_path, name):
    folder = tmp_path / name
    (folder / "wandb" / "offline-run-1").mkdir(parents=True)
    board, cloud = after_logging(folder, ("tensorboard", "wandb"))
    assert shlex.split(board.partition("see them: ")[2]) == ["tensorboard", "--logdir", str(folder / "tensorboard")]
    assert shlex.split(cloud.partition("upload them: ")[2]) == ["wandb", "sync", f"{folder}/wandb/offline-run-*"]
    (folder / "wandb" / "offline-run-1").rmdir()
    assert after_logging(folder, ("wandb",)) == [f"Logs:      {folder}/wandb; uploaded"]
    assert after_logging(folder, ()) == []
