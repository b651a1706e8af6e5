"""Processes with the same command and the same output folder: one works, the others wait, and all end alike."""

import os
import signal
import subprocess

from conftest import await_file
from kill_runs import differences, state
from tiny_runs import begin, require_whole, undisturbed

TRAINS = "Training teacher convnet_narrow ("
WAITS = "another process is working on it; waiting"
FOUND = "finished before: "


def printed_until(process: subprocess.Popen, text: str) -> str:
    """Read what a process prints up to a line with ``text``."""
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(printed)


def test_three_processes_that_start_together_end_alike(tmp_path):
    _, ends = undisturbed()
    processes = [begin(tmp_path / "outputs") for _ in range(3)]
    printed = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], printed
    for stage in (TRAINS, "Optimising", "Labelling", "Training 1 student"):
        assert sum(text.count(stage) for text in printed) == 1, stage
    assert sorted(FOUND in text for text in printed) == [False, True, True]
    require_whole(tmp_path / "outputs")
    assert differences(ends, state(tmp_path / "outputs")) == []


def test_a_process_that_waits_takes_over_from_one_that_is_killed(tmp_path):
    _, ends = undisturbed()
    holder = begin(tmp_path / "outputs")
    printed_until(holder, TRAINS)
    await_file(holder, tmp_path, "teacher.ckpt", seconds=60)
    os.killpg(holder.pid, signal.SIGSTOP)  # it holds its locks, and comes no further
    waiting = begin(tmp_path / "outputs")
    printed_until(waiting, WAITS)
    os.killpg(holder.pid, signal.SIGKILL)
    holder.communicate()
    printed, _ = waiting.communicate(timeout=240)
    assert waiting.returncode == 0, printed
    assert FOUND not in printed
    require_whole(tmp_path / "outputs")
    assert differences(ends, state(tmp_path / "outputs")) == []
