"""The pieces of work of a run, for the estimate of the time left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from infer.core.budget import infer_split, published_images
from infer.core.forecast import Piece
from infer.data import Splits
from infer.pipeline.baselines import SETS
from infer.pipeline.compare import Row, missing_rows
from infer.pipeline.limits import stored_views
from infer.pipeline.options import DistillOptions
from infer.pipeline.set_options import SetOptions

_FORWARD = 1 / 3
"""Time of a forward pass, against forward and backward."""


def pieces_of(options: DistillOptions, data: Splits, rows: Sequence[Row] | None) -> list[Piece]:
    """Return the pieces of a run in their order.

    Args:
        options: of the run.
        data: its pictures.
        rows: those of an earlier command whose set stays; None where the set is created.
    """
    recipe = options.recipe.teacher
    images = max(recipe.epochs * len(data.train), recipe.min_steps * recipe.batch) if recipe.epochs else 0
    found = [Piece(f"teacher {name}", name, images) for name in options.teachers.backbones]
    if rows is None:
        found += _search(options, data)
        found += _set(options.set_options(options.method), options, data)
    return [*found, *_students(options, data, rows or [])]


def stage_count(options: DistillOptions, creates: bool) -> int:
    """Count the stages of a run that ``creates`` its set, or adds rows to a table."""
    count = 2 + bool(options.budget.choices.values) + bool(options.report.language)  # teachers and students
    if not creates:
        return count
    per_teacher = len(options.teachers.backbones) if options.method.has_compensators else 0
    soft = options.labels.kind in ("static", "views")
    candidates = options.labels.kind == "views" and options.labels.candidates > 1
    return count + per_teacher + soft + candidates + options.set_options(options.method).uses_proxy


def _search(options: DistillOptions, data: Splits) -> Iterator[Piece]:
    """Yield the pieces of trying ``budget.choices``."""
    name = options.students.backbones[0]
    for _ in range(math.prod(len(values) for values in options.budget.choices.values.values())):
        if options.budget.choices.values:
            yield from _set(options.set_options(options.method), options, data)
            yield Piece(f"student {name}-auto", name, _steps(options, data) * options.recipe.student.batch)


def _set(settings: SetOptions, options: DistillOptions, data: Splits) -> Iterator[Piece]:
    """Yield the pieces of creating a set."""
    classes, teachers = len(data.classes), options.teachers.backbones
    proxy = settings.proxy_backbone
    if settings.uses_proxy:
        yield from _labels(settings.baseline(settings.labels.kind), teachers, data)
        yield Piece(f"student {proxy}-proxy", proxy, settings.labels.proxy_steps * settings.student.batch)
    if settings.method.has_compensators:
        images = infer_split(settings.ipc, classes, len(teachers), fill=True).rounds * classes
        for name in teachers:
            yield Piece(f"compensators {name}", name, settings.ufc.steps * images)
    yield from _labels(settings, teachers, data)


def _labels(settings: SetOptions, teachers: Sequence[str], data: Splits) -> Iterator[Piece]:
    """Yield the pieces of labelling a set."""
    labels = settings.labels
    if labels.kind == "static":
        images = published_images(settings.ipc, len(data.classes), len(teachers))
    elif labels.kind == "views":
        images = stored_views(settings, data, len(teachers))
        if labels.candidates > 1:
            for number in range(1, labels.candidates + 1):
                of = f"candidate {number} of {labels.candidates}"
                yield Piece(of, teachers[0], _FORWARD * images * (1 + len(teachers)))
    else:
        return
    yield Piece("labels", teachers[0], _FORWARD * images * len(teachers))


def _students(options: DistillOptions, data: Splits, rows: Sequence[Row]) -> Iterator[Piece]:
    """Yield the students of the table, in the order in which they are trained."""
    recipe, count = options.recipe.student, options.students.seeds
    steps, wanted = _steps(options, data), missing_rows(options, rows)
    real = max(steps, math.ceil(recipe.real_epochs * len(data.train) / recipe.batch))
    for source in (*SETS, "real"):
        images = (real if source == "real" else steps) * recipe.batch
        seeds = range(count) if source == "real" else range(options.seed * count, (options.seed + 1) * count)
        for name in [name for name, other in wanted if other == source]:
            yield from (Piece(f"student {name}-{source}-{seed}", name, images) for seed in seeds)


def _steps(options: DistillOptions, data: Splits) -> int:
    dynamic = options.labels.kind == "dynamic"
    return options.recipe.student.steps_at(options.ipc, len(data.classes), len(options.teachers.backbones), dynamic)
