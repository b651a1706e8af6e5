"""The stages of a run and their pieces of work, for the numbers of the stages and the estimate of the time left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from infer.core.budget import Split, infer_split, natural_split
from infer.core.forecast import Piece
from infer.data import Splits
from infer.pipeline.analysed import is_analysed
from infer.pipeline.baselines import SETS, ComparedSets
from infer.pipeline.compare import ORDER, Row, missing_rows
from infer.pipeline.curve import at_budget, missing_budgets, own_budget
from infer.pipeline.limits import stored_views
from infer.pipeline.options import DistillOptions
from infer.pipeline.search import combinations
from infer.pipeline.set_options import SetOptions
from infer.pipeline.suspects import FEATURES, lacks_suspects
from infer.training.speed import FORWARD

LABELS = "labels"
"""The title of labelling. Its speed is its own: all teachers pass forward."""


def stages_of(
    options: DistillOptions, data: Splits, rows: Sequence[Row] | None, result: Mapping[str, Any] | None = None
) -> list[list[Piece]]:
    """Return the pieces of each stage of a run, in their order.

    Args:
        options: of the run.
        data: its pictures.
        rows: those of an earlier command, whose set stays; None where the set is created.
        result: the result of that command, which may have points of the learning curve, and suspects.
    """
    teachers = options.teachers.backbones
    found = [teacher_pieces(options, data)]
    if choices := combinations(options):
        found.append([piece for choice in choices for piece in try_pieces(options.chosen(choice), data)])
    if rows is None:
        found += set_stages(options.set_options(options.method), teachers, data)
    found.append([*student_pieces(options, data, rows or [])])
    if options.report.language and not is_analysed(options, result):
        found.append([])  # the analysis
    if budgets := missing_budgets(options, data, result):
        points = chain.from_iterable(point_pieces(options, data, budget) for budget in budgets)
        found.append([*_proxy(options, data, rows, budgets), *points])
    if lacks_suspects(options, result):
        found.append([Piece(FEATURES, FEATURES, FORWARD * len(data.train))])
    return found


def point_pieces(options: DistillOptions, data: Splits, budget: int) -> list[Piece]:
    """Return the pieces of one budget, in bytes, of the learning curve. The proxy model is that of the run."""
    own, name = own_budget(options, data), options.students.backbones[0]
    at = at_budget(options, budget, own)
    table = [{"backbone": name, "source": each, "seeds": at.students.seeds} for each in options.students.sources]
    students = student_pieces(at, data, table if budget == own else [])
    settings = at.set_options(at.method)
    stages = [] if budget == own else [*set_stages(settings, at.teachers.backbones, data)]
    return [*chain(*stages[int(settings.uses_proxy) :]), *students]


def _proxy(
    options: DistillOptions, data: Splits, rows: Sequence[Row] | None, budgets: Sequence[int]
) -> Sequence[Piece]:
    """Return the pieces of the proxy model of a set that an earlier command created, where the curve needs it."""
    settings = options.set_options(options.method)
    if rows is None or not settings.uses_proxy or [*budgets] == [own_budget(options, data)]:
        return []
    return next(iter(set_stages(settings, options.teachers.backbones, data)))


def teacher_pieces(options: DistillOptions, data: Splits) -> list[Piece]:
    """Return the pieces of training the teachers."""
    recipe = options.recipe.teacher
    copies = 1 if recipe.compressed is None else 2
    images = max(recipe.epochs * copies * len(data.train), recipe.min_steps * recipe.batch)
    return [Piece(f"teacher {name}", name, images) for name in options.teachers.backbones if recipe.epochs]


def try_pieces(options: DistillOptions, data: Splits) -> Iterator[Piece]:
    """Yield the pieces of trying one of ``budget.choices``."""
    name = options.students.backbones[0]
    yield from chain(*set_stages(options.set_options(options.method), options.teachers.backbones, data))
    yield Piece(f"student {name}-auto", name, _steps(options, data) * options.recipe.student.batch)


def set_stages(settings: SetOptions, teachers: Sequence[str], data: Splits) -> Iterator[list[Piece]]:
    """Yield the stages of creating a set."""
    proxy, classes = settings.proxy_backbone, len(data.classes)
    if settings.uses_proxy:
        images = settings.labels.proxy_steps * settings.student.batch
        labels = _labels(settings.baseline(settings.labels.kind), teachers, data)
        yield [*chain(*labels), Piece(f"student {proxy}-proxy", proxy, images)]
    if settings.method.has_compensators:
        least = int(settings.budget.by == "bytes")  # which hold an image of each class
        rounds = max(least, _split(settings, teachers, data).rounds)
        if rounds:
            images = settings.ufc.steps * rounds * classes
            yield [Piece(f"compensators {name}", name, images) for name in teachers]
    yield from _labels(settings, teachers, data)


def _labels(settings: SetOptions, teachers: Sequence[str], data: Splits) -> Iterator[list[Piece]]:
    """Yield the stages of labelling a set."""
    labels, networks = settings.labels, len(teachers)
    if labels.kind == "static":
        split = _split(settings, teachers, data)
        images = split.naturals + split.composed
    elif labels.kind == "views":
        images = stored_views(settings, data, networks)
        titles = [f"candidate {number} of {labels.candidates}" for number in range(1, labels.candidates + 1)]
        if labels.candidates > 1:  # which are labelled as they are chosen
            yield [Piece(title, LABELS, FORWARD * images * (1 + networks)) for title in titles]
            return
    else:
        return
    yield [Piece(LABELS, LABELS, FORWARD * images * networks)]


def _split(settings: SetOptions, teachers: Sequence[str], data: Splits) -> Split:
    """Return the split of a budget of images; one of bytes is taken to hold as many."""
    classes = len(data.classes)
    if settings.method.has_compensators:
        return infer_split(settings.ipc, classes, len(teachers), fill=True)
    return natural_split(settings.ipc * classes, classes)


def student_pieces(options: DistillOptions, data: Splits, rows: Sequence[Row]) -> Iterator[Piece]:
    """Yield the pieces of the table, in their order: all baselines are labelled, then students are trained."""
    recipe, count, settings = options.recipe.student, options.students.seeds, options.set_options(options.method)
    steps, wanted = _steps(options, data), missing_rows(options, rows)
    real = max(steps, math.ceil(recipe.real_epochs * len(data.train) / recipe.batch))
    own = options.labels.kind
    kinds: dict[object, str] = {
        ComparedSets.equal_bytes: own,
        ComparedSets.equal_images: own,
        ComparedSets.static: "static",
    }
    for source, _ in _by_source(wanted):
        if kind := kinds.pop(SETS.get(source), None):  # rows may share a set
            yield from chain(*_labels(settings.baseline(kind), options.teachers.backbones, data))
    for source, names in _by_source(wanted):
        images = (real if source == "real" else steps) * recipe.batch
        seeds = range(count) if source == "real" else range(options.seed * count, (options.seed + 1) * count)
        for name in names:
            yield from (Piece(f"student {name}-{source}-{seed}", name, images) for seed in seeds)


def _by_source(wanted: Sequence[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each source of rows, in the order of their trainings, with the names of its students."""
    for source in ORDER:
        if names := [name for name, other in wanted if other == source]:
            yield source, names


def _steps(options: DistillOptions, data: Splits) -> int:
    dynamic = options.labels.kind == "dynamic"
    return options.recipe.student.steps_at(options.ipc, len(data.classes), len(options.teachers.backbones), dynamic)
