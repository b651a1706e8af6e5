"""Accuracy against the bytes of a file: runs of experiment=frontier-* beside the figures of papers, as table and plot.

    python benchmarks/frontier.py outputs/distill/cifar*/*bytes --to docs/results/frontier

table.csv has a row for each data set, size and source, over all seeds that were run, and one for each published point;
cost.csv has the seconds and the memory of every run; frontier.png shows the points over the logarithm of the bytes.
The published ones, of the same student on official pictures, were read from a figure of Bao et al. (ICCV 2025).
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

STUDENT = "convnet_instance"
COLUMNS = ("dataset", "method", "student", "bytes", "accuracy", "std", "seeds", "published")
COSTS = ("dataset", "bytes", "seed", "pictures", "views", "teachers_s", "assemble_s", "student_s", "peak_bytes")
PUBLISHED = {
    ("cifar10", "TM-RUO"): [(131_000, 0.703), (960_000, 0.775), (2_500_000, 0.797)],
    ("cifar10", "NSD"): [(123_000, 0.685), (1_230_000, 0.734), (6_100_000, 0.752)],
    ("cifar10", "DDiF"): [(123_000, 0.665), (1_230_000, 0.74), (6_100_000, 0.775)],
    ("cifar10", "HMN"): [(123_000, 0.657), (1_230_000, 0.737), (6_100_000, 0.769)],
    ("cifar10", "SPEED"): [(123_000, 0.632), (1_230_000, 0.736), (6_100_000, 0.777)],
    ("cifar10", "FreD"): [(123_000, 0.606), (1_230_000, 0.703)],
    ("cifar10", "HaBa"): [(123_000, 0.483), (1_230_000, 0.699)],
    ("cifar10", "IDC"): [(123_000, 0.5), (1_230_000, 0.675)],
    ("cifar100", "TM-RUO"): [(860_000, 0.444), (5_400_000, 0.492)],
    ("cifar100", "DDiF"): [(1_230_000, 0.421), (12_300_000, 0.46), (61_000_000, 0.499)],
}
"""Bytes of the whole set and accuracy (0 to 1), by data set and method."""

Result = Mapping[str, Any]


def measured(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return a row for each data set, size and source: the file, random pictures in as many bytes, all pictures."""
    found: dict[tuple[str, str, int], list[tuple[int, float]]] = defaultdict(list)
    for result in results:
        size = result["budget"]["bytes"]
        for row in result["students"]:
            if row["backbone"] != STUDENT:
                continue
            method = result["method"] if row["source"] == "distilled" else row["source"]
            taken = result["bytes"]["file"] if row["source"] == "distilled" else row["bytes"]
            group = found[result["dataset"], method, size if method != "real" else 0]
            group += [(taken, accuracy) for accuracy in row["accuracies"] if method != "real" or not group]
    return [
        {
            "dataset": dataset,
            "method": method,
            "student": STUDENT,
            "bytes": max(taken for taken, _ in group),
            "accuracy": round(statistics.fmean(accuracy for _, accuracy in group), 5),
            "std": round(statistics.stdev(accuracy for _, accuracy in group), 5) if len(group) > 1 else 0.0,
            "seeds": len(group),
            "published": "false",
        }
        for (dataset, method, _), group in sorted(found.items())
    ]


def published() -> list[dict[str, Any]]:
    """Return the rows of the papers."""
    return [
        {"dataset": dataset, "method": method, "student": STUDENT, "bytes": size, "accuracy": accuracy}
        | {"std": "", "seeds": "", "published": "true"}
        for (dataset, method), points in PUBLISHED.items()
        for size, accuracy in points
    ]


def costs(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return the seconds of the stages of every run, and the peak of its memory."""
    return [
        {
            "dataset": result["dataset"],
            "bytes": result["budget"]["bytes"],
            "seed": result["seed"],
            "pictures": sum(result["images"]["naturals"]),
            "views": result["images"]["views"],
            "teachers_s": round(result["seconds"]["teachers"]),
            "assemble_s": round(result["seconds"]["assemble"]),
            "student_s": round(sum(row["seconds"] for row in result["students"] if row["source"] == "distilled")),
            "peak_bytes": result["hardware"]["peak_bytes"],
        }
        for result in results
    ]


def write(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV."""
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Plot accuracy in % against bytes; all pictures are a dashed line."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    names = list(dict.fromkeys(row["dataset"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(5.2 * len(names), 4.2), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        lines: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            if row["dataset"] == name:
                lines[row["method"]].append(row)
        for method, points in lines.items():
            own = points[0]["published"] == "false"
            if method == "real":
                axis.axhline(100 * points[0]["accuracy"], color="black", linestyle="--", label="all pictures")
                continue
            points = sorted(points, key=lambda row: row["bytes"])
            x, y = [row["bytes"] for row in points], [100 * row["accuracy"] for row in points]
            error = [100 * (row["std"] or 0) for row in points] if own else None
            axis.errorbar(x, y, error, marker="o" if own else ".", linewidth=2 if own else 1, alpha=1 if own else 0.7,
                          label=method if own else f"{method} (published)")  # fmt: skip
        axis.set(xscale="log", xlabel="bytes of the set", ylabel="accuracy of ConvNet, %", title=name)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.legend(fontsize="x-small")
    figure.savefig(file, dpi=120)


def main() -> None:
    """Read the results, and write tables and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, with seed<N> below them")
    parser.add_argument("--to", type=Path, default=Path("frontier"), help="folder of the tables and the plot")
    options = parser.parse_args()
    files = sorted(file for folder in options.runs for file in folder.glob("seed*/result.json"))
    results = [json.loads(file.read_text()) for file in files]
    rows = measured(results) + published()
    options.to.mkdir(parents=True, exist_ok=True)
    write(options.to / "table.csv", COLUMNS, rows)
    write(options.to / "cost.csv", COSTS, costs(results))
    draw(options.to / "frontier.png", rows)
    for row in rows:
        print(f"{row['dataset']:9} {row['method']:12} {row['bytes']:>11,} B  {100 * row['accuracy']:.1f} %")


if __name__ == "__main__":
    main()
