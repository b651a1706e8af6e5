"""The two commands, as people run them: real processes, real kills, real files."""

import json
import os
import re
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import TINY, await_file, files

import infer

KEYS = {
    "bytes": {"natural", "compensators", "labels", "header", "total", "budget", "file", "real"},
    "images": {"natural_per_class", "compensators", "composed_per_class"},
    "seconds": {"teachers", "distill", "assemble", "students", "total"},
}


def use_as_told(output: str, folder: Path) -> None:
    """Do what the last lines of a run say."""
    place, snippet = output.partition("File: ")[2].split("To use it in Python:\n")
    assert place.split()[0] == str(folder / "distilled.safetensors")
    assert f"Figures:   {folder}/result.json\n" in place
    lines = [line.removeprefix("    ") for line in snippet.splitlines()]
    assert len(lines) == 3
    names: dict = {}
    exec("\n".join(lines), names)
    assert names["student"](names["small"].naturals[:4]).shape == (4, 10)


def test_a_run_from_pictures_to_the_table(command, tmp_path):
    """The README's first command, in small: the file, the figures, the pictures, and the promise about bytes."""
    done = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5")
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert re.search(r"Recipe of every student: batch \d+, .* mixing \w+; .*\d steps taken", done.stdout)
    stages = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert stages == [
        "[1/4] Training 1 teacher (convnet_narrow)",
        "[2/4] Optimising 4 compensators per teacher (convnet_narrow), 10 images each",
        "[3/4] Labelling 80 images with 1 teacher",
        "[4/4] Training 8 students",
    ]
    folder = tmp_path / "distill" / "digits" / "infer-ipc5" / "seed0"
    use_as_told(done.stdout, folder)
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
    assert all(row["bytes"] > 0.98 * stored for row in result["students"][1:3])  # baselines get the same bytes
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
    assert f"finished before: {folder}\n" in again.stdout
    other = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5", "recipe.ufc.steps=21")
    assert "finished before" not in other.stdout
    assert len(files(tmp_path)) == 2  # a distinct folder, nothing overwritten
    (place,) = (file.parent for file in files(tmp_path) if file.parent != folder)
    assert re.fullmatch("seed0-[0-9a-f]{16}", place.name)
    moved = [line for line in other.stdout.splitlines() if "other settings" in line]
    assert moved == [f"{folder} holds a run with other settings; this one writes to {place}"]


def test_a_killed_run_goes_on_and_ends_with_the_same_file(start, tmp_path):
    words = [*TINY, "recipe.ufc.steps=400", "recipe.student.steps=400", "students.seeds=1", "ipc=5", "distill.rounds=4"]

    def begin(output: str):
        # A shell's background job, and so the tests in one, ignore SIGINT; a child inherits that.
        listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return start("distill.py", f"output={tmp_path / output}", *words, preexec_fn=listening)

    stages = {"teacher.ckpt": signal.SIGINT, "compensators-*.ckpt": signal.SIGKILL, "student.ckpt": signal.SIGKILL}
    for stage, ending in stages.items():
        broken = begin("broken")
        await_file(broken, tmp_path / "broken", stage)
        os.kill(broken.pid, ending)
        output = broken.communicate()[0]
        assert ending == signal.SIGKILL or "the same command goes on" in output
    for name in ("broken", "whole"):
        output = (process := begin(name)).communicate()[0]
        assert process.returncode == 0, output
    broken_file, whole_file = files(tmp_path / "broken")[0], files(tmp_path / "whole")[0]
    assert broken_file.read_bytes() == whole_file.read_bytes()
    results = [json.loads((file.parent / "result.json").read_text()) for file in (broken_file, whole_file)]
    for first, second in zip(*(result["students"] for result in results), strict=True):
        assert first["accuracy_mean"] == second["accuracy_mean"]


def student_results(folder: Path, student: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "students" / student).rglob("result.json"))]


def test_students_of_a_file_and_of_random_pictures(run, tmp_path):
    result = run("distill", "ipc=4")
    (file,) = files(tmp_path)
    teacher = run("train", "backbone=convnet_narrow")
    assert teacher["accuracy"] == result["teachers"]["convnet_narrow"]["accuracy"]  # the same one, not another
    student = run("train", "source=distilled", f"source.path={file}", "backbone=convnet_narrow")
    assert student["steps"] == 20
    known = student_results(file.parent, "convnet_narrow-distilled")
    assert student["accuracy"] in [row["accuracy"] for row in known]
    for labels in ("static", "hard"):
        assert run("train", "source=random", "ipc=4", f"labels={labels}")["accuracy"] > 0
    short = ["students.seeds=1", "students.sources=[distilled,random,random_hard]"]
    run("distill", "ipc=4", "labels=dynamic", *short)
    (dynamic,) = (path for path in files(tmp_path) if path != file)
    assert run("train", "source=distilled", f"source.path={dynamic}")["steps"] == 10
    for path in tmp_path.rglob("teacher.safetensors"):
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(infer.UserError, match=r"the teacher convnet_narrow .* is missing or another"):
        run("train", "source=distilled", f"source.path={dynamic}", "seed=1")
    with pytest.raises(infer.UserError, match="no such folder"):
        run("train", "dataset=image_folder", "dataset.root=x", "source=distilled", f"source.path={file}")
    moved = tmp_path / "moved.safetensors"
    shutil.copy(file, moved)  # the student is of the file, wherever it lies
    again = run("train", "source=distilled", f"source.path={moved}", "backbone=convnet_narrow")
    assert again == student
    header = infer.load(file).header
    others = replace(infer.load(file), header=replace(header, classes=[*header.classes[1:], "ten"]))
    moved.write_bytes(others.to_bytes())
    with pytest.raises(infer.UserError, match=r"has the class 1 where dataset=digits has 0; give the dataset"):
        run("train", "source=distilled", f"source.path={moved}")


def test_a_folder_of_ones_own_pictures(run, pictures, tmp_path):
    words = ["dataset=image_folder", f"dataset.root={pictures}", "dataset.name=stripes", "dataset.image_size=16"]
    result = run("distill", *words, "recipe.teacher.batch=12", "recipe.teacher.epochs=20", "ipc=2")
    assert result["bytes"]["real"] == 36 * 3 * 16 * 16
    (file,) = files(tmp_path)
    assert infer.load(file).header.classes == ["flat", "kuro 黒", "ridge"]
    with pytest.raises(infer.UserError, match=r"holds 3 classes of images .* dataset=digits has 10 classes"):
        run("train", "source=distilled", f"source.path={file}")
    with pytest.raises(infer.UserError, match=r"ipc=20: asks for 60 images, .* but there are 36 train pictures"):
        run("distill", *words, "ipc=20")


def test_streamed_pictures_give_what_those_in_memory_give(run, pictures):
    words = ["dataset=image_folder", f"dataset.root={pictures}", "dataset.image_size=16", "ipc=2"]
    words += ["recipe.teacher.batch=12", "recipe.teacher.epochs=20", "students.seeds=1", "distill.rounds=1"]
    kept, streamed = (
        run("distill", *words, f"dataset.name={stream}", f"dataset.stream={stream}") for stream in ("false", "true")
    )
    assert kept["teachers"]["convnet_narrow"]["accuracy"] == streamed["teachers"]["convnet_narrow"]["accuracy"]
    for one, other in zip(kept["students"], streamed["students"], strict=True):
        assert one["accuracy_mean"] == other["accuracy_mean"]
