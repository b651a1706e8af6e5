"""The time left of a whole run: the speed of its pieces of work is learnt from those that are done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain, repeat
from operator import mul
from statistics import fmean
from typing import NamedTuple


class Piece(NamedTuple):
    """A piece of the work of a run.

    Attributes:
        title: The title of its progress, such as ``teacher resnet18``.
        network: What takes the time, such as a network: pieces with the same one are taken to have one speed.
        images: Images that pass through the network, forward and backward.
    """

    title: str
    network: str
    images: float


class Forecast:
    """Estimates the time left of the pieces of a run.

    Pieces come in their order. A piece that is found done on disk is never begun: with a later one it counts as over.

    Args:
        pieces: of the run, in the order in which they are worked on.
        ends: when the run ends, of time.perf_counter(), where that is decided; None: the pieces tell.

    Example:
        >>> forecast = Forecast([Piece("teacher a", "a", 1000), Piece("student a", "a", 500)])
        >>> forecast.left({"teacher a": 0.5}, seconds=10)
        20.0
        >>> forecast.finish("teacher a", seconds=20)
        >>> forecast.left({"student a": 0.0}, seconds=0)
        10.0
    """

    def __init__(self, pieces: Sequence[Piece], ends: float | None = None) -> None:
        self._pieces, self._ends = pieces, ends
        self._next = 0
        self._speeds: dict[str, float] = {}

    def finish(self, title: str, seconds: float) -> None:
        """Learn the speed of a piece that took ``seconds``."""
        at = self._position(title)
        if at is not None:
            self._next = at + 1
            if seconds > 0:
                self._speeds[self._pieces[at].network] = self._pieces[at].images / seconds

    def replan(self, pieces: Sequence[Piece]) -> None:
        """Set the pieces that are still to come; the speeds that were learnt stay."""
        self._pieces, self._next = pieces, 0

    def left(self, shares: Mapping[str, float], seconds: float) -> float | None:
        """Estimate the seconds left of the run.

        Args:
            shares: of the pieces that are being worked on, at the same time where there are several: the part of each
                that is done, 0 to 1, by its title.
            seconds: that these parts took.

        Returns:
            The seconds; None for a piece that is not of the run, or while no speed is known.
        """
        if self._ends is not None:
            return max(0.0, self._ends - time.perf_counter())
        places = [self._position(title) for title in shares]
        if None in places:
            return None
        at = [place for place in places if place is not None]
        self._next = min(at)
        pieces, speeds = [self._pieces[place] for place in at], dict(self._speeds)
        usual = fmean(speeds.values()) if speeds else 1.0  # of networks that were not measured yet
        work = [_time(piece, speeds, usual) for piece in pieces]
        done = sum(map(mul, shares.values(), work))
        if done > 0 and seconds > 0:
            speeds |= {piece.network: speeds.get(piece.network, usual) * done / seconds for piece in pieces}
        if not speeds:
            return None
        usual = fmean(speeds.values())
        later = self._pieces[max(at) + 1 :]
        parts = chain(zip([1 - share for share in shares.values()], pieces, strict=True), zip(repeat(1.0), later))
        return sum(part * _time(piece, speeds, usual) for part, piece in parts)

    def _position(self, title: str) -> int | None:
        """Return the position of the next piece of that title."""
        return next((at for at in range(self._next, len(self._pieces)) if self._pieces[at].title == title), None)


def _time(piece: Piece, speeds: Mapping[str, float], usual: float) -> float:
    """Return the seconds of a whole piece at the speed of its network, or at the ``usual`` one."""
    return piece.images / speeds.get(piece.network, usual)


_current: ContextVar[Forecast] = ContextVar("forecast")


@contextmanager
def forecasting(pieces: Sequence[Piece], ends: float | None = None) -> Iterator[None]:
    """Estimate the time left of the work in the block: of its ``pieces``, or until its end where that is decided."""
    token = _current.set(Forecast(pieces, ends))
    try:
        yield
    finally:
        _current.reset(token)


def forecast() -> Forecast:
    """Return the forecast of the run; outside :func:`forecasting` one that knows nothing."""
    return _current.get(None) or Forecast([])
