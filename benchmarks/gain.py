"""Where a compensator pays: what method=infer gains over random pictures, against classes a teacher.

    python benchmarks/gain.py --to docs/results/subclasses outputs/distill/*/infer-ipc*/seed*/result.json

A compensator of the published split serves one image of every class, so that of C classes and M teachers each round of
C naturals stores M/C images more per natural: cheap where C/M is large. This draws the paired differences of runs that
``distill.py method=infer students.sources=[distilled,random,random_images]`` left, as gain.csv and gain.png: against as
many random images, and against as many as its bytes hold, labels of composed images counted.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from infer.report.sweep import paired

RIVALS = {"random_images": "as many images", "random": "as many bytes"}


class Point(NamedTuple):
    """Accuracies and their difference in 0 to 1; ``half`` is half of its 95 % interval, infinite for one pair."""

    dataset: str
    ipc: int
    student: str
    rival: str
    classes: int
    teachers: int
    infer: float
    random: float
    gain: float
    half: float
    pairs: int


def points(paths: Sequence[Path]) -> list[Point]:
    """A point for each data set, ipc, student, number of teachers and rival that its runs have, over all seeds; ordered
    by rival, ipc, and classes a teacher.

    Ends with one line where runs of a point differ in more than their seed, or lack a row.
    """
    groups: dict[tuple[str, int, str, int], list[tuple[Path, Mapping[str, Any]]]] = {}
    for path in paths:
        result = json.loads(path.read_text())
        for name in dict.fromkeys(row["backbone"] for row in result["students"]):
            key = result["dataset"], result["ipc"], name, len(result["teachers"])
            groups.setdefault(key, []).append((path, result))
    made = []
    for (dataset, ipc, name, teachers), group in groups.items():
        settings = [json.loads(path.with_name("settings.json").read_text()) | {"seed": None} for path, _ in group]
        if any(other != settings[0] for other in settings):
            raise SystemExit(f"error: {dataset}, ipc {ipc}: runs of different settings; name the files of one command")
        known = {row["source"] for _, result in group for row in result["students"] if row["backbone"] == name}
        classes = group[0][1]["classes"]
        for rival in [source for source in RIVALS if source in known] or [*RIVALS]:
            ours, theirs = ([_row(*found, name, of) for found in group] for of in ("distilled", rival))
            means = statistics.fmean(ours), statistics.fmean(theirs)
            made.append(Point(dataset, ipc, name, rival, classes, teachers, *means, *paired(ours, theirs)))
    return sorted(made, key=lambda point: ([*RIVALS].index(point.rival), point.ipc, point.classes / point.teachers))


def _row(path: Path, result: Mapping[str, Any], name: str, source: str) -> float:
    """The mean of a set's students: they are no pairs of their own."""
    for row in result["students"]:
        if (row["backbone"], row["source"]) == (name, source):
            return float(row["accuracy_mean"])
    raise SystemExit(f"error: {path}: no row {source}; run its command with students.sources=[distilled,{source}]")


def plot(made: Sequence[Point], path: Path) -> None:
    """The gain against C/M, a line for each rival and ipc."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for rival, ipc in dict.fromkeys((point.rival, point.ipc) for point in made):
        some = [point for point in made if (point.rival, point.ipc) == (rival, ipc)]
        axes.errorbar(
            [point.classes / point.teachers for point in some],
            [100 * point.gain for point in some],
            [100 * point.half if math.isfinite(point.half) else math.nan for point in some],
            marker="o",
            capsize=3,
            label=f"ipc {ipc}, {RIVALS[rival]}",
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="classes / teachers (C/M)", ylabel="infer - random, points of accuracy")
    ratios = sorted({point.classes / point.teachers for point in made})
    axes.set_xticks(ratios, [f"{ratio:.3g}" for ratio in ratios])
    axes.minorticks_off()
    axes.set_title("What compensators gain: mean and 95 % interval of paired differences")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse, read, write."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("results", type=Path, nargs="+", help="result.json of runs with method=infer")
    made.add_argument("--to", type=Path, required=True, help="folder for gain.csv and gain.png")
    options = made.parse_args()
    found = points(options.results)
    options.to.mkdir(parents=True, exist_ok=True)
    with (options.to / "gain.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in point] for point in found)
    plot(found, options.to / "gain.png")
    for point in found:
        at = f"{point.dataset}, ipc {point.ipc}, C/M {point.classes / point.teachers:.1f}, {RIVALS[point.rival]}"
        print(f"{at}: {100 * point.gain:+.1f} ± {100 * point.half:.1f}")


if __name__ == "__main__":
    main()
