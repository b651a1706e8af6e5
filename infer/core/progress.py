"""Progress of long work: numbered stages, a bar on a terminal, and elsewhere a line now and then.

Nothing is shown unless :func:`reporting` is on: a library call is silent, a command is not.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

log = logging.getLogger("infer")
Item = TypeVar("Item")

_EVERY = 30
"""Seconds between lines."""

_shown: ContextVar[bool] = ContextVar("shown", default=False)
_stage: ContextVar[list[int]] = ContextVar("stage")


@contextmanager
def reporting(shown: bool) -> Iterator[None]:
    """Show the progress of everything in the block, or hide it.

    Log lines go where the caller's handlers send them; where there is no handler, shown ones go to stdout.
    """
    token, level = _shown.set(shown), log.level
    handler = logging.StreamHandler(sys.stdout) if shown and not log.hasHandlers() else None
    if handler:
        log.addHandler(handler)
    if shown and level == logging.NOTSET and not log.isEnabledFor(logging.INFO):
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _shown.reset(token)
        if handler:
            log.removeHandler(handler)
        log.setLevel(level)


def is_shown() -> bool:
    """Return whether progress is shown."""
    return _shown.get()


def on_terminal() -> bool:
    """Return whether progress is shown as bars."""
    return _shown.get() and sys.stdout.isatty()


@contextmanager
def stages(total: int) -> Iterator[None]:
    """Number the stages in the block, of which there are ``total``."""
    token = _stage.set([0, total])
    try:
        yield
    finally:
        _stage.reset(token)


@contextmanager
def unnumbered() -> Iterator[None]:
    """Log the stages in the block without a number: they belong to a larger stage."""
    token = _stage.set([])
    try:
        yield
    finally:
        _stage.reset(token)


def stage(message: str, *args: object) -> None:
    """Log that the next stage begins, as in ``[3/6] Labelling 3,840 mixed views with 3 teachers``."""
    counter = _stage.get([])
    if counter:
        counter[0] += 1
        message = f"[{counter[0]}/{counter[1]}] {message}"
    log.info(message, *args)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in ``1 teacher`` and ``3,840 mixed views``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


class ProgressLines:
    """Logs at most one line every half a minute, with the time left.

    Args:
        title: of the work.
        steps: of the whole work.
        first: steps that an earlier process completed.
    """

    def __init__(self, title: str, steps: int, first: int = 0) -> None:
        self._title, self._steps, self._first = title, steps, first
        self._last = self._started = time.perf_counter()

    def update(self, step: int) -> None:
        """Report that ``step`` steps are done, earlier ones included."""
        now = time.perf_counter()
        if now - self._last > _EVERY:
            self._last = now
            left = (now - self._started) / (step - self._first) * (self._steps - step)
            log.info("%s: step %d of %d, about %d s left", self._title, step, self._steps, left)


def track(items: Sequence[Item], title: str) -> Iterator[Item]:
    """Yield each of ``items`` and show how many are done."""
    if on_terminal():
        from rich.progress import track as bar

        yield from bar(items, title, transient=True)
        return
    lines = ProgressLines(title, len(items)) if is_shown() else None
    for done, item in enumerate(items, 1):
        yield item
        if lines:
            lines.update(done)
