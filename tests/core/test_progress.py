"""Progress of long work: lines, bars, numbered stages, and silence."""

import itertools
import logging
import os
import re
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from rich.cells import cell_len

from infer.core import progress
from infer.core.forecast import Forecast, Piece, forecast, forecasting
from infer.core.together import Together


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances ten seconds between two readings."""
    ticks = itertools.count(step=10)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(ticks)))


def messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_line_every_half_a_minute_gives_the_time_left(clock, caplog):
    with caplog.at_level(logging.INFO, "infer"), progress.reporting(True):
        assert list(progress.track(range(12), "labels")) == list(range(12))
    assert messages(caplog) == [
        "labels: step 4 of 12, about 80 s left",
        "labels: step 8 of 12, about 40 s left",
        "labels: step 12 of 12, about 0 s left",
    ]


def test_steps_of_an_earlier_process_take_no_time(clock, caplog):
    lines = progress.ProgressLines("student", 1000, 900)
    with caplog.at_level(logging.INFO, "infer"):
        for step in range(901, 905):
            lines.update(step)
    assert messages(caplog) == ["student: step 904 of 1000, about 16 min left"]


def test_a_terminal_shows_a_bar(monkeypatch, caplog, clock):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO, "infer"), progress.reporting(True):
        assert list(progress.track("abc", "letters")) == ["a", "b", "c"]
    assert not caplog.records


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_shown_unless_asked_for(monkeypatch, caplog, capsys, clock, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    with caplog.at_level(logging.INFO, "infer"):
        assert list(progress.track(range(12), "labels")) == list(range(12))
        with progress.reporting(True), progress.reporting(False):
            assert list(progress.track(range(12), "labels")) == list(range(12))
    assert not caplog.records
    assert capsys.readouterr().out == ""
    assert not progress.is_shown()


def test_stages_are_numbered_within_their_block(caplog):
    with caplog.at_level(logging.INFO, "infer"):
        with progress.stages(2):
            progress.stage("Training %s", "a")
            with progress.unnumbered():
                progress.stage("Part of it")
            progress.stage("Labelling")
        progress.stage("Outside")
    assert messages(caplog) == ["[1/2] Training a", "Part of it", "[2/2] Labelling", "Outside"]


def test_the_number_of_stages_can_change_on_the_way(caplog):
    with caplog.at_level(logging.INFO, "infer"), progress.stages(9):
        progress.stage("Choosing")
        progress.stages_left(1)
        with progress.unnumbered():
            progress.stages_left(5)
        progress.stage("Labelling")
        progress.stage("A curve that there was time for")
    assert messages(caplog) == ["[1/9] Choosing", "[2/2] Labelling", "[3/3] A curve that there was time for"]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_the_first_of_several_processes_shows_progress_alone(monkeypatch, caplog, capsys, clock, terminal, variable):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv(variable, "1")
    with caplog.at_level(logging.INFO, "infer"), progress.reporting(True):
        assert not progress.is_shown()
        assert list(progress.track(range(12), "labels")) == list(range(12))
    assert not caplog.records
    assert capsys.readouterr().out == ""
    monkeypatch.setenv(variable, "0")
    with progress.reporting(True):
        assert progress.is_shown()


RUN = [Piece("teacher a", "a", 1000), Piece("teacher b", "b", 1000), Piece("student a", "a", 400)]


def test_the_time_left_of_a_run_follows_from_the_pieces_that_are_done():
    run = Forecast([*RUN, Piece("student a", "a", 400)])
    assert run.left({"teacher a": 0}, 0) is None  # no speed is known
    assert run.left({"teacher a": 0.5}, 10) == pytest.approx(10 + 20 + 8 + 8)
    run.finish("teacher a", 20)  # 50 images a second
    assert run.left({"teacher b": 0.25}, 10) == pytest.approx(30 + 8 + 8)
    run.finish("teacher b", 40)
    assert run.left({"student a": 0}, 0) == pytest.approx(16)
    run.finish("student a", 8)
    assert run.left({"student a": 0.5}, 4) == pytest.approx(4)  # the second of that title
    assert run.left({"labels of another set": 0.5}, 1) is None


def test_the_time_left_of_pieces_at_the_same_time_follows_from_all_of_them():
    run = Forecast([*RUN, Piece("student b", "b", 400)])
    both = {"teacher a": 0.5, "teacher b": 0.25}
    assert run.left({**both, "teacher a": 0, "teacher b": 0}, 0) is None
    # 750 of 2,000 images in 10 seconds, of networks that are taken to be equally fast at first
    assert run.left(both, 10) == pytest.approx((1250 + 800) / 75)
    run.finish("teacher a", 20)
    run.finish("teacher b", 40)  # 50 and 25 images a second
    assert run.left({"student a": 0.5, "student b": 0.5}, 6) == pytest.approx(6)
    assert run.left({"student a": 0.5, "labels": 0.5}, 6) is None


def test_pieces_that_are_planned_again_keep_the_speeds():
    run = Forecast([*RUN, Piece("student a", "a", 400)])
    run.finish("teacher a", 20)
    run.replan([Piece("labels", "labels", 100), Piece("student a", "a", 500)])
    assert run.left({"labels": 0}, 0) == pytest.approx(2 + 10)
    run.finish("labels", 100)
    assert run.left({"student a": 0}, 0) == pytest.approx(10)  # labels have a speed of their own


def test_pieces_that_are_found_done_take_no_time():
    run = Forecast(RUN)
    assert run.left({"student a": 0.5}, 10) == pytest.approx(10)
    assert run.left({"teacher a": 0.5}, 10) is None  # before it


def test_a_run_with_a_time_has_what_is_left_of_it():
    run = Forecast(RUN, ends=time.perf_counter() + 100)
    assert run.left({"teacher a": 0}, 0) == pytest.approx(100, abs=5)
    assert run.left({"student a": 0.5}, 1e6) == pytest.approx(100, abs=5)
    assert Forecast(RUN, ends=time.perf_counter() - 1).left({"student a": 0.5}, 10) == 0


def test_lines_give_the_time_left_of_the_run(clock, caplog):
    with caplog.at_level(logging.INFO, "infer"), progress.reporting(True), forecasting(RUN):
        assert len(list(progress.track(range(4), "teacher a"))) == 4
        assert len(list(progress.track(range(4), "teacher b"))) == 4
    assert messages(caplog) == [
        "teacher a: step 4 of 4, about 0 s left; the run: about 56 s left",
        "teacher b: step 4 of 4, about 0 s left; the run: about 24 s left",
    ]


def test_trainings_at_the_same_time_have_one_display(clock, caplog):
    with caplog.at_level(logging.INFO, "infer"), progress.reporting(True), forecasting(RUN):
        shown = Together(["teacher a", "teacher b"])
        shown.update("teacher b", 0.5)  # an earlier process did it
        shown.update("labels", 0.5)  # a part of one of them
        shown.update("teacher a", 0.0)
        shown.update("teacher a", 0.5)  # 50 s after the begin of the lines
        shown.finish("teacher a")
        shown.close()  # 90 s after its own
        left = forecast().left({"student a": 0}, 0)
    assert messages(caplog) == [
        "trainings side by side: 1 of 2, about 2 min left; the run: about 2 min left",
    ]
    assert left == pytest.approx(400 / 1000 * 90)  # in which the teacher was the only one that ended


BAR = """
import sys, time
from infer.core import progress
from infer.core.forecast import Piece, forecasting
title = sys.argv[1]
with progress.reporting(True), forecasting([Piece(title, "a", 1e9), Piece("student a", "a", 1e15)]):
    shown = progress.progress_of(title, 123456)
    for step in (100, 20000, 123456):
        time.sleep(0.15)
        shown.update(step, lambda: 0.123456)
    shown.close()
print("ended")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize("title", ["teacher a", "student " + "convnet_narrow-" * 12, "教師 " + "写真" * 60])
@pytest.mark.parametrize("columns", [40, 80, 110])
def test_a_bar_keeps_to_one_line(columns, title):
    import pty

    reading, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": "24", "TERM": "xterm", "PYTHONUTF8": "1"}
    subprocess.run(
        [sys.executable, "-c", BAR, title], cwd=ROOT, stdout=terminal, env=environment, check=True, timeout=60
    )
    os.close(terminal)
    found = b""
    while chunk := _read(reading):
        found += chunk
    drawn, _, after = found.decode().rpartition("ended")
    assert after.strip() == ""
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", drawn)]
    bars = [line for line in lines if line.strip()]
    assert len(bars) >= 3
    assert all("━" in line and "123456" in line for line in bars if columns >= 80)
    assert all(cell_len(line) <= columns for line in bars)
    assert drawn.count("\x1b[1A") <= 1  # where the bar is taken away
    assert columns < 80 or any("left (run: " in line for line in bars)
    assert any("loss 0.123" in line for line in bars) == (columns >= 100)


STOPPED = """
import os, signal, sys
import numpy as np, torch
import infer
import infer.core.progress
from infer.models.teacher import TeacherModule
from infer.training.options import TrainerOptions
steps = TeacherModule.training_step
def stopped(module, *given):
    if module.trainer.global_step == 2:
        os.kill(os.getpid(), signal.SIGINT) if sys.argv[1] == "Ctrl-C" else exec("raise ValueError('a mistake')")
    return steps(module, *given)
TeacherModule.training_step = stopped
images, labels = np.zeros((64, 1, 8, 8), np.uint8), np.arange(64) % 4
data = infer.Splits.from_arrays(images, labels, images, labels)
options = TrainerOptions(accelerator="cpu")
try:
    infer.train_teachers(data, ["convnet_narrow"], epochs=9, trainer=options, progress=True)
except (KeyboardInterrupt, ValueError) as error:
    print("ended by", type(error).__name__)
    assert infer.core.progress.is_shown() is False
    os._exit(0)  # before anything cleans up
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
@pytest.mark.parametrize(("why", "error"), [("Ctrl-C", "KeyboardInterrupt"), ("a mistake", "ValueError")])
def test_a_bar_that_is_stopped_gives_the_cursor_back(why, error):
    import pty

    reading, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm", "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-c", STOPPED, why]
    subprocess.run(words, cwd=ROOT, stdout=terminal, env=environment, check=True, timeout=100)
    os.close(terminal)
    found = b""
    while chunk := _read(reading):
        found += chunk
    drawn, ended, _ = found.decode().partition(f"ended by {error}")
    assert ended, drawn
    assert drawn.count("\x1b[?25l") == drawn.count("\x1b[?25h") == 1


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # of a terminal that nobody writes to any more
        return b""
