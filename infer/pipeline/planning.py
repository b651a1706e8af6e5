"""The plan of a run that has a time: measuring this machine, and what result.json and the log say of the plan."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field

from infer.core.durations import rough
from infer.core.paths import user_path
from infer.data.auto import offered_sizes
from infer.pipeline.costs import Expectation, choices_of_networks, measured
from infer.pipeline.options import DistillOptions
from infer.pipeline.plan import Extent, Plan, Rung, fitting, too_short
from infer.pipeline.search import combinations
from infer.training.context import Context

log = logging.getLogger("infer")


class _Settings(BaseModel):
    """The size and the networks of a plan."""

    image_size: Annotated[int, Field(alias="dataset.image_size", ge=1)]
    teachers: Annotated[list[str], Field(alias="teachers.backbones", min_length=1)]
    students: Annotated[list[str], Field(alias="students.backbones", min_length=1)]


class PlanRecord(BaseModel):
    """A plan, as its file and result.json have it."""

    time: str
    planned_seconds: Annotated[float, Field(ge=0)]
    stages: dict[str, float]
    settings: _Settings
    seeds: Annotated[int, Field(ge=1)]
    tries: Annotated[int, Field(ge=0)]
    points: Annotated[int, Field(ge=0)]
    left_out: list[dict[str, Any]]


class Spent(NamedTuple):
    """When the command began, and the seconds that it took to import libraries and to read the pictures."""

    began: float
    imported: float
    read: float

    def before(self, jobs: int) -> float:
        """Return the seconds before a run: those until now, of worker processes, and of reading the pictures for it."""
        return time.perf_counter() - self.began + self.imported * (jobs > 1) + self.read


def made(options: DistillOptions, context: Context, curve: Sequence[float], room: float, spent: Spent) -> Plan:
    """Measure this machine and plan what fits, with pictures of the largest size for which something does."""
    wanted = Extent(options.students.seeds, len(combinations(options)), len(curve))
    networks = choices_of_networks(
        options.teachers.backbones, options.students.backbones, lambda name: context.backbone(name).frozen
    )
    names = sorted({name for chosen in networks for group in chosen for name in group})
    log.info("time=%s: measuring %s", options.time, ", ".join(names))
    rungs: list[Rung] = []
    for side in _sides(options, context):
        expected = Expectation(context, measured(options, context, side, names))
        for teachers, students in networks:
            chosen = {"dataset.image_size": side, "teachers.backbones": teachers, "students.backbones": students}
            title = f"{side} pixels, {' and '.join(students)}, taught by {', '.join(teachers)}"
            costs = expected.of(_chosen(options, chosen), spent.before(expected.jobs), curve)
            rungs.append(Rung(title, chosen, costs))
        if plan := fitting(rungs, wanted, room):
            return plan
    smaller = min(_offered(options, context)) < min(_sides(options, context))
    raise too_short(str(options.time), rungs, ", or dataset.image_size=auto for smaller pictures" if smaller else "")


def _sides(options: DistillOptions, context: Context) -> Sequence[int]:
    """Return the sizes of pictures that may be chosen, the largest first."""
    return _offered(options, context) if options.dataset.image_size == "auto" else [context.data.side]


def _offered(options: DistillOptions, context: Context) -> Sequence[int]:
    """Return the sizes that ``dataset.image_size=auto`` chooses from: that of the file where one is updated."""
    root = options.dataset.root
    return [context.data.side] if root is None or options.update is not None else offered_sizes(str(user_path(root)))


def record_of(options: DistillOptions, plan: Plan) -> dict[str, Any]:
    """Return what the file of a plan, and result.json, say of it."""
    stages = plan.rung.costs.of(plan.extent)
    return {
        "time": options.time,
        "planned_seconds": round(sum(stages.values()), 1),
        "stages": {name: round(value, 1) for name, value in stages.items()},
        "settings": dict(plan.rung.settings),
        **plan.extent._asdict(),
        "left_out": left_out(plan.left_out),
    }


def left_out(found: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what is left out, as a record has it, from the seconds in all that each would need."""
    return [{"what": what, "needs_seconds": round(value, 1)} for what, value in found.items()]


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the log says of a plan."""
    chosen = record["settings"]
    yield (
        f"Plan for time={record['time']}: pictures of {chosen['dataset.image_size']} pixels; teachers "
        f"{', '.join(chosen['teachers.backbones'])}; students {', '.join(chosen['students.backbones'])}, "
        f"{record['seeds']} a row; {record['tries']} choices tried; {record['points']} points of a learning curve"
    )
    stages = ", ".join(f"{name} {rough(value)}" for name, value in record["stages"].items())
    yield f"    {rough(record['planned_seconds'])} in all: {stages}"
    for part in record["left_out"]:
        yield f"    left out: {part['what']}; it needs time={rough(part['needs_seconds'])}"


def as_planned(options: DistillOptions, record: Mapping[str, Any]) -> DistillOptions:
    """Return the options with what a plan decides."""
    options = extended(_chosen(options, record["settings"]), record, options.report.curve or [])
    choices = combinations(options)
    return options.chosen(choices[0]) if choices and not record["tries"] else options


def extended(options: DistillOptions, record: Mapping[str, Any], curve: Sequence[float]) -> DistillOptions:
    """Return the options with as many students and points of the ``curve`` as a plan has."""
    students = replace(options.students, seeds=record["seeds"])
    return replace(
        options, students=students, report=replace(options.report, curve=[*curve][: record["points"]] or None)
    )


def _chosen(options: DistillOptions, settings: Mapping[str, Any]) -> DistillOptions:
    """Return the options with a size and networks."""
    return replace(
        options,
        dataset=replace(options.dataset, image_size=settings["dataset.image_size"]),
        teachers=replace(options.teachers, backbones=settings["teachers.backbones"]),
        students=replace(options.students, backbones=settings["students.backbones"]),
    )
