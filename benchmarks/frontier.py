"""Accuracy against the bytes of a file: runs of experiment=frontier-* beside the figures of papers, as table and plot.

    python benchmarks/frontier.py outputs/distill/cifar*/*bytes --to docs/results/frontier

runs.csv has a row for each student, with what it cost. Those that are there stay, so that runs of several days come
together; a student that was trained again takes the place of its row. table.csv has a row for each data set, size,
source and settings, over all seeds, and one for each published point; frontier.png shows them over the logarithm of
the bytes. The published ones, of the same student on official pictures, were read from a figure of Bao et al. (ICCV
2025).
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
POINT = ("dataset", "method", "budget", "teachers", "steps", "share", "quality")
"""What the students of one row of the table have in common."""
RUNS = (*POINT, "seed", "bytes", "accuracy", "pictures", "views", "teachers_s", "assemble_s", "student_s", "peak_bytes")
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


def students(result: Result) -> list[dict[str, Any]]:
    """Return the rows of a run: its file, random pictures in as many bytes, all pictures."""
    budget, seconds = result["budget"], result["seconds"]
    settings = {
        "budget": budget["bytes"],
        "teachers": "+".join(result["teachers"]),
        "steps": result["recipe"]["steps"],
        "share": budget["label_share"],
        "quality": budget["quality"],
    }
    rows = []
    for student in result["students"]:
        if student["backbone"] != STUDENT:
            continue
        ours, real = student["source"] == "distilled", student["source"] == "real"
        (accuracy,) = student["accuracies"]  # one of each seed, whose pictures are its own
        rows.append(
            {
                "dataset": result["dataset"],
                "method": result["method"] if ours else student["source"],
                **(dict.fromkeys(settings, "") if real else settings),
                "seed": result["seed"],
                "bytes": result["bytes"]["file"] if ours else student["bytes"],
                "accuracy": round(accuracy, 5),
                "pictures": sum(result["images"]["naturals"]) if ours else "",
                "views": result["images"]["views"] if ours else "",
                "teachers_s": round(seconds["teachers"]),
                "assemble_s": round(seconds["assemble"]),
                "student_s": round(student["seconds"]),
                "peak_bytes": result["hardware"]["peak_bytes"],
            }
        )
    return rows


def merged(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the rows in order, the last one of each student."""
    latest = {}
    for row in rows:
        latest[tuple(str(row[column]) for column in (*POINT, "seed"))] = {name: str(row[name]) for name in RUNS}
    return [latest[key] for key in sorted(latest)]


def measured(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return a row of the table for the students that differ by nothing but their seed."""
    found: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in POINT)].append(row)
    table = []
    for group in found.values():
        accuracies = [float(row["accuracy"]) for row in group]
        table.append(
            {
                "dataset": group[0]["dataset"],
                "method": group[0]["method"],
                "student": STUDENT,
                "bytes": max(int(row["bytes"]) for row in group),
                "accuracy": round(statistics.fmean(accuracies), 5),
                "std": round(statistics.stdev(accuracies), 5) if len(group) > 1 else 0.0,
                "seeds": len(group),
                "published": "false",
            }
        )
    return sorted(table, key=lambda row: (row["dataset"], row["method"], row["bytes"]))


def published() -> list[dict[str, Any]]:
    """Return the rows of the papers."""
    return [
        {"dataset": dataset, "method": method, "student": STUDENT, "bytes": size, "accuracy": accuracy}
        | {"std": "", "seeds": "", "published": "true"}
        for (dataset, method), points in PUBLISHED.items()
        for size, accuracy in points
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
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs, with seed<N> below them")
    parser.add_argument("--to", type=Path, default=Path("frontier"), help="folder of the tables and the plot")
    options = parser.parse_args()
    files = sorted(file for folder in options.runs for file in folder.glob("seed*/result.json"))
    options.to.mkdir(parents=True, exist_ok=True)
    known = options.to / "runs.csv"
    runs = list(csv.DictReader(known.read_text().splitlines())) if known.exists() else []
    runs = merged([*runs, *(row for file in files for row in students(json.loads(file.read_text())))])
    rows = measured(runs) + published()
    write(known, RUNS, runs)
    write(options.to / "table.csv", COLUMNS, rows)
    draw(options.to / "frontier.png", rows)
    for row in rows:
        print(f"{row['dataset']:9} {row['method']:12} {row['bytes']:>11,} B  {100 * row['accuracy']:.1f} %")


if __name__ == "__main__":
    main()
