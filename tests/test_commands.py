"""The two commands, as people run them: real processes, real kills, real files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, TINY, files

import infer
from infer.cli.schema import SOURCES
from infer.core import files as store
from infer.pipeline import run as runs
from infer.pipeline.run import distill, train

KEYS = {
    "bytes": {"natural", "compensators", "labels", "header", "total", "budget", "file", "real"},
    "images": {"natural_per_class", "compensators", "composed_per_class"},
    "seconds": {"teachers", "distill", "assemble", "students", "total"},
}


def test_a_run_from_pictures_to_the_table(command, tmp_path):
    """The README's first command, in small: the file, the figures, the pictures, and the promise about bytes."""
    done = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5")
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert re.search(r"Recipe of every student: batch \d+, .* mixing \w+; .*\d steps taken", done.stdout)
    folder = tmp_path / "distill" / "digits" / "infer-ipc5" / "seed0"
    result = json.loads((folder / "result.json").read_text())
    for key, parts in KEYS.items():
        assert parts <= set(result[key])
    assert {row["source"] for row in result["students"]} == {"distilled", "random", "random_hard", "real"}
    assert all(row["seeds"] == 2 and 0 <= row["accuracy_mean"] <= 1 for row in result["students"])
    sizes = result["bytes"]
    assert sizes["file"] == (folder / "distilled.safetensors").stat().st_size
    assert sizes["header"] == 8 + int.from_bytes((folder / "distilled.safetensors").read_bytes()[:8], "little")
    stored = sizes["natural"] + sizes["compensators"] + sizes["labels"]
    assert sizes["file"] - sizes["header"] <= 1.01 * stored
    assert sizes["natural"] + sizes["compensators"] <= sizes["budget"]
    for row in result["students"][:3]:
        assert row["bytes"] <= stored
    assert all(row["bytes"] > 0.98 * stored for row in result["students"][1:3])  # rivals get the same bytes
    made = infer.load(folder / "distilled.safetensors")
    assert len(made) == 10 * (result["images"]["natural_per_class"] + result["images"]["composed_per_class"])
    assert {p.name for p in (folder / "images").iterdir()} == {
        "naturals.png",
        "compensators.png",
        "composed.png",
        "round0.png",
    }
    assert "distill/convnet_narrow/loss" in (folder / "metrics.csv").read_text()
    assert not list(tmp_path.rglob("*.ckpt"))

    again = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5")
    assert again.returncode == 0
    assert "finished before" in again.stdout
    other = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5", "recipe.ufc.steps=21")
    assert "finished before" not in other.stdout
    assert len(files(tmp_path)) == 2  # a distinct folder, nothing overwritten


def test_rows_come_to_a_finished_table_and_none_is_trained_again(config, tmp_path):
    words = ["ipc=5", "students.seeds=1"]
    before = distill(config("distill", *words, "students.sources=[random,distilled]"))
    file = files(tmp_path)[0]
    written = file.stat().st_mtime_ns
    shutil.rmtree(file.parent / "students")  # so that no student could be told from the first time
    after = distill(config("distill", *words, "students.sources=[distilled,distilled_hard,random_hard]"))
    assert [row["source"] for row in after["students"]] == ["distilled", "distilled_hard", "random", "random_hard"]
    assert [row for row in after["students"] if row in before["students"]] == before["students"]
    assert {key: after[key] for key in ("bytes", "images", "teachers")} == {
        key: before[key] for key in ("bytes", "images", "teachers")
    }
    assert files(tmp_path) == [file]
    assert file.stat().st_mtime_ns == written
    shown = distill(config("distill", *words, "students.sources=[distilled]"))
    assert shown == after
    plain = distill(config("distill", *words, "students.sources=[distilled_plain,random_plain,random_images,real]"))
    sources = [row["source"] for row in plain["students"]]
    assert sources == [s for s in SOURCES if s != "random_static"]  # labels are static: that row is random's
    assert {"label_robust", "augmentation_robust"} <= set(plain["scores"]["convnet_narrow"])


def test_a_killed_run_goes_on_and_ends_with_the_same_file(tmp_path):
    longer = [
        *TINY,
        "recipe.ufc.steps=400",
        "recipe.student.steps=400",
        "students.seeds=1",
        "ipc=5",
        "distill.rounds=4",
    ]

    def start(output: str) -> subprocess.Popen:
        words = [sys.executable, "distill.py", f"output={tmp_path / output}", *longer]
        return subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background job, and so whatever tests in one, ignores SIGINT; a child inherits that.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    stages = {"teacher.ckpt": signal.SIGINT, "compensators-*.ckpt": signal.SIGKILL, "student.ckpt": signal.SIGKILL}
    for stage, ending in stages.items():
        broken = start("broken")
        deadline = time.time() + 120
        while not list((tmp_path / "broken").rglob(stage)):
            assert broken.poll() is None, broken.communicate()[0]
            assert time.time() < deadline
            time.sleep(0.005)
        os.kill(broken.pid, ending)
        said = broken.communicate()[0]
        assert ending == signal.SIGKILL or "the same command goes on" in said
    for output in ("broken", "whole"):
        said = (run := start(output)).communicate()[0]
        assert run.returncode == 0, said
    broken_file, whole_file = files(tmp_path / "broken")[0], files(tmp_path / "whole")[0]
    assert broken_file.read_bytes() == whole_file.read_bytes()
    results = [json.loads((file.parent / "result.json").read_text()) for file in (broken_file, whole_file)]
    for first, second in zip(*(result["students"] for result in results), strict=True):
        assert first["accuracy_mean"] == second["accuracy_mean"]


def test_students_of_a_file_and_the_baseline(config, tmp_path):
    result = distill(config("distill", "ipc=4"))
    (file,) = files(tmp_path)
    teacher = train(config("train", "backbone=convnet_narrow"))
    assert teacher["accuracy"] == result["teachers"]["convnet_narrow"]["accuracy"]  # the very one, not another
    student = train(config("train", "source=distilled", f"source.path={file}", "backbone=convnet_narrow"))
    assert student["steps"] == 20
    assert student["accuracy"] in [row["accuracy"] for row in seeds(file.parent, "convnet_narrow-distilled")]
    for labels in ("static", "hard"):
        assert train(config("train", "source=random", "ipc=4", f"labels={labels}"))["accuracy"] > 0
    distill(
        config(
            "distill", "ipc=4", "labels=dynamic", "students.seeds=1", "students.sources=[distilled,random,random_hard]"
        )
    )
    (dynamic,) = (path for path in files(tmp_path) if path != file)
    assert train(config("train", "source=distilled", f"source.path={dynamic}"))["steps"] == 10
    for path in tmp_path.rglob("teacher.safetensors"):
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(infer.UserError, match=r"the teacher convnet_narrow .* is missing or another"):
        train(config("train", "source=distilled", f"source.path={dynamic}", "seed=1"))
    other = config("train", "dataset=image_folder", "dataset.root=x", "source=distilled", f"source.path={file}")
    with pytest.raises(infer.UserError, match="no such folder"):
        train(other)
    moved = tmp_path / "moved.safetensors"
    shutil.copy(file, moved)  # the student is of the file, wherever it lies
    again = train(config("train", "source=distilled", f"source.path={moved}", "backbone=convnet_narrow"))
    assert again == student
    header = infer.load(file).header
    others = replace(infer.load(file), header=replace(header, classes=[*header.classes[1:], "ten"]))
    moved.write_bytes(others.to_bytes())
    with pytest.raises(infer.UserError, match=r"has the class 1 where dataset=digits has 0; give the dataset"):
        train(config("train", "source=distilled", f"source.path={moved}"))


def test_what_decides_a_result_names_it(config):
    plain = config("distill", "ipc=4")
    (place, _, settings), (same, _, given) = map(
        runs._ready, (plain, config("distill", "ipc=4", "dataset.mean=[0.1]", "dataset.std=[0.9]"))
    )
    assert place == same
    assert {**settings, "moments": [[pytest.approx(0.1)], [pytest.approx(0.9)]]} == given


def test_a_damaged_file_is_named(tmp_path):
    for name, read in (("result.json", store.read_json), ("u.safetensors", store.read_tensors)):
        (tmp_path / name).write_bytes(b'{"seed": ')
        with pytest.raises(infer.UserError, match=rf"{name}: cannot be read .*; remove it"):
            read(tmp_path / name)


def seeds(folder: Path, student: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "students" / student).rglob("result.json"))]


def test_own_pictures(config, pictures, tmp_path):
    words = ["dataset=image_folder", f"dataset.root={pictures}", "dataset.name=stripes", "dataset.image_size=16"]
    result = distill(config("distill", *words, "recipe.teacher.batch=12", "recipe.teacher.epochs=20", "ipc=2"))
    assert result["bytes"]["real"] == 36 * 3 * 16 * 16
    (file,) = files(tmp_path)
    assert infer.load(file).header.classes == ["flat", "kuro 黒", "ridge"]
    with pytest.raises(infer.UserError, match=r"holds 3 classes of images .* dataset=digits has 10 classes"):
        train(config("train", "source=distilled", f"source.path={file}"))
    with pytest.raises(infer.UserError, match="ipc: asks for 45 train pictures, but there are 36"):
        distill(config("distill", *words, "ipc=20"))


def test_streamed_pictures_give_what_those_in_memory_give(config, pictures):
    words = ["dataset=image_folder", f"dataset.root={pictures}", "dataset.image_size=16", "ipc=2"]
    words += ["recipe.teacher.batch=12", "recipe.teacher.epochs=20", "students.seeds=1", "distill.rounds=1"]
    kept, streamed = (
        distill(config("distill", *words, f"dataset.name={stream}", f"dataset.stream={stream}"))
        for stream in ("false", "true")
    )
    assert kept["teachers"]["convnet_narrow"]["accuracy"] == streamed["teachers"]["convnet_narrow"]["accuracy"]
    for one, other in zip(kept["students"], streamed["students"], strict=True):
        assert one["accuracy_mean"] == other["accuracy_mean"]
