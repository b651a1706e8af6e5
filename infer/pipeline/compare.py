"""The comparison: the same student on the distilled set, on random naturals of the same bytes, and on the real set."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infer.cli.schema import SOURCES, BaseConfig, backbone
from infer.core.files import claim
from infer.distilled.dataset import DistilledSet
from infer.pipeline.assemble import Assembly
from infer.training.context import Bench
from infer.training.students import WEIGHTS, StudentData, table_steps, train_student

log = logging.getLogger("infer")


def missing(config: BaseConfig, rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What the table of this configuration has and ``rows`` has not: (student, source), in the table's order."""
    known = [(row["backbone"], row["source"]) for row in rows]
    return [
        (name, source)
        for source in SOURCES
        if source in config.students.sources and _SAME.get(source) != config.labels.kind
        for name in config.students.backbones
        if (name, source) not in known
    ]


@dataclass(frozen=True)
class Sets:
    """The ``distilled`` set and its rivals, each made when it is asked for, once."""

    assembly: Assembly
    distilled: DistilledSet
    _made: dict[Callable[[Assembly, DistilledSet], DistilledSet], DistilledSet] = field(default_factory=dict)

    def __getitem__(self, source: str) -> DistilledSet:
        make = _SETS[source]
        if make not in self._made:  # a plain row has the set of the row it is compared with
            self._made[make] = make(self.assembly, self.distilled)
        return self._made[make]


def compare(sets: Sets, folder: Path, known: Sequence[Mapping[str, Any]] = ()) -> list[Mapping[str, Any]]:
    """The rows of the comparison: every student on every source of students.sources, the same recipe and steps for all.

    Rows that are ``known`` from an earlier command on the same set stay, and those that it did not ask for come to
    them. Students of a run's seed s have the seeds s * n to s * n + n - 1, so that a sweep over seeds is of different
    ones. The real set alone may take more steps, so that the ceiling is no strawman (recipe.student.real_epochs).
    """
    bench, config = sets.assembly.bench, sets.assembly.bench.config
    networks = [teacher.network for teacher in sets.assembly.teachers]
    count = config.students.seeds
    steps = table_steps(bench, sets.distilled.header.labels == "dynamic")
    rows = list(known)
    wanted = missing(config, rows)
    for source in _SETS:
        names = [name for name, of in wanted if of == source]
        if not names:
            continue
        chosen = sets[source]
        lessons = StudentData.of_set(chosen, networks)
        lessons = replace(lessons, final=lessons.final or source.endswith("_plain"))
        for name in names:
            where = folder / "students" / f"{name}-{source}"
            folders = {seed: where / f"seed{seed}" for seed in range(config.seed * count, (config.seed + 1) * count)}
            results = [
                train_student(bench, f"{name}-{source}-{seed}", backbone(name), lessons, steps, seed, place)
                for seed, place in folders.items()
            ]
            rows.append(
                _row(name, source, chosen.header.labels, results, chosen.payload, len(chosen), [*folders.values()])
            )
    for name in [name for name, of in wanted if of == "real"]:
        size, train = bench.data.train_bytes, bench.data.train
        most = max(steps, math.ceil(config.recipe.student.real_epochs * len(train) / config.recipe.student.batch))
        taught = [_train_real(bench, name, most, seed) for seed in range(count)]
        results, places = [result for result, _ in taught], [place for _, place in taught]
        rows.append(_row(name, "real", "hard", results, size, len(train), places))
    return sorted(rows, key=lambda row: [*SOURCES].index(row["source"]))


def _hard(distilled: DistilledSet) -> DistilledSet:
    """The same images, labelled by the classes of their naturals."""
    header = replace(distilled.header, labels="hard", space="probabilities", temperature=1.0, label_bytes=0, views=None)
    return replace(distilled, labels=None, choices=None, header=header)


def _images(distilled: DistilledSet) -> int:
    """Stored images, the paper's currency: naturals and compensators."""
    return len(distilled.targets) + len(distilled.compensators)


def _random(assembly: Assembly, distilled: DistilledSet) -> DistilledSet:
    kind = distilled.header.labels
    return assembly.rival(kind, distilled.payload - (distilled.header.label_bytes if kind == "dynamic" else 0))


_SAME = {
    "distilled_hard": "hard",
    "random_static": "static",
    "random_hard": "hard",
    "distilled_plain": "views",
    "random_plain": "views",
}
"""Rows that say the same as another where the distilled set's labels are of that kind: to views a student does nothing
more, and without them there are no labels."""

_SETS: dict[str, Callable[[Assembly, DistilledSet], DistilledSet]] = {
    "distilled": lambda _, distilled: distilled,
    "distilled_hard": lambda _, distilled: _hard(distilled),
    "random": _random,
    "random_images": lambda assembly, distilled: assembly.lookalike(distilled.header.labels, _images(distilled)),
    "random_static": lambda assembly, distilled: assembly.rival("static", distilled.payload),
    "random_hard": lambda assembly, distilled: assembly.rival("hard", distilled.payload),
    "distilled_plain": lambda _, distilled: distilled,
    "random_plain": _random,
}


def _train_real(bench: Bench, name: str, steps: int, seed: int) -> tuple[Mapping[str, Any], Path]:
    """A student on the whole real set, and its folder: the ceiling, shared by all runs on this data with this student
    recipe."""
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
    lessons = StudentData.of_real(bench.data)
    with bench.alone(folder / ".lock", f"student {name} of the real set"):
        return train_student(bench, f"{name}-real-{seed}", options, lessons, steps, seed, folder), folder


def _row(
    name: str,
    source: str,
    labels: str,
    results: Sequence[Mapping[str, Any]],
    size: int,
    images: int,
    folders: Sequence[Path],
) -> dict[str, Any]:
    accuracies = [result["accuracy"] for result in results]
    mean = statistics.fmean(accuracies)
    std = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    recalls = zip(*(result["recall"] for result in results), strict=True)
    log.info("student %s on %s: %.2f ± %.2f %%", name, source, 100 * mean, 100 * std)
    return {
        "backbone": name,
        "source": source,
        "labels": labels,
        "accuracies": accuracies,
        "accuracy_mean": mean,
        "accuracy_std": std,
        "balanced_accuracy": statistics.fmean(result["balanced_accuracy"] for result in results),
        "macro_f1": statistics.fmean(result["macro_f1"] for result in results),
        "recall": [statistics.fmean(seeds) for seeds in recalls],
        "seeds": len(accuracies),
        "seconds": round(sum(result["seconds"] for result in results), 2),
        "steps": results[0]["steps"],
        "bytes": size,
        "images": images,
        "weights": [str(folder / WEIGHTS) for folder in folders],
    }


def scores(rows: Sequence[Mapping[str, Any]], backbone: str) -> dict[str, float]:
    """DD-Ranking's scores (Li et al. 2025), 0 to 1, and their parts, -1 to 1; of these what the table has the rows for.

    ``label_robust``, of a = (improvement - hard_recovery) / 2: how much better than random naturals with the same
    labels and bytes, and what the images lack of the real set when both have hard labels. ``augmentation_robust``, of
    a = (improvement + plain_improvement) / 2: with augmentation and without. A score is (e^a - e^-1) / (e - e^-1).
    """
    mean = {row["source"]: row["accuracy_mean"] for row in rows if row["backbone"] == backbone}
    found: dict[str, float] = {}
    if {"distilled", "random"} <= set(mean):
        found["improvement"] = mean["distilled"] - mean["random"]
        if {"distilled_hard", "real"} <= set(mean):
            found["hard_recovery"] = mean["real"] - mean["distilled_hard"]
            found["label_robust"] = _normalised(found["improvement"] - found["hard_recovery"])
        if {"distilled_plain", "random_plain"} <= set(mean):
            found["plain_improvement"] = mean["distilled_plain"] - mean["random_plain"]
            found["augmentation_robust"] = _normalised(found["improvement"] + found["plain_improvement"])
    return found


def _normalised(total: float) -> float:
    return (math.exp(total / 2) - math.exp(-1)) / (math.e - math.exp(-1))
