"""The comparison: the same student, with one recipe and equal steps, on every source."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from infer.core.files import digest, reserve_folder
from infer.core.identity import as_identity
from infer.core.records import digests
from infer.core.sources import SOURCES
from infer.pipeline.baselines import REDUNDANT, SETS, ComparedSets
from infer.pipeline.options import BaseOptions, DistillOptions
from infer.training.context import Context
from infer.training.jobs import Training, side_by_side, threads_of_each
from infer.training.records import RESULT
from infer.training.students import WEIGHTS, Student, student_in_folder
from infer.training.teachers import training_folder
from infer.training.training_set import TrainingSet

log = logging.getLogger("infer")

Row = Mapping[str, Any]


def missing_rows(options: BaseOptions, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the (student, source) pairs, in the table's order, that ``options`` ask for and ``rows`` lack.

    A row of fewer students than are asked for is lacking too.
    """
    known = [(row["backbone"], row["source"]) for row in rows if row["seeds"] >= options.students.seeds]
    return [
        (name, source)
        for source in SOURCES
        if source in options.students.sources and REDUNDANT.get(source) != options.labels.kind
        for name in options.students.backbones
        if (name, source) not in known
    ]


def threads_of_students(options: BaseOptions) -> int:
    """Return the threads of each student of a table."""
    return threads_of_each(options.trainer, len(missing_rows(options, [])) * options.students.seeds)


def compare(sets: ComparedSets, options: DistillOptions, folder: Path, known: Sequence[Row] = ()) -> list[Row]:
    """Train the students of the table and return its rows.

    Students of a run's seed s have the seeds s * n to s * n + n - 1, so that a sweep over seeds trains different ones.
    Students of the real set may take more steps (recipe.student.real_epochs), so that the upper bound is fair.

    Args:
        sets: the distilled set and its baselines.
        options: of the run.
        folder: the run's.
        known: rows of an earlier command on the same set. They stay, or are replaced by those of more students.
    """
    context, wanted = sets.assembler.context, missing_rows(options, known)
    if context.report:  # the first student decides whether the others are trained
        context = replace(context, trainer=replace(context.trainer, jobs=1))
    planned = [*_planned(sets, options, wanted, folder)]
    trainings = [training for row in planned for training in row.trainings]
    results = side_by_side(context, trainings, threads_of_students(options))
    rows = [row for row in known if (row["backbone"], row["source"]) not in wanted]
    rows += [_row(row, [next(results) for _ in row.trainings], folder) for row in planned]
    return sorted(rows, key=lambda row: [*SOURCES].index(row["source"]))


def table_steps(options: BaseOptions, context: Context, dynamic: bool) -> int:
    """Return the steps of every student of a table."""
    teachers = len(options.teachers.backbones)
    return options.recipe.student.steps_at(options.ipc, len(context.data.classes), teachers, dynamic)


class _Planned(NamedTuple):
    """A row before its students are trained; ``bytes``, ``images`` and stored ``pictures`` are of what teaches them."""

    backbone: str
    source: str
    labels: str
    bytes: int
    images: int
    pictures: int
    trainings: Sequence[Training[Mapping[str, Any]]]


def _planned(
    sets: ComparedSets, options: DistillOptions, wanted: Sequence[tuple[str, str]], folder: Path
) -> Iterator[_Planned]:
    """Yield the rows ``wanted``, those of the real set first: their students take longest."""
    steps = table_steps(options, sets.assembler.context, sets.distilled.header.labels == "dynamic")
    for source in ORDER:
        names = [name for name, other in wanted if other == source]
        if names and source == "real":
            yield from (_real_row(sets.assembler.context, options, name, steps) for name in names)
        elif names:
            yield from _rows(sets, options, source, names, steps, folder)


ORDER = ("real", *SETS)
"""The order in which the students of a table are trained, by source."""


def _rows(
    sets: ComparedSets, options: DistillOptions, source: str, names: Sequence[str], steps: int, folder: Path
) -> Iterator[_Planned]:
    """Yield the rows of one source, of ``options.students.seeds`` students of each backbone."""
    chosen = sets[source]
    training_set = TrainingSet.of_set(chosen, sets.assembler.networks)
    training_set = replace(training_set, final=training_set.final or source.endswith("_plain"))
    count, trained_on = options.students.seeds, digest(chosen.to_bytes())
    for name in names:
        trainings = []
        for seed in range(options.seed * count, (options.seed + 1) * count):
            points = _points(options, name, source)
            student = Student(
                f"{name}-{source}-{seed}", name, options.recipe.student, options.mixing, steps, seed, points
            )
            place = folder / "students" / f"{name}-{source}" / f"seed{seed}"
            run = partial(
                student_in_folder, student=student, training_set=training_set, folder=place, trained_on=trained_on
            )
            trainings.append(Training(f"student {student.name}", place / RESULT, run))
        yield _Planned(name, source, chosen.header.labels, chosen.payload, len(chosen), len(chosen.naturals), trainings)


def _real_row(context: Context, options: DistillOptions, name: str, steps: int) -> _Planned:
    """Return the row of the whole real set; all runs on this data with this recipe share its students."""
    recipe, train = options.recipe.student, context.data.train
    steps = max(steps, math.ceil(recipe.real_epochs * len(train) / recipe.batch))
    trainings = []
    for seed in range(options.students.seeds):
        settings = context.identity(
            backbone=as_identity(context.backbone(name)),
            recipe=as_identity(recipe),
            mixing=as_identity(options.mixing),
            steps=steps,
            seed=seed,
        )
        place = reserve_folder(training_folder(context, name, options.output) / f"real-seed{seed}", settings)
        points = _points(options, name, "real")
        student = Student(f"{name}-real-{seed}", name, recipe, options.mixing, steps, seed, points)
        run = partial(_real_student, student=student, folder=place)
        trainings.append(Training(f"student {student.name}", place / RESULT, run))
    return _Planned(name, "real", "hard", context.data.train_bytes, len(train), len(train), trainings)


def _points(options: DistillOptions, name: str, source: str) -> int:
    """Return how often the accuracy of a student is measured in its training: as often as the report needs it."""
    reported = options.report.language and name == options.students.backbones[0]
    return _POINTS.get(source, 0) if reported else 0


_POINTS = {"real": 10, "distilled": 1}
"""Measurements of a report's students: when do those of all pictures reach what those of the file end with?"""


def _real_student(context: Context, student: Student, folder: Path) -> Mapping[str, Any]:
    """Return the result of a student of the real set, which other runs may train too."""
    with context.lock(folder / ".lock", f"student {student.backbone} of the real set"):
        return student_in_folder(context, student, TrainingSet.of_real(context.data), folder)


def _row(row: _Planned, results: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Return the row of these students in result.json, which lies in ``folder``."""
    accuracies = [result["accuracy"] for result in results]
    mean = statistics.fmean(accuracies)
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    recalls = zip(*(result["recall"] for result in results), strict=True)
    spread = f" ± {100 * std:.2f}" if len(accuracies) > 1 else ""
    log.info("Student %s on %s: %.2f%s %%", row.backbone, row.source, 100 * mean, spread)
    weights = [training.file.with_name(WEIGHTS) for training in row.trainings]
    timelines = [result["timeline"] for result in results if result.get("timeline")]
    return {
        "backbone": row.backbone,
        "source": row.source,
        "labels": row.labels,
        "accuracies": accuracies,
        "accuracy_mean": mean,
        "accuracy_std": std,
        "balanced_accuracy": statistics.fmean(result["balanced_accuracy"] for result in results),
        "balanced_accuracies": [result["balanced_accuracy"] for result in results],
        "macro_f1": statistics.fmean(result["macro_f1"] for result in results),
        "recall": [None if None in seeds else statistics.fmean(seeds) for seeds in recalls],
        "seeds": len(accuracies),
        "seconds": round(sum(result["seconds"] for result in results), 2),
        "steps": results[0]["steps"],
        "bytes": row.bytes,
        "images": row.images,
        "pictures": row.pictures,
        "weights": [str(file) for file in weights],
        "digests": digests(folder, weights),
        **({"timelines": timelines} if len(timelines) == len(results) else {}),
    }
