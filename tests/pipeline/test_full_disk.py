"""A run on a disk that is full, or that nobody may write to, ends with one line and goes on where there is room."""

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import files
from kill_runs import differences, finish, state
from small_disks import PAGE, SmallDisk, read_only, small_disk
from tiny_runs import WORDS, begin, require_whole, undisturbed

import infer

# The files that find too little room, one after the other, and the bytes of room. w are the bytes of a network's
# weights; a teacher's checkpoint has two of them and a student's three. The old checkpoint stays until the new one is
# whole.
DISKS = {
    "nothing": {r"settings\.json": lambda w: PAGE, r"teacher\.ckpt": lambda w: 3 * w},
    "a teacher": {
        r"compensators-\w+\.ckpt": lambda w: 6 * PAGE,
        r"images/\w+\.png": lambda w: 20 * PAGE,
        r"distilled\.safetensors": lambda w: 4 * PAGE,
        r"student\.ckpt": lambda w: 5 * w,
    },
}
LIMITS = {
    "nothing": {r"settings\.json": lambda w: 1000, r"teacher\.ckpt": lambda w: w},
    "a teacher": {
        r"compensators-\w+\.ckpt": lambda w: 3000,
        r"distilled\.safetensors": lambda w: 30_000,
        r"student\.ckpt": lambda w: 2 * w,
    },
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


def told(output: Path) -> tuple[int, str]:
    """Run to the end; return the exit status and the one line of the error."""
    process = begin(output)
    printed, _ = process.communicate(timeout=120)
    assert "Traceback" not in printed, printed
    assert printed.count("error: ") <= 1, printed
    return process.returncode, printed.splitlines()[-1]


@pytest.mark.parametrize("begun", DISKS)
def test_a_full_disk_is_one_line_and_the_run_goes_on_with_room(disk, begun):
    whole, ends = undisturbed()
    output = disk.folder / "outputs"
    if begun == "a teacher":
        shutil.copytree(whole / "train", output / "train", ignore=shutil.ignore_patterns("compensators*", "passes*"))
    weights = next(whole.rglob("teacher.safetensors")).stat().st_size
    for name, room in (DISKS if disk.mounted else LIMITS)[begun].items():
        with disk.room(room(weights)):
            status, line = told(output)
        assert status == 2, line
        assert re.match(rf"error: {output}/\S+/{name}: cannot be written \({disk.reason}\); ", line), line
        require_whole(output)
    finish(WORDS, output)
    require_whole(output)
    assert differences(ends, state(output)) == []


def test_each_file_of_a_run_may_find_the_disk_full(run, tmp_path, monkeypatch):
    """The disk is full when a file is written for the first time; there is room when the command is given again."""
    words = [word for word in WORDS[1:] if not word.startswith("trainer=")]
    run("distill", *words, f"output={tmp_path / 'whole'}")
    met: list[Path] = []
    replace = Path.replace

    def full_once(temporary: Path, target: Path) -> Path:
        if target in met:
            return replace(temporary, target)
        met.append(target)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_once)

    def refused() -> str | None:
        try:
            run("distill", *words)
        except infer.UserError as error:
            return str(error)
        return None

    while line := refused():
        assert line.startswith(f"{met[-1]}: cannot be written (No space left on device); ")
        assert len(met) == len({*met}) < 100
        require_whole(tmp_path / "outputs")
    ends = state(tmp_path / "whole")
    assert differences(ends, state(tmp_path / "outputs")) == []
    assert files(tmp_path / "outputs")[0].read_bytes() == files(tmp_path / "whole")[0].read_bytes()
    written = {str(path.relative_to(tmp_path / "outputs")) for path in met}
    assert {name for name in ends if not name.endswith(".lock")} < written  # and checkpoints, which are gone


def test_a_read_only_output_is_one_line_before_any_training(tmp_path):
    (tmp_path / "disk").mkdir()
    with read_only(tmp_path / "disk"):
        process = begin(tmp_path / "disk" / "outputs")
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    *before, line = printed.splitlines()
    assert re.match(rf"error: {tmp_path}/disk/outputs/\S+: .*(Read-only|Permission).*choose another output=$", line), (
        line
    )
    assert not [other for other in before if "raining" in other or "error" in other], printed
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_finished_run_that_nobody_may_write_to_says_so_in_one_line(tmp_path):
    output = tmp_path / "outputs"
    shutil.copytree(undisturbed()[0], output)
    with read_only(output):
        status, line = told(output)
    assert status == 2
    assert re.match(
        rf"error: {output}/\S+: cannot be locked \((Read-only|Permission).*choose another output=$", line
    ), line
    assert "free space" not in line
