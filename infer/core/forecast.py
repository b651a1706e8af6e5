"""The time left of a whole run: the speed of its pieces of work is learnt from those that are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
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

    Example:
        >>> forecast = Forecast([Piece("teacher a", "a", 1000), Piece("student a", "a", 500)])
        >>> forecast.left("teacher a", share=0.5, seconds=10)
        20.0
        >>> forecast.finish("teacher a", seconds=20)
        >>> forecast.left("student a", share=0.0, seconds=0)
        10.0
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
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

    def left(self, title: str, share: float, seconds: float) -> float | None:
        """Estimate the seconds left of the run.

        Args:
            title: of the piece that is being worked on.
            share: of the piece that is done, 0 to 1.
            seconds: that this share took.

        Returns:
            The seconds; None for a piece that is not of the run, or while no speed is known.
        """
        at = self._position(title)
        if at is None:
            return None
        self._next = at
        piece, speeds = self._pieces[at], dict(self._speeds)
        if share > 0 and seconds > 0:
            speeds[piece.network] = share * piece.images / seconds
        if not speeds:
            return None
        usual = fmean(speeds.values())  # of networks that were not measured yet
        later = sum(each.images / speeds.get(each.network, usual) for each in self._pieces[at + 1 :])
        return (1 - share) * piece.images / speeds.get(piece.network, usual) + later

    def _position(self, title: str) -> int | None:
        """Return the position of the next piece of that title."""
        return next((at for at in range(self._next, len(self._pieces)) if self._pieces[at].title == title), None)


_current: ContextVar[Forecast] = ContextVar("forecast")


@contextmanager
def forecasting(pieces: Sequence[Piece]) -> Iterator[None]:
    """Estimate the time left of the work in the block, which consists of ``pieces``."""
    token = _current.set(Forecast(pieces))
    try:
        yield
    finally:
        _current.reset(token)


def forecast() -> Forecast:
    """Return the forecast of the run; outside :func:`forecasting` one that knows nothing."""
    return _current.get(None) or Forecast([])
