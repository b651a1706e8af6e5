"""Many runs as one table and one plot: accuracy against stored bytes, and paired differences with intervals."""

from __future__ import annotations

import csv
import io
import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

from infer.core.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = Mapping[str, Any]

_COLUMNS = (
    *("dataset", "setting", "ipc", "student", "source", "bytes", "accuracy", "std", "students"),
    *("against_random", "half_interval", "pairs"),
)
_WIDTH = 160  # columns of the table where the output is no terminal
_LEGEND = 40  # letters of a line in the legend


class Difference(NamedTuple):
    """A mean of paired differences, half the width of its 95 % interval, and the number of pairs."""

    mean: float
    half: float
    pairs: int


class Line(NamedTuple):
    """The result of one setting, source and student over the seeds of its runs.

    Attributes:
        dataset: Name of the data set.
        setting: The overrides that its runs share.
        ipc: Images per class.
        backbone: The student.
        source: What the students were trained on, a key of :data:`infer.core.sources.SOURCES`.
        bytes: Mean stored bytes.
        mean: Mean accuracy over the students, 0 to 1.
        std: Standard deviation of the accuracy.
        students: Number of students.
        against: Difference to random images; None if a run has no counterpart to be paired with.
    """

    dataset: str
    setting: str
    ipc: float
    backbone: str
    source: str
    bytes: float
    mean: float
    std: float
    students: int
    against: Difference | None


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Compute the mean of paired differences and its 95 % interval (Student's t).

    Args:
        ours: Accuracies.
        theirs: The accuracies they are compared with, in the same order.

    Returns:
        The difference. The interval of a single pair is infinite.
    """
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    count = len(differences)
    if count < 2:
        return Difference(differences[0], math.inf, count)
    error = statistics.stdev(differences) / math.sqrt(count)
    return Difference(statistics.fmean(differences), float(stdtrit(count - 1, 0.975)) * error, count)


def lines(results: Sequence[tuple[str, Result]]) -> list[Line]:
    """Combine the rows of many runs: one line for each setting, source and student.

    Args:
        results: (setting, content of result.json) of every run. Runs that differ in their seed alone have the same
            setting.

    Returns:
        The lines, in the order of the runs.
    """
    cells: dict[tuple[str, str, float, str, str], list[tuple[Mapping[str, Any], Result]]] = {}
    for setting, result in results:
        for row in result["students"]:
            key = (result["dataset"], setting, result["ipc"], row["backbone"], row["source"])
            cells.setdefault(key, []).append((row, result))
    combined = []
    for key, found in cells.items():
        _, setting, _, backbone, source = key
        rows, runs = [row for row, _ in found], [result for _, result in found]
        # Runs share the students of the full training set. The path of its weights identifies a student.
        students: dict[str, float] = {}
        for row in rows:
            students |= dict(zip(row["weights"], row["accuracies"], strict=True))
        accuracies = list(students.values())
        size, mean = statistics.fmean(row["bytes"] for row in rows), statistics.fmean(accuracies)
        std = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        against = _against_random(rows, _baselines(setting, runs, backbone, results)) if source == "distilled" else None
        combined.append(Line(*key, size, mean, std, len(accuracies), against))
    return combined


def _against_random(rows: Sequence[Mapping[str, Any]], baselines: Sequence[Sequence[float]]) -> Difference | None:
    """Compute the difference of the runs' ``rows`` to the accuracies of their baselines; None if a run has no baseline.

    A run is one pair, because its students share one file and are not independent.
    """
    if not all(baselines):
        return None
    means = [statistics.fmean(row["accuracies"]) for row in rows]
    return paired(means, [statistics.fmean(baseline) for baseline in baselines])


def _baselines(
    setting: str, runs: Sequence[Result], backbone: str, results: Sequence[tuple[str, Result]]
) -> list[Sequence[float]]:
    """Return the accuracies on random images that each of a setting's ``runs`` is compared with; empty without any.

    They are those of the run's own row (as many bytes). If one of the runs lacks the row, they are those of the runs of
    method=random (as many images) for all of them, so that one mean never combines both kinds.
    """
    own = [_accuracies(run, backbone, "random") for run in runs]
    return own if all(own) else [_random_run(setting, run, backbone, results) for run in runs]


def _random_run(setting: str, run: Result, backbone: str, results: Sequence[tuple[str, Result]]) -> Sequence[float]:
    """Return the accuracies of the run of method=random with the setting, seed and budget of ``run``."""
    same = ("dataset", "ipc", "seed", "budget", "labels", "recipe")
    for name, other in results:
        equal = _without_method(name) == _without_method(setting) and all(other.get(k) == run.get(k) for k in same)
        if equal and run["method"] != "random" == other["method"]:
            return _accuracies(other, backbone, "distilled")
    return []


def _accuracies(result: Result, backbone: str, source: str) -> Sequence[float]:
    """Return the accuracies of a row of ``result``; empty if it lacks the row."""
    rows = (row for row in result["students"] if (row["backbone"], row["source"]) == (backbone, source))
    return next((row["accuracies"] for row in rows), [])


def _without_method(setting: str) -> list[str]:
    """Return the overrides of a setting, without those of the method."""
    return [word for word in setting.split() if not word.startswith("method")]


def write(results: Sequence[tuple[str, Result]], folder: Path) -> list[Path]:
    """Write the table and the plots of many runs.

    Args:
        results: (setting, content of result.json) of every run.
        folder: The folder of table.csv and of a <dataset>-<student>.png for every data set and student.

    Returns:
        The paths of the files.

    Raises:
        UserError: If a file cannot be written.
    """
    combined = lines(results)
    paths = [folder / "table.csv"]
    write_bytes(paths[0], _csv(combined).encode())
    for dataset, backbone in dict.fromkeys((line.dataset, line.backbone) for line in combined):
        paths.append(folder / f"{dataset}-{backbone}.png")
        chosen = [line for line in combined if (line.dataset, line.backbone) == (dataset, backbone)]
        write_bytes(paths[-1], plot(chosen))
    return paths


def _csv(combined: Sequence[Line]) -> str:
    """Format the lines as CSV. One student has no standard deviation, one pair no interval."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(_COLUMNS)
    for line in combined:
        against = [f"{x:.6g}" if math.isfinite(x) else "" for x in line.against] if line.against else ["", "", ""]
        std = f"{line.std:.6g}" if line.students > 1 else ""
        numbers = [f"{line.bytes:.0f}", f"{line.mean:.6g}", std, line.students]
        writer.writerow([line.dataset, line.setting, line.ipc, line.backbone, line.source, *numbers, *against])
    return table.getvalue()


def plot(combined: Sequence[Line]) -> bytes:
    """Plot accuracy against stored bytes and against ipc.

    Args:
        combined: The lines of one data set and student. Every setting is a curve; the full training set is a dashed
            line.

    Returns:
        The content of the PNG file.
    """
    from matplotlib.figure import Figure

    from infer.report.plot_text import literal_text

    with literal_text():
        figure = Figure(figsize=(12, 5), layout="constrained")
        _draw(figure, combined)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw(figure: Figure, combined: Sequence[Line]) -> None:
    """Draw the two plots and their legend."""
    by_bytes, by_ipc = figure.subplots(1, 2, sharey=True)
    _curves(by_bytes, combined, "stored size (bytes)", lambda line: line.bytes)
    _curves(by_ipc, combined, "ipc (images per class that may be stored)", lambda line: line.ipc)
    by_ipc.set_xticks(sorted({line.ipc for line in combined}))
    figure.legend(*by_ipc.get_legend_handles_labels(), loc="outside right center")
    figure.supylabel("test accuracy (%)")
    figure.suptitle(f"{combined[0].dataset}, student {combined[0].backbone}: mean and std")


def _curves(axes: Axes, combined: Sequence[Line], name: str, measure: Callable[[Line], float]) -> None:
    """Draw the accuracy of every setting against ``measure``, whose axis is called ``name``."""
    distilled = [line for line in combined if line.source == "distilled"]
    for setting in dict.fromkeys(line.setting for line in distilled):
        points = sorted((line for line in distilled if line.setting == setting), key=measure)
        axes.errorbar(
            [measure(point) for point in points],
            [100 * point.mean for point in points],
            [100 * point.std for point in points],
            marker="o",
            capsize=3,
            label=textwrap.fill(setting, _LEGEND),
        )
    real = [line for line in combined if line.source == "real"]
    if real:
        label = f"full training set, {real[0].bytes:,.0f} B"
        axes.axhline(100 * real[0].mean, color="black", linestyle="--", label=label)
    axes.set(xscale="log", xlabel=name)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)
    axes.label_outer()


def show(results: Sequence[tuple[str, Result]]) -> None:
    """Print the lines of many runs as a table.

    Args:
        results: (setting, content of result.json) of every run.
    """
    table = Table(title="Test accuracy, last epoch: mean and std over all students of a setting", title_justify="left")
    for column in ("data", "setting", "ipc", "student", "trained on"):
        table.add_column(column, overflow="fold")
    for column in ("bytes", "accuracy %", "n", "against random, 95 %"):
        table.add_column(column, justify="right")
    for line in lines(results):
        against = ""
        if line.against:
            half = f" ± {100 * line.against.half:.1f}" if math.isfinite(line.against.half) else ""
            against = f"{100 * line.against.mean:+.1f}{half}"
        accuracy = f"{100 * line.mean:.1f}" + (f" ± {100 * line.std:.1f}" if line.students > 1 else "")
        names = [line.dataset, line.setting, str(line.ipc), line.backbone, line.source]
        table.add_row(*names, f"{line.bytes:,.0f}", accuracy, str(line.students), against)
    Console(width=None if Console().is_terminal else _WIDTH).print(table)
