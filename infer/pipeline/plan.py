"""The plan of a run that has a time: the largest that fits, from the seconds that its parts are expected to take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from infer.core.durations import rough
from infer.core.errors import UserError

_PLANNED = 0.85
"""Share of the time that a plan may take: speeds that were measured for a few seconds are rough."""

_MOST_SEEDS = 10
"""Students a row beyond which a longer time brings nothing."""


class Extent(NamedTuple):
    """How much is done of what can be more or less.

    Attributes:
        seeds: Students a row.
        tries: Combinations of ``budget.choices`` that are tried; 0: the first of them is taken.
        points: Points of the learning curve.
    """

    seeds: int = 1
    tries: int = 0
    points: int = 0


class Point(NamedTuple):
    """Seconds of a point of the learning curve: of its sets, and of its students of one seed."""

    sets: float
    students: float


@dataclass(frozen=True)
class Costs:
    """Seconds of the parts of a run.

    Args:
        stages: of what is done once, by stage.
        students: of the training of each student of one seed.
        choice: of the try of a combination of ``budget.choices``.
        points: of the points of the learning curve.
        jobs: trainings that are done at once.
        analysed: of the report, for the students of each seed.
    """

    stages: Mapping[str, float]
    students: Sequence[float]
    choice: float = 0.0
    points: Sequence[Point] = ()
    jobs: int = 1
    analysed: float = 0.0

    def of(self, extent: Extent) -> dict[str, float]:
        """Return the seconds of each stage."""
        curve = [point.sets + extent.seeds * point.students / self.jobs for point in self.points[: extent.points]]
        elastic = {
            "choices": extent.tries * self.choice,
            "students": side_by_side([*self.students] * extent.seeds, self.jobs),
            "curve": sum(curve),
            "report": self.stages.get("report", 0.0) + extent.seeds * self.analysed,
        }
        return {name: seconds for name, seconds in {**self.stages, **elastic}.items() if seconds}

    def total(self, extent: Extent) -> float:
        """Return the seconds of the whole run."""
        return sum(self.of(extent).values())


def side_by_side(trainings: Sequence[float], jobs: int) -> float:
    """Return the seconds of trainings of which ``jobs`` are done at once, each as soon as one of the others ends.

    >>> side_by_side([3, 3, 2], jobs=2)
    5.0
    """
    ends = [0.0] * jobs
    for seconds in trainings:
        ends[ends.index(min(ends))] += seconds
    return max(ends)


@dataclass(frozen=True)
class Rung:
    """A size of pictures and a choice of networks.

    Args:
        title: as the plan calls it.
        settings: the values that it has, by key.
        costs: of a run with them.
    """

    title: str
    settings: Mapping[str, Any]
    costs: Costs


@dataclass(frozen=True)
class Plan:
    """What fits into the time.

    Args:
        rung: the size and the networks.
        extent: how much of the rest.
        left_out: what does not fit, and the seconds in all that a plan with it would need.
    """

    rung: Rung
    extent: Extent
    left_out: Mapping[str, float]


LATE = ("students a row", "points of the curve")
"""What is decided when the first students are trained, as what was left out has it."""


def extents(wanted: Extent) -> list[Extent]:
    """Return the extents from the smallest to the largest, each with a little more of one thing than the one before.

    First there are more students, until each row has as many as are ``wanted``. Then choices are tried, two at least;
    then come the points of the learning curve, and at last still more students.
    """
    found = [Extent(seeds) for seeds in range(1, wanted.seeds + 1)]
    found += [Extent(wanted.seeds, tries) for tries in range(2, wanted.tries + 1)]
    tries = found[-1].tries
    found += [Extent(wanted.seeds, tries, points) for points in range(1, wanted.points + 1)]
    return found + [Extent(seeds, tries, wanted.points) for seeds in range(wanted.seeds + 1, _MOST_SEEDS + 1)]


def largest(costs: Costs, among: Sequence[Extent], seconds: float) -> Extent:
    """Return the last of the extents, in their order, up to which all fit into ``seconds``; at least the first."""
    found = among[0]
    for extent in among:
        if costs.total(extent) > seconds:
            break
        found = extent
    return found


def filled(costs: Costs, extent: Extent, seconds: float) -> Extent:
    """Return the extent with as many more students as fit into ``seconds``: time that nothing larger takes."""
    more = [extent, *(extent._replace(seeds=seeds) for seeds in range(extent.seeds + 1, _MOST_SEEDS + 1))]
    return largest(costs, more, seconds)


def fitting(rungs: Sequence[Rung], wanted: Extent, seconds: float) -> Plan | None:
    """Plan the first of ``rungs``, the largest first, that fits into ``seconds`` with a margin, and as much as fits.

    Args:
        rungs: sizes and networks.
        wanted: students, choices and points that are asked for; a longer time has more students.
        seconds: of the whole command.

    Returns:
        The plan; None where no rung fits.
    """
    room, among = _PLANNED * seconds, extents(wanted)
    for at, rung in enumerate(rungs):
        if rung.costs.total(among[0]) <= room:
            extent = largest(rung.costs, among, room)
            larger = {other.title: other.costs.total(among[0]) / _PLANNED for other in rungs[:at]}
            return Plan(rung, extent, {**larger, **missing(rung.costs, extent, wanted)})
    return None


def missing(costs: Costs, extent: Extent, wanted: Extent) -> dict[str, float]:
    """Return what was wanted beyond ``extent``, and the seconds in all that each would need."""
    found, most_tries = {}, extents(wanted)[-1].tries
    if extent.seeds < wanted.seeds:
        found[f"{wanted.seeds} {LATE[0]}"] = extent._replace(seeds=wanted.seeds)
    if extent.tries < most_tries:
        found[f"{wanted.tries} choices tried"] = Extent(wanted.seeds, wanted.tries)
    if extent.points < wanted.points:
        seeds, tries = max(extent.seeds, wanted.seeds), max(extent.tries, most_tries)
        found[f"{wanted.points} {LATE[1]}"] = Extent(seeds, tries, wanted.points)
    return {what: costs.total(more) / _PLANNED for what, more in found.items()}


def too_short(time: str, rungs: Sequence[Rung], cure: str = "") -> UserError:
    """Return the error for a time into which no rung fits: with the one that would do, and another ``cure``."""
    rung = min(rungs, key=lambda rung: rung.costs.total(Extent()))
    needed = rung.costs.total(Extent()) / _PLANNED
    enough = f"{math.ceil(needed)}s" if needed < 120 else f"{math.ceil(needed / 60)}m"
    return UserError(
        f"time={time}: too short for the smallest plan ({rung.title}: {rough(needed)}); give time={enough}{cure}"
    )
