"""The learning curve: accuracy against the size of a training set, with intervals, and the budget to recommend."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from scipy.special import stdtrit

from infer.report.decisions import LEVEL, NORMAL

_REPLACED = ("budget.bytes", "report.curve")
"""Keys that a command at another budget has values of its own for."""


def curve_point(
    row: Mapping[str, Any], budget: int | None, test_pictures: Sequence[int], balanced: bool
) -> dict[str, Any]:
    """Return the point of a row of the comparison.

    Args:
        row: with ``pictures``.
        budget: bytes of the distilled file that the row is compared with; None for all pictures.
        test_pictures: number of test pictures of each class.
        balanced: whether every class has the same weight.

    Returns:
        The ``source``, its stored ``pictures``, the ``bytes`` of its pictures and labels, the mean ``accuracy`` (0 to
        1) with the ends of its interval, ``low`` and ``high``, the ``budget``, and of the students the ``backbone``,
        their number (``seeds``) and the ``seconds`` of their trainings.
    """
    accuracies = row["balanced_accuracies" if balanced else "accuracies"]
    low, high = interval(accuracies, effective_count(test_pictures, balanced))
    return {
        "source": row["source"],
        "pictures": row["pictures"],
        "bytes": row["bytes"],
        "accuracy": statistics.fmean(accuracies),
        "low": low,
        "high": high,
        "budget": budget,
        "backbone": row["backbone"],
        "seeds": row["seeds"],
        "seconds": row["seconds"],
    }


def effective_count(test_pictures: Sequence[int], balanced: bool) -> float:
    """Return the number of equally weighted test pictures whose mean varies as much.

    With w the weight of a picture it is 1 / sum(w²), where the weights have the sum 1.

    Args:
        test_pictures: number of test pictures of each class.
        balanced: whether every class, and not every picture, has the same weight.

    Example:
        >>> effective_count([10, 30], balanced=False), effective_count([10, 30], balanced=True)
        (40, 30.0)
    """
    counts = [count for count in test_pictures if count]
    return len(counts) ** 2 / sum(1 / count for count in counts) if balanced else sum(counts)


def interval(accuracies: Sequence[float], count: float) -> tuple[float, float]:
    """Estimate the interval of an accuracy, for other test pictures and other students.

    The choice of test pictures is covered by Wilson's interval, which has a width where all of them are classified
    correctly; the choice of students by Student's t of the standard error of their mean. Half widths are added in
    quadrature, on each side. A single student gives no estimate of the second.

    Args:
        accuracies: of the students, 0 to 1.
        count: number of test pictures.

    Returns:
        The ends of the interval at the level of the report, within 0 to 1.

    Reference:
        Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.

    Example:
        >>> low, high = interval([1.0], 20)
        >>> round(low, 3), high
        (0.839, 1.0)
    """
    mean, students = statistics.fmean(accuracies), len(accuracies)
    centre = (mean + NORMAL**2 / (2 * count)) / (1 + NORMAL**2 / count)
    half = NORMAL / (1 + NORMAL**2 / count) * math.sqrt(mean * (1 - mean) / count + (NORMAL / (2 * count)) ** 2)
    spread = 0.0
    if students > 1:
        error = statistics.stdev(accuracies) / math.sqrt(students)
        spread = float(stdtrit(students - 1, (1 + LEVEL) / 2)) * error
    below, above = mean - (centre - half), centre + half - mean
    return max(0.0, mean - math.hypot(below, spread)), min(1.0, mean + math.hypot(above, spread))


def recommendation(result: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """Recommend the smallest budget from which on no file of the curve loses more accuracy than is acceptable.

    A small file that is within the tolerance while a larger one is not was lucky, and another seed may not be.

    Args:
        result: The content of result.json.
        tolerance: Acceptable loss of accuracy against all pictures, in percentage points.

    Returns:
        ``recommended``: its ``pictures``, ``bytes`` and ``budget``, the loss ``within`` (0 to 1), and the ``command``
        that distils it; or None where no file of the curve is good enough. Nothing where there is no curve.
    """
    points = result.get("curve")
    if not points:
        return {}
    real = next(point["accuracy"] for point in points if point["source"] == "real")
    files = [point for point in points if point["source"] == "distilled"]
    largest_first = sorted(files, key=lambda point: -point["budget"])
    within = list(takewhile(lambda point: real - point["accuracy"] <= tolerance / 100, largest_first))
    if not within:
        return {"recommended": None}
    point = within[-1]
    own = point["budget"] == result["bytes"]["budget"]
    command = result["command"] if own else command_at(result["command"], point["budget"])
    facts = {key: point[key] for key in ("pictures", "bytes", "budget")}
    return {"recommended": {**facts, "within": real - point["accuracy"], "command": command}}


def command_at(command: str, budget: int) -> str:
    """Return the command of the same run at another budget in bytes, without a curve.

    >>> command_at("python distill.py ipc=4 'report.curve=[0.5,1]'", 2000)
    'python distill.py ipc=4 budget.bytes=2000 report.curve=null'
    """
    words = [word for word in shlex.split(command) if word.lstrip("+").partition("=")[0] not in _REPLACED]
    return shlex.join([*words, f"budget.bytes={budget}", "report.curve=null"])
