"""The progress of several trainings at the same time."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from infer.core.forecast import forecast
from infer.core.progress import ProgressBar, ProgressLines


class Together:
    """The progress of trainings at the same time: one bar, or lines, of how many are done and of the time left.

    Args:
        titles: of the trainings, in the order of the pieces of the run.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._shares = dict.fromkeys(titles, 0.0)
        self._began: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._started = time.perf_counter()
        kind = ProgressBar if sys.stdout.isatty() else ProgressLines
        self._shown = kind("trainings side by side", len(titles), parts=self._shares)

    def update(self, title: str, share: float) -> None:
        """Show that the ``share`` of a training is done. What it has at first, an earlier process did.

        Work of another title, which is a part of a training, is not shown.
        """
        if title not in self._shares:
            return
        if title not in self._began:
            self._began[title] = time.perf_counter()
            self._shown.first += share
        self._shares[title] = share
        self._shown.update(sum(self._shares.values()))

    def finish(self, title: str) -> None:
        """Show that a training is done."""
        self.update(title, 1.0)
        self._seconds[title] = time.perf_counter() - self._began[title]

    def hidden(self) -> AbstractContextManager[None]:
        """Return a block in which other lines may be written."""
        return self._shown.hidden()

    def close(self) -> None:
        """End the display; the run learns the speeds, of which each training had its part."""
        self._shown.close()
        spent = sum(self._seconds.values())
        at_once = spent / (time.perf_counter() - self._started) if spent else 1.0
        for title in filter(self._seconds.get, self._shares):  # in the order of the pieces
            forecast().finish(title, self._seconds[title] / at_once)
