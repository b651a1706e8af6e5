"""The comparison: the same student, with one recipe and equal steps, on every source."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from infer.core.checks import as_identity
from infer.core.files import digest, reserve_folder
from infer.core.records import digests
from infer.core.sources import SOURCES
from infer.pipeline.baselines import REDUNDANT, SETS, ComparedSets
from infer.pipeline.options import BaseOptions, DistillOptions
from infer.training.context import Context
from infer.training.students import WEIGHTS, Student, student_in_folder
from infer.training.teachers import training_folder
from infer.training.training_set import TrainingSet

log = logging.getLogger("infer")

Row = Mapping[str, Any]


def missing_rows(options: BaseOptions, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the (student, source) pairs, in the table's order, that ``options`` ask for and ``rows`` lack."""
    known = [(row["backbone"], row["source"]) for row in rows]
    return [
        (name, source)
        for source in SOURCES
        if source in options.students.sources and REDUNDANT.get(source) != options.labels.kind
        for name in options.students.backbones
        if (name, source) not in known
    ]


def compare(sets: ComparedSets, options: DistillOptions, folder: Path, known: Sequence[Row] = ()) -> list[Row]:
    """Train the students of the table and return its rows.

    Students of a run's seed s have the seeds s * n to s * n + n - 1, so that a sweep over seeds trains different ones.
    Students of the real set may take more steps (recipe.student.real_epochs), so that the upper bound is fair.

    Args:
        sets: the distilled set and its baselines.
        options: of the run.
        folder: the run's.
        known: rows of an earlier command on the same set; they stay.
    """
    context = sets.assembler.context
    steps = table_steps(options, context, sets.distilled.header.labels == "dynamic")
    rows, wanted = list(known), missing_rows(options, known)
    for source in SETS:
        names = [name for name, other in wanted if other == source]
        rows += _rows(sets, options, source, names, steps, folder) if names else []
    for name in [name for name, source in wanted if source == "real"]:
        rows.append(_real_row(context, options, name, steps, folder))
    return sorted(rows, key=lambda row: [*SOURCES].index(row["source"]))


def table_steps(options: BaseOptions, context: Context, dynamic: bool) -> int:
    """Return the steps of every student of a table."""
    teachers = len(options.teachers.backbones)
    return options.recipe.student.steps_at(options.ipc, len(context.data.classes), teachers, dynamic)


def _rows(
    sets: ComparedSets, options: DistillOptions, source: str, names: Sequence[str], steps: int, folder: Path
) -> list[Row]:
    """Train the students of one source, ``options.students.seeds`` of each backbone."""
    chosen = sets[source]
    training_set = TrainingSet.of_set(chosen, sets.assembler.networks)
    training_set = replace(training_set, final=training_set.final or source.endswith("_plain"))
    count, trained_on = options.students.seeds, digest(chosen.to_bytes())
    rows: list[Row] = []
    for name in names:
        seeds = range(options.seed * count, (options.seed + 1) * count)
        folders = [folder / "students" / f"{name}-{source}" / f"seed{seed}" for seed in seeds]
        students = [
            Student(f"{name}-{source}-{seed}", name, options.recipe.student, options.mixing, steps, seed)
            for seed in seeds
        ]
        results = [
            student_in_folder(sets.assembler.context, student, training_set, place, trained_on)
            for student, place in zip(students, folders, strict=True)
        ]
        facts = _Facts(name, source, chosen.header.labels, chosen.payload, len(chosen))
        rows.append(_row(facts, results, folders, folder))
    return rows


def _real_row(context: Context, options: DistillOptions, name: str, steps: int, run: Path) -> Row:
    """Train the students of the whole real set; all runs on this data with this recipe share them."""
    recipe, train = options.recipe.student, context.data.train
    steps = max(steps, math.ceil(recipe.real_epochs * len(train) / recipe.batch))
    training_set = TrainingSet.of_real(context.data)
    results, folders = [], []
    for seed in range(options.students.seeds):
        settings = context.identity(
            backbone=as_identity(context.backbone(name)),
            recipe=as_identity(recipe),
            mixing=as_identity(options.mixing),
            steps=steps,
            seed=seed,
        )
        place = training_folder(context, name, options.output) / f"real-seed{seed}"
        folders.append(reserve_folder(place, settings))
        student = Student(f"{name}-real-{seed}", name, recipe, options.mixing, steps, seed)
        with context.lock(folders[-1] / ".lock", f"student {name} of the real set"):
            results.append(student_in_folder(context, student, training_set, folders[-1]))
    return _row(_Facts(name, "real", "hard", context.data.train_bytes, len(train)), results, folders, run)


class _Facts(NamedTuple):
    backbone: str
    source: str
    labels: str
    bytes: int
    images: int


def _row(facts: _Facts, results: Sequence[Mapping[str, Any]], folders: Sequence[Path], run: Path) -> dict[str, Any]:
    accuracies = [result["accuracy"] for result in results]
    mean = statistics.fmean(accuracies)
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    recalls = zip(*(result["recall"] for result in results), strict=True)
    spread = f" ± {100 * std:.2f}" if len(accuracies) > 1 else ""
    log.info("Student %s on %s: %.2f%s %%", facts.backbone, facts.source, 100 * mean, spread)
    return {
        "backbone": facts.backbone,
        "source": facts.source,
        "labels": facts.labels,
        "accuracies": accuracies,
        "accuracy_mean": mean,
        "accuracy_std": std,
        "balanced_accuracy": statistics.fmean(result["balanced_accuracy"] for result in results),
        "macro_f1": statistics.fmean(result["macro_f1"] for result in results),
        "recall": [statistics.fmean(seeds) for seeds in recalls],
        "seeds": len(accuracies),
        "seconds": round(sum(result["seconds"] for result in results), 2),
        "steps": results[0]["steps"],
        "bytes": facts.bytes,
        "images": facts.images,
        "weights": [str(folder / WEIGHTS) for folder in folders],
        "digests": digests(run, [folder / WEIGHTS for folder in folders]),
    }
