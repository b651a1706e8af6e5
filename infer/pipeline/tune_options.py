"""Options of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from infer.core.checks import Range
from infer.core.durations import check_duration, seconds
from infer.core.errors import UserError, shown

_RANGE = ("low", "high", "log")
_LARGEST = 2**53
"""Largest number of a range."""


@dataclass  # not frozen: OmegaConf cannot fill an optional frozen node
class TuneOptions:
    """A study of settings on held-out pictures.

    Args:
        trials: of the study, over all processes and restarts.
        timeout: such as 30m, of one process; None: none.
        storage: URL of a database; None keeps a journal in the study's folder.
        validation: share of the train pictures that trials are measured on.
        objectives: [accuracy], or [accuracy, bytes].
        max_bytes: of the file; a larger trial is never the best.
        prune: end trials whose first student lags behind.
        seed: of the sampler.
        space: by the key of a setting its range {low, high, log}, or the list of its values.
    """

    trials: Annotated[int, Range(1, 10**6)] = 20
    timeout: str | None = None
    storage: str | None = None
    validation: Annotated[float, Range(0.01, 0.9)] = 0.1
    objectives: list[str] = field(default_factory=lambda: ["accuracy"])
    max_bytes: Annotated[int | None, Range(1, 2**62)] = None
    prune: bool = True
    seed: Annotated[int, Range(0, 2**31)] = 0
    space: dict[str, Any] = field(default_factory=dict)

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` for values that make no study."""
        check_duration(f"{at}timeout", self.timeout)
        if self.objectives not in (["accuracy"], ["accuracy", "bytes"]):
            raise UserError(f"{at}objectives={shown(self.objectives)}: choose [accuracy] or [accuracy,bytes]")
        if self.prune and len(self.objectives) > 1:
            raise UserError(f"{at}prune=true: trials can end early only for a single objective; give {at}prune=false")
        if not self.dimensions:
            raise UserError(f"{at}space: nothing is open in it; give a setting's range, as in conf/tune/default.yaml")
        for key, space in self.dimensions.items():
            _check_dimension(f"{at}space.{key}", space)

    @property
    def seconds(self) -> float | None:
        """The timeout in seconds; None where there is none."""
        return seconds(self.timeout)

    @property
    def dimensions(self) -> dict[str, Any]:
        """For each open key, such as ``recipe.ufc.lr``, its list of values or its {low, high, log}."""
        return dict(_dimensions(self.space, ""))


def _dimensions(space: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in space.items():
        if isinstance(value, Mapping) and not set(_RANGE) & set(value):
            yield from _dimensions(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", value


def _check_dimension(key: str, space: Any) -> None:
    if isinstance(space, list):
        if not space or not all(isinstance(value, str | int | float | None) for value in space):
            raise UserError(f"{key}={shown(space)}: give one value or more, such as [0.1,0.2]")
        return
    ends: tuple[Any, Any] = (space.get("low"), space.get("high")) if isinstance(space, Mapping) else (None, None)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if (
        not numbers
        or not -_LARGEST <= ends[0] <= ends[1] <= _LARGEST  # nor nan
        or not isinstance(space.get("log", False), bool)
        or (space.get("log") and ends[0] <= 0)
        or {*space} - {*_RANGE}
    ):
        raise UserError(
            f"{key}={shown(space)}: give {{low, high}}, numbers, low first (and above 0 with log: true), or a list of "
            "values"
        )
