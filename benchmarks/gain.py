"""Gain of compensators: accuracy of method=infer less that of random images, against classes per teacher.

    python benchmarks/gain.py --to docs/results/subclasses outputs/distill/*/infer-ipc*/seed*/result.json

A compensator of the published split serves one image of every class. With C classes and M teachers, a round of C
natural images also stores M compensators, M/C for each natural image, which is cheap where C/M is large. The script
reads runs of ``distill.py method=infer students.sources=[distilled,random,random_images]``. It writes gain.csv and
gain.png: the paired differences to as many random images, and to as many random images as the same bytes hold; the
bytes include the labels of composed images.
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

BASELINES = {"random_images": "as many images", "random": "as many bytes"}


class Point(NamedTuple):
    """A row of gain.csv: mean accuracies over the seeds, and their difference, in 0 to 1.

    ``rival`` is the baseline, a key of :data:`BASELINES`. ``half`` is half the width of the difference's 95 % interval,
    infinite for one pair. Recorded tables have these column names.
    """

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
    """Combine runs into a point for each data set, ipc, student, number of teachers and baseline, over all seeds.

    Args:
        paths: result.json of each run, with settings.json beside it.

    Returns:
        The points in the order of baseline, ipc and classes per teacher.

    Raises:
        SystemExit: if runs of a point differ in more than their seed, or a run lacks a row.
    """
    groups: dict[tuple[str, int, str, int], list[tuple[Path, Mapping[str, Any]]]] = {}
    for path in paths:
        result = json.loads(path.read_text())
        for name in dict.fromkeys(row["backbone"] for row in result["students"]):
            key = result["dataset"], result["ipc"], name, len(result["teachers"])
            groups.setdefault(key, []).append((path, result))
    found = []
    for (dataset, ipc, name, teachers), group in groups.items():
        settings = [json.loads(path.with_name("settings.json").read_text()) | {"seed": None} for path, _ in group]
        if any(other != settings[0] for other in settings):
            raise SystemExit(f"error: {dataset}, ipc {ipc}: runs of different settings; name the files of one command")
        known = {row["source"] for _, result in group for row in result["students"] if row["backbone"] == name}
        classes = group[0][1]["classes"]
        for baseline in [source for source in BASELINES if source in known] or [*BASELINES]:
            ours, theirs = ([_row(*run, name, of) for run in group] for of in ("distilled", baseline))
            means = statistics.fmean(ours), statistics.fmean(theirs)
            found.append(Point(dataset, ipc, name, baseline, classes, teachers, *means, *paired(ours, theirs)))
    return sorted(found, key=lambda point: ([*BASELINES].index(point.rival), point.ipc, point.classes / point.teachers))


def _row(path: Path, result: Mapping[str, Any], name: str, source: str) -> float:
    """Return the mean accuracy of the students of a set; a set counts once, whatever its number of students."""
    for row in result["students"]:
        if (row["backbone"], row["source"]) == (name, source):
            return float(row["accuracy_mean"])
    raise SystemExit(f"error: {path}: no row {source}; run its command with students.sources=[distilled,{source}]")


def plot(found: Sequence[Point], path: Path) -> None:
    """Plot the gain against C/M, with a line for each baseline and ipc."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for baseline, ipc in dict.fromkeys((point.rival, point.ipc) for point in found):
        some = [point for point in found if (point.rival, point.ipc) == (baseline, ipc)]
        axes.errorbar(
            [point.classes / point.teachers for point in some],
            [100 * point.gain for point in some],
            [100 * point.half if math.isfinite(point.half) else math.nan for point in some],
            marker="o",
            capsize=3,
            label=f"ipc {ipc}, {BASELINES[baseline]}",
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="classes / teachers (C/M)", ylabel="infer - random, points of accuracy")
    ratios = sorted({point.classes / point.teachers for point in found})
    axes.set_xticks(ratios, [f"{ratio:.3g}" for ratio in ratios])
    axes.minorticks_off()
    axes.set_title("Gain of compensators: mean and 95 % interval of paired differences")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse the arguments, read the runs, write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="result.json of runs with method=infer")
    parser.add_argument("--to", type=Path, required=True, help="folder for gain.csv and gain.png")
    options = parser.parse_args()
    found = points(options.results)
    options.to.mkdir(parents=True, exist_ok=True)
    with (options.to / "gain.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Point._fields)
        writer.writerows([f"{x:.6g}" if isinstance(x, float) else x for x in point] for point in found)
    plot(found, options.to / "gain.png")
    for point in found:
        at = f"{point.dataset}, ipc {point.ipc}, C/M {point.classes / point.teachers:.1f}, {BASELINES[point.rival]}"
        print(f"{at}: {100 * point.gain:+.1f} ± {100 * point.half:.1f}")


if __name__ == "__main__":
    main()
