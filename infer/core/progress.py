"""How far long work has come: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.progress import track

log = logging.getLogger("infer")
Item = TypeVar("Item")

_EVERY = 30  # seconds between lines


class Lines:
    """``what`` has ``steps``, of which ``first`` were done before: at most a line every half a minute."""

    def __init__(self, what: str, steps: int, first: int = 0) -> None:
        self._what, self._steps, self._first = what, steps, first
        self._last = self._started = time.perf_counter()

    def at(self, step: int) -> None:
        """So many are done, those before counted."""
        now = time.perf_counter()
        if now - self._last > _EVERY:
            self._last = now
            left = (now - self._started) / (step - self._first) * (self._steps - step)
            log.info("%s: step %d of %d, about %d s left", self._what, step, self._steps, left)


def shown(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Each of ``items`` in turn, a step of ``what`` each."""
    if sys.stdout.isatty():
        yield from track(items, what, transient=True)
        return
    lines = Lines(what, len(items))
    for done, item in enumerate(items, 1):
        yield item
        lines.at(done)
