"""Progress of long work: lines, bars, numbered stages, and silence."""

import itertools
import logging
import sys

import pytest

from infer.core import progress


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
    assert messages(caplog) == ["student: step 904 of 1000, about 960 s left"]


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
