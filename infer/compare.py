"""The comparison: the same student on the distilled set, on random naturals of the same bytes, and on the real set."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infer.assemble import Assembly
from infer.bench import Bench
from infer.distilled import DistilledSet
from infer.schema import DistillConfig, backbone
from infer.store import claim
from infer.students import StudentData, student_steps, train_student
from infer.teachers import Teacher

log = logging.getLogger("infer")


def rivals(assembly: Assembly, distilled: DistilledSet) -> dict[str, DistilledSet]:
    """Random naturals for the same stored bytes, coded alike: with the same kind of labels, with one soft label each
    where that is another kind, and with hard ones."""
    kind = distilled.header.labels
    kinds = {f"random_{kind}": kind, "random_static": "static", "random_hard": "hard"}
    if kind == "hard":
        del kinds["random_static"]
    return {
        source: assembly.rival(rival, distilled.payload - (distilled.header.label_bytes if rival == "dynamic" else 0))
        for source, rival in kinds.items()
    }


def students(
    bench: Bench,
    sets: Mapping[str, DistilledSet],
    teachers: Sequence[Teacher],
    folder: Path,
) -> list[dict[str, Any]]:
    """The rows of the comparison: every backbone on every source, the same recipe and steps for all.

    The real set alone may take more steps, so that the ceiling is no strawman (recipe.student.real_epochs).
    """
    config = bench.config
    assert isinstance(config, DistillConfig)
    networks = [teacher.network for teacher in teachers]
    distilled = sets["distilled"]
    dynamic = distilled.header.labels == "dynamic"
    steps = student_steps(bench, len(distilled), len(teachers), dynamic)
    rows = []
    for name in config.students.backbones:
        options = backbone(name)
        for source, chosen in sets.items():
            where = folder / "students" / f"{name}-{source}"
            lessons = StudentData.of_set(chosen, networks)
            results = [
                train_student(bench, f"{name}-{source}-{seed}", options, lessons, steps, seed, where / f"seed{seed}")
                for seed in range(config.students.seeds)
            ]
            rows.append(_row(name, source, chosen.header.labels, results, chosen.payload, len(chosen)))
        if config.students.real:
            recipe, train = config.recipe.student, bench.data.train
            most = max(steps, math.ceil(recipe.real_epochs * len(train) / recipe.batch))
            results = [_train_real(bench, name, most, seed) for seed in range(config.students.seeds)]
            rows.append(_row(name, "real", "hard", results, bench.data.train_bytes, len(train)))
    return rows


def _train_real(bench: Bench, name: str, steps: int, seed: int) -> Mapping[str, Any]:
    """A student on the whole real set: the ceiling, shared by all runs on this data with this student recipe."""
    config = bench.config
    options = backbone(name)
    settings = bench.identity(
        backbone=asdict(options),
        recipe=asdict(config.recipe.student),
        mixing=asdict(config.mixing),
        steps=steps,
        seed=seed,
    )
    folder = claim(Path(config.output, "train", bench.data.name, name, f"real-seed{seed}"), settings)
    return train_student(bench, f"{name}-real-{seed}", options, StudentData.of_real(bench.data), steps, seed, folder)


def _row(
    name: str, source: str, labels: str, results: Sequence[Mapping[str, Any]], size: int, images: int
) -> dict[str, Any]:
    accuracies = [result["accuracy"] for result in results]
    mean = statistics.fmean(accuracies)
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    log.info("student %s on %s: %.2f ± %.2f %%", name, source, 100 * mean, 100 * std)
    return {
        "backbone": name,
        "source": source,
        "labels": labels,
        "accuracy_mean": mean,
        "accuracy_std": std,
        "seeds": len(accuracies),
        "seconds": round(sum(result["seconds"] for result in results), 2),
        "steps": results[0]["steps"],
        "bytes": size,
        "images": images,
    }
