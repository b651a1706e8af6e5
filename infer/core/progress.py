"""Progress of long work: numbered stages, a bar on a terminal, and elsewhere a line now and then.

Nothing is shown unless :func:`reporting` is on: a library call is silent, a command is not.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol, TypeVar

from infer.core.durations import rough
from infer.core.forecast import Forecast, forecast

log = logging.getLogger("infer")
Item = TypeVar("Item")
Loss = Callable[[], float | None]
Tell = Callable[[str, float], None]

_EVERY = 30
"""Seconds between lines."""

_REDRAWN = 0.1
"""Seconds between two drawings of a bar."""

_BAR, _GAPS, _WIDE = 10, 3, 100
"""Columns of a bar, of the spaces around it, and of a terminal that has room for the loss."""

_shown: ContextVar[bool] = ContextVar("shown", default=False)
_stage: ContextVar[list[int]] = ContextVar("stage")
_tell: ContextVar[Tell | None] = ContextVar("tell", default=None)


def rank() -> int:
    """Return the number of this process among those that a launcher started; only the first one reports."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


@contextmanager
def reporting(shown: bool) -> Iterator[None]:
    """Show the progress of everything in the block, or hide it. It is shown on the first process alone.

    Log lines go where the caller's handlers send them; where there is no handler, shown ones go to stdout.
    """
    shown = shown and rank() == 0
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


@contextmanager
def stages(total: int) -> Iterator[None]:
    """Number the stages in the block, of which there are ``total``."""
    token = _stage.set([0, total])
    try:
        yield
    finally:
        _stage.reset(token)


def stages_left(count: int) -> None:
    """Correct the total: ``count`` stages of the block are still to come."""
    counter = _stage.get([])
    if counter:
        counter[1] = counter[0] + count


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
        counter[1] = max(counter)  # a stage may be decided late
        message = f"[{counter[0]}/{counter[1]}] {message}"
    log.info(message, *args)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in ``1 teacher`` and ``3,840 mixed views``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


@contextmanager
def relayed(tell: Tell) -> Iterator[None]:
    """Pass the progress of everything in the block to ``tell``, as titles and the shares that are done, 0 to 1."""
    token = _tell.set(tell)
    try:
        with reporting(True):
            yield
    finally:
        _tell.reset(token)


class Progress(Protocol):
    """What shows, or passes on, how much of a work is done."""

    def update(self, step: int, loss: Loss | None = None) -> None:
        """Report that ``step`` steps are done, earlier ones included."""
        ...

    def close(self) -> None:
        """End the report."""
        ...


class _Timed:
    """The time left of a work.

    Args:
        title: of the work.
        steps: of the whole work.
        first: steps that an earlier process completed.
        run: of the run that the work is a part of; None: that of the context.
        parts: the share of each part that is done, by its title, of a work whose steps are pieces of the run done at
            the same time; None: the work is one piece.
    """

    def __init__(
        self,
        title: str,
        steps: int,
        first: float = 0,
        run: Forecast | None = None,
        parts: Mapping[str, float] | None = None,
    ) -> None:
        self._title, self._steps, self.first, self._parts = title, steps, first, parts
        self._run = run or forecast()
        self._last = self._started = time.perf_counter()

    def _left(self, step: float, now: float) -> tuple[float, float | None]:
        """Return the seconds left of the work and of the whole run, if known; ``step`` is above ``first``."""
        each = (now - self._started) / (step - self.first)
        in_all = self._run.left(self._parts or {self._title: step / self._steps}, each * step)
        return each * (self._steps - step), in_all


class ProgressLines(_Timed):
    """Logs at most one line every half a minute, with the time left of the work and of the whole run."""

    def update(self, step: float, loss: Loss | None = None) -> None:
        """Report that ``step`` steps are done, earlier ones included."""
        now = time.perf_counter()
        if now - self._last > _EVERY and step > self.first:
            self._last = now
            left, in_all = self._left(step, now)
            run = f"; the run: about {rough(in_all)} left" if in_all is not None else ""
            unit = "" if self._parts else "step "
            log.info("%s: %s%d of %d, about %s left%s", self._title, unit, step, self._steps, rough(left), run)

    def hidden(self) -> AbstractContextManager[None]:
        """Return a block in which other lines may be written."""
        return nullcontext()

    def close(self) -> None:
        """Write nothing: lines stay."""


class ProgressBar(_Timed):
    """Draws a bar of one line, with the time left of the work and of the whole run."""

    def __init__(
        self,
        title: str,
        steps: int,
        first: float = 0,
        run: Forecast | None = None,
        parts: Mapping[str, float] | None = None,
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        super().__init__(title, steps, first, run, parts)
        self._last = 0.0
        title_column, facts_column = (
            TextColumn(f"{{task.fields[{name}]}}", markup=False, table_column=Column(no_wrap=True))
            for name in ("title", "facts")
        )
        self._progress = Progress(title_column, BarColumn(_BAR), facts_column, console=Console(), transient=True)
        self._task = self._progress.add_task("", total=steps, title="", facts="")
        self._draw(first, None)
        self._progress.start()

    def update(self, step: float, loss: Loss | None = None) -> None:
        """Draw that ``step`` steps are done, earlier ones included, and the loss where there is room."""
        now = time.perf_counter()
        if now - self._last > _REDRAWN or step == self._steps:
            self._last = now
            self._draw(step, loss)

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar away for the block, in which other lines may be written."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def _draw(self, step: float, loss: Loss | None) -> None:
        from rich.cells import cell_len, set_cell_size

        facts = f"{int(step)}/{self._steps}"
        if step > self.first:
            left, in_all = self._left(step, time.perf_counter())
            facts += f"  {rough(left)} left"
            facts += f" (run: {rough(in_all)})" if in_all is not None else ""
        width = self._progress.console.width
        value = loss() if loss and width >= _WIDE else None  # asked for seldom: a GPU waits for it
        facts += f"  loss {value:.3g}" if value is not None else ""
        room = max(0, min(cell_len(self._title), width - _BAR - len(facts) - _GAPS))
        title = self._title if room == cell_len(self._title) else set_cell_size(self._title, max(0, room - 1)) + "…"
        self._progress.update(self._task, completed=step, title=title, facts=facts)


class _Relayed:
    """Passes the share that is done of a work on, at most every tenth of a second."""

    def __init__(self, tell: Tell, title: str, steps: int, first: int) -> None:
        self._tell, self._title, self._steps, self._last = tell, title, steps, time.perf_counter()
        tell(title, first / steps)

    def update(self, step: int, loss: Loss | None = None) -> None:
        """Pass on that ``step`` steps are done."""
        now = time.perf_counter()
        if now - self._last > _REDRAWN or step == self._steps:
            self._last = now
            self._tell(self._title, step / self._steps)

    def close(self) -> None:
        """Do nothing: the end of the work is reported elsewhere."""


def progress_of(title: str, steps: int, first: int = 0, run: Forecast | None = None) -> Progress:
    """Return the bar of a work on a terminal, and elsewhere its lines; in :func:`relayed` neither."""
    if tell := _tell.get():
        return _Relayed(tell, title, steps, first)
    return (ProgressBar if sys.stdout.isatty() else ProgressLines)(title, steps, first, run)


def track(items: Sequence[Item], title: str) -> Iterator[Item]:
    """Yield each of ``items`` and show how many are done."""
    if not is_shown():
        yield from items
        return
    began = time.perf_counter()
    shown = progress_of(title, len(items))
    try:
        for done, item in enumerate(items, 1):
            yield item
            shown.update(done)
    finally:
        shown.close()
    forecast().finish(title, time.perf_counter() - began)
