"""Runs that have a time: they are planned before anything is trained, and what is elastic is decided late.

A plan is kept beside the folders of its runs, so that the same command finds the same run again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from infer.core.durations import rough, seconds
from infer.core.files import find_folder, reserve_folder, write_json
from infer.core.folder_names import folder_name
from infer.core.paths import user_path
from infer.core.progress import counted, rank
from infer.core.records import read_record
from infer.pipeline.baselines import ComparedSets
from infer.pipeline.compare import Row, compare, missing_rows
from infer.pipeline.costs import PAGE
from infer.pipeline.options import DistillOptions
from infer.pipeline.plan import LATE, Costs, Extent, Point, extents, filled, largest, missing, side_by_side
from infer.pipeline.planning import PlanRecord, Spent, as_planned, extended, left_out, lines, made, record_of
from infer.pipeline.run_folder import Backbones, context_of, identity, run_name
from infer.pipeline.search import combinations
from infer.training.jobs import threads_of_each

log = logging.getLogger("infer")

_FILE = "plan.json"

_FASTEST = 0.5
"""Least seconds of students against those expected: an earlier command may have trained the first ones."""


@dataclass
class _Clock:
    """The time of a run.

    Args:
        began: when the command began, of time.perf_counter().
        seconds: of its time.
        record: the plan.
        file: of the plan.
        curve: points of the learning curve that were asked for.
        usual: students a row that were asked for.
        costs: of the plan; None where nothing is decided late: an earlier command made it, or several processes run it.
    """

    began: float
    seconds: float
    record: dict[str, Any]
    file: Path
    curve: Sequence[float]
    usual: int
    costs: Costs | None

    @property
    def spent(self) -> float:
        """Seconds since the command began."""
        return time.perf_counter() - self.began

    def left(self, *stages: str) -> float:
        """Return the seconds that are left, those that the plan has for ``stages`` taken away."""
        return self.seconds - self.spent - sum(self.record["stages"].get(name, 0.0) for name in stages)

    def learn(self, seconds: float | None) -> None:
        """Take in the ``seconds`` that the students of one seed took: what follows is expected to be as fast."""
        assert self.costs is not None
        expected = side_by_side(self.costs.students, self.costs.jobs)
        factor = 1.0 if seconds is None else max(_FASTEST, seconds / expected)
        slower = max(1.0, factor)  # that students learn faster makes no analysis faster
        self.costs = replace(
            self.costs,
            stages={name: slower * self.costs.stages[name] for name in ("report", "suspects")},
            students=[factor * each for each in self.costs.students],
            points=[Point(*(factor * each for each in point)) for point in self.costs.points],
            analysed=slower * self.costs.analysed,
        )

    def decided(self, options: DistillOptions, seeds: int, points: int) -> DistillOptions:
        """Return the options with what was decided, and keep it, and what is left out now, with the plan."""
        assert self.costs is not None
        extent = Extent(seeds, self.record["tries"], points)
        more = missing(self.costs, extent, extent._replace(seeds=self.usual, points=len(self.curve)))
        # The run fills its time, so what it leaves out comes on top.
        found = {what: self.seconds + needs - self.costs.total(extent) for what, needs in more.items()}
        kept = [each for each in self.record["left_out"] if not each["what"].endswith(LATE)]
        self.record |= {"seeds": seeds, "points": points, "left_out": kept + left_out(found)}
        write_json(self.file, self.record)
        fit = f"{counted(seeds, 'student')} a row, {counted(points, 'point')} of the learning curve"
        log.info("time=%s has room for %s", self.record["time"], fit)
        return extended(options, self.record, self.curve)


_clock: ContextVar[_Clock | None] = ContextVar("clock", default=None)


@contextmanager
def planned(options: DistillOptions, backbones: Backbones, began: float) -> Iterator[DistillOptions]:
    """Plan a run that has a time, and yield its options; those of another run are yielded as they are.

    Args:
        options: of the run.
        backbones: options of networks that are not known by their name.
        began: when the command began, of time.perf_counter().

    Raises:
        UserError: where the time is too short for the smallest plan.
    """
    clock = _clock_of(options, backbones, began) if options.time is not None else None
    token = _clock.set(clock)
    try:
        yield as_planned(options, clock.record) if clock else options
    finally:
        _clock.reset(token)


def whole_curve() -> Sequence[float] | None:
    """Return the points of the learning curve that a run with a time may get; None for a run without."""
    clock = _clock.get()
    return clock.curve if clock else None


def end() -> float | None:
    """Return when a run that fills its time ends, of time.perf_counter(); None for another."""
    clock = _clock.get()
    return None if clock is None or clock.costs is None else clock.began + clock.seconds


def students(options: DistillOptions, rows: int) -> str:
    """Return how many students are to be trained, for ``rows`` of the table: not known yet where the time decides."""
    return "students, as many as there is time for" if end() else counted(rows * options.students.seeds, "student")


def for_choices(options: DistillOptions) -> DistillOptions:
    """Return the options with the time that is left for trying ``budget.choices``."""
    clock = _clock.get()
    if clock is None or clock.costs is None or not combinations(options):
        return options
    room = max(1.0, clock.left("set", "students", "curve", "report", "suspects"))
    return replace(options, report=replace(options.report, time_budget=f"{room:.0f}s"))


def compared(
    sets: ComparedSets, options: DistillOptions, folder: Path, known: Sequence[Row]
) -> tuple[DistillOptions, list[Row]]:
    """Return the rows of the comparison, and the options with as many students as the time that is left has room for.

    One student of each row is trained first; their seconds tell those of the others.

    Args:
        sets, options, folder, known: as of :func:`infer.pipeline.compare.compare`.
    """
    clock = _clock.get()
    if clock is None:
        return options, compare(sets, options, folder, known)
    # As many threads as the networks were measured with, for the first students and for all that follow.
    threads = threads_of_each(options.trainer, torch.get_num_threads())
    options = replace(options, trainer=replace(options.trainer, threads=threads))
    if clock.costs is not None:
        for source in {source for _, source in missing_rows(options, known)} - {"real"}:
            sets[source]  # is created here, and no part of what the first students take
        began = time.perf_counter()
        rows = compare(sets, replace(options, students=replace(options.students, seeds=1)), folder, known)
        took = time.perf_counter() - began
        clock.learn(None if known else took)  # rows of an earlier command took no time
        among = extents(Extent(clock.usual, points=len(clock.curve)))
        # The costs have the first student too, which is one of several where the run's seed is 0.
        room = clock.left() + (took if options.seed == 0 else 0.0)
        found = filled(clock.costs, largest(clock.costs, among, room), room)
        options = clock.decided(options, found.seeds, found.points)
        if found.seeds == 1:
            return options, rows
    return options, compare(sets, options, folder, known)


def for_curve(options: DistillOptions) -> DistillOptions:
    """Return the options with as many points of the learning curve as the time that is left has room for."""
    clock = _clock.get()
    if clock is None or clock.costs is None:
        return options
    seeds = options.students.seeds
    later = {"page": PAGE, "suspects": clock.costs.stages["suspects"]}  # the analysis is done
    costs = replace(clock.costs, stages=later, students=[], analysed=0.0)
    among = [Extent(seeds, points=points) for points in range(len(clock.curve) + 1)]
    points = largest(costs, among, clock.left()).points
    return options if points == clock.record["points"] else clock.decided(options, seeds, points)


def recorded(result: dict[str, Any], file: Path, begun: bool) -> dict[str, Any]:
    """Return the result with its plan and the seconds of the command, and write both; what is recorded stays.

    Of a run that an earlier command has ``begun``, the seconds of this one are not those of the whole: it has none.
    """
    clock = _clock.get()
    if clock is None or rank() > 0 or result.get("plan", {}).get("time") == clock.record["time"]:
        return result
    took = {} if begun else {"seconds": round(clock.spent, 1)}
    result = {**result, "plan": {**clock.record, **took}}
    write_json(file, result)
    if took:
        log.info("time=%s: %s taken", clock.record["time"], rough(clock.spent))
    return result


def _clock_of(options: DistillOptions, backbones: Backbones, began: float) -> _Clock:
    """Find the plan of an earlier command, or make one and write it."""
    room, curve, imported = seconds(options.time), options.report.curve or [], time.perf_counter() - began
    assert room is not None
    context = context_of(options, backbones)
    spent = Spent(began, imported, time.perf_counter() - began - imported)
    content = {key: value for key, value in identity(options).items() if key != "seed"}  # which runs of all seeds share
    wanted = {"curve": curve, "sources": options.students.sources, "report": bool(options.report.language)}
    settings = context.identity(
        **content, **wanted, suspects=options.report.suspects, time=options.time, image_size=options.dataset.image_size
    )
    data = folder_name("dataset.name", context.data.name)
    place = user_path(options.output) / "distill" / data / run_name(options) / "plan"
    file, costs = find_folder(place, settings)[0] / _FILE, list[Costs]()

    def found() -> dict[str, Any]:
        known = read_record(file, PlanRecord, "it is made again")
        if known is not None:
            return known
        plan = made(options, context, curve, room, spent)
        costs.append(plan.rung.costs)
        record = record_of(options, plan)
        if not options.dry_run:
            write_json(reserve_folder(place, settings) / _FILE, record)
        return record

    record = context.from_first("the plan", found)
    for line in lines(record):
        log.info(line)
    late = costs[0] if costs and not options.trainer.launched else None
    return _Clock(began, room, record, file, curve, options.students.seeds, late)
