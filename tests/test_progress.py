"""What long work says while it lasts."""

import itertools
import logging
import sys

import pytest

from infer.core import progress


@pytest.fixture
def clock(monkeypatch):
    """Ten seconds pass between two looks at it."""
    ticks = itertools.count(step=10)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(ticks)))


def test_a_line_every_half_a_minute_that_says_what_is_left(clock, caplog):
    with caplog.at_level(logging.INFO, "infer"):
        assert list(progress.shown(range(12), "labels")) == list(range(12))
    assert [record.getMessage() for record in caplog.records] == [
        "labels: step 4 of 12, about 80 s left",
        "labels: step 8 of 12, about 40 s left",
        "labels: step 12 of 12, about 0 s left",
    ]


def test_what_was_done_before_takes_no_time(clock, caplog):
    lines = progress.Lines("student", 1000, 900)
    with caplog.at_level(logging.INFO, "infer"):
        for step in range(901, 905):
            lines.at(step)
    assert [record.getMessage() for record in caplog.records] == ["student: step 904 of 1000, about 960 s left"]


def test_a_bar_on_a_terminal(monkeypatch, caplog, clock):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with caplog.at_level(logging.INFO, "infer"):
        assert list(progress.shown("abc", "letters")) == ["a", "b", "c"]
    assert not caplog.records
