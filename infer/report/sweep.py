"""Many runs as one table and one plot: accuracy against stored bytes, and differences with their intervals."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

from infer.core.files import write_bytes

Result = Mapping[str, Any]

_COLUMNS = (
    *("dataset", "setting", "ipc", "student", "source", "bytes", "accuracy", "std", "students"),
    *("against_random", "half_interval", "pairs"),
)


@dataclass(frozen=True)
class Line:
    """What one setting came to, over the seeds of its runs and their students; accuracies in 0 to 1.

    ``against`` holds (mean, half width of the 95 % interval, pairs) of the paired differences to random naturals; None
    where a run has none to be paired with.
    """

    dataset: str
    setting: str
    ipc: int
    backbone: str
    source: str
    bytes: float
    mean: float
    std: float
    students: int
    against: tuple[float, float, int] | None


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, int]:
    """Mean difference of pairs, half the width of its 95 % interval (Student's t), and the number of pairs.

    One pair has no interval: infinite.
    """
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    count = len(differences)
    if count < 2:
        return differences[0], math.inf, count
    error = statistics.stdev(differences) / math.sqrt(count)
    return statistics.fmean(differences), float(stdtrit(count - 1, 0.975)) * error, count


def lines(results: Sequence[tuple[str, Result]]) -> list[Line]:
    """Lines of (setting, content of result.json) of every run: a setting's distilled set, its rival, and the ceiling.

    Runs that differ in nothing but their seed share a setting, and their students are taken together.
    """
    cells: dict[tuple[str, str, int, str, str], list[tuple[Mapping[str, Any], Result]]] = {}
    for setting, result in results:
        for row in result["students"]:
            key = (result["dataset"], setting, result["ipc"], row["backbone"], row["source"])
            cells.setdefault(key, []).append((row, result))
    made = []
    for (dataset, setting, ipc, backbone, source), found in cells.items():
        taught: dict[str, float] = {}  # by where they lie: of the real set's students, which runs share, each once
        for row, _ in found:
            taught |= dict(zip(row["weights"], row["accuracies"], strict=True))
        accuracies = list(taught.values())
        against = None
        if source == "distilled":
            rivals = _rivals(setting, [result for _, result in found], backbone, results)
            if all(rivals):  # a pair for each set: its students have too much in common
                means = [statistics.fmean(row["accuracies"]) for row, _ in found]
                against = paired(means, [statistics.fmean(rival) for rival in rivals])
        size = statistics.fmean(row["bytes"] for row, _ in found)
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        mean = statistics.fmean(accuracies)
        made.append(Line(dataset, setting, ipc, backbone, source, size, mean, spread, len(accuracies), against))
    return made


def _rivals(
    setting: str, runs: Sequence[Result], backbone: str, results: Sequence[tuple[str, Result]]
) -> list[Sequence[float]]:
    """Of each of a setting's ``runs`` the accuracies on random naturals: its own row's, or, where one of them has none,
    all of runs of method=random whose setting, seed and budget are the same; empty where there is no such run.

    Of one kind for all: the row has the run's bytes, the run as many images.
    """
    own = [_accuracies(run, backbone, "random") for run in runs]
    return own if all(own) else [_random_run(setting, run, backbone, results) for run in runs]


def _random_run(setting: str, run: Result, backbone: str, results: Sequence[tuple[str, Result]]) -> Sequence[float]:
    same = ("dataset", "ipc", "seed", "budget", "labels", "recipe")
    for name, other in results:
        alike = _beside_method(name) == _beside_method(setting) and all(other.get(k) == run.get(k) for k in same)
        if alike and run["method"] != "random" == other["method"]:
            return _accuracies(other, backbone, "distilled")
    return []


def _accuracies(result: Result, backbone: str, source: str) -> Sequence[float]:
    rows = (row for row in result["students"] if (row["backbone"], row["source"]) == (backbone, source))
    return next((row["accuracies"] for row in rows), [])


def _beside_method(setting: str) -> list[str]:
    return [word for word in setting.split() if not word.startswith("method")]


def write(results: Sequence[tuple[str, Result]], folder: Path) -> list[Path]:
    """``folder``/table.csv, and a plot of every data set and student in ``folder``; returns the paths."""
    made = lines(results)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(_COLUMNS)
    for line in made:
        against = [f"{x:.6g}" for x in line.against] if line.against else ["", "", ""]
        numbers = [f"{line.bytes:.0f}", f"{line.mean:.6g}", f"{line.std:.6g}", line.students]
        writer.writerow([line.dataset, line.setting, line.ipc, line.backbone, line.source, *numbers, *against])
    write_bytes(folder / "table.csv", table.getvalue().encode())
    paths = [folder / "table.csv"]
    for dataset, backbone in dict.fromkeys((line.dataset, line.backbone) for line in made):
        path = folder / f"{dataset}-{backbone}.png"
        some = [line for line in made if (line.dataset, line.backbone) == (dataset, backbone)]
        write_bytes(path, plot(some))
        paths.append(path)
    return paths


def plot(made: Sequence[Line]) -> bytes:
    """A PNG of the lines of one data set and student: a curve for each setting against its stored bytes, and against
    its ipc, the paper's currency; the real set dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    against = {
        "stored bytes": lambda line: line.bytes,
        "ipc, images per class that may be stored": lambda line: line.ipc,
    }
    for axes, (name, measure) in zip(figure.subplots(1, 2, sharey=True), against.items(), strict=True):
        distilled = [line for line in made if line.source == "distilled"]
        for setting in dict.fromkeys(line.setting for line in distilled):
            points = sorted((line for line in distilled if line.setting == setting), key=measure)
            axes.errorbar(
                [measure(point) for point in points],
                [100 * point.mean for point in points],
                [100 * point.std for point in points],
                marker="o",
                capsize=3,
                label=setting,
            )
        real = [line for line in made if line.source == "real"]
        if real:
            axes.axhline(100 * real[0].mean, color="black", linestyle="--", label=f"real set, {real[0].bytes:,.0f} B")
        axes.set(xscale="log", xlabel=name)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(alpha=0.3)
        axes.label_outer()
    axes.set_xticks(sorted({line.ipc for line in made}))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    figure.supylabel("test accuracy, %")
    figure.suptitle(f"{made[0].dataset}, student {made[0].backbone}: mean and std")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def show(results: Sequence[tuple[str, Result]]) -> None:
    """Print the lines."""
    table = Table(title="Test accuracy, last epoch: mean and std over all students of a setting", title_justify="left")
    for column in ("data", "setting", "ipc", "student", "trained on"):
        table.add_column(column, overflow="fold")
    for column in ("bytes", "accuracy %", "n", "against random, 95 %"):
        table.add_column(column, justify="right")
    for line in lines(results):
        against = ""
        if line.against:
            mean, half, _ = line.against
            against = f"{100 * mean:+.1f}" + (f" ± {100 * half:.1f}" if math.isfinite(half) else "")
        accuracy = f"{100 * line.mean:.1f} ± {100 * line.std:.1f}"
        names = [line.dataset, line.setting, str(line.ipc), line.backbone, line.source]
        table.add_row(*names, f"{line.bytes:,.0f}", accuracy, str(line.students), against)
    Console(width=None if Console().is_terminal else 160).print(table)
