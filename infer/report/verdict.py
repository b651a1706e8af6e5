"""The verdict: the yearly cost of retraining, and whether the distilled file is worth adopting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from infer.metrics.cost import yearly_cost
from infer.report.options import ReportOptions

_SMALL = 0.5
"""A file below this share of the training images' bytes under the same codec leaves room for a larger one."""

_BEHIND = 0.05
"""Teachers whose accuracy is lower than a student's by more than this limit what their labels can teach."""


def decide(result: Mapping[str, Any], options: ReportOptions) -> dict[str, Any]:
    """Compute the yearly cost and the verdict.

    The verdict is "adopt" if the loss of accuracy is within the tolerance and a year of retrainings takes less time
    with the file; "larger" if the loss is beyond the tolerance and the file is small; else "decline". It is ``firm`` if
    both ends of the loss's interval lie on the same side of the tolerance.

    Args:
        result: The content of result.json, with ``evidence``.
        options: The options of the report.

    Returns:
        The keys ``report``, ``cost`` and ``verdict`` of result.json.
    """
    cost = _cost(result, options)
    loss, tolerance = result["evidence"]["loss"], options.tolerance / 100
    within, cheaper = loss["points"] <= tolerance, cost["hours_file"] < cost["hours_real"]
    small = result["bytes"]["file"] < _SMALL * result["evidence"]["real_coded"]
    return {
        "report": asdict(options),
        "cost": cost,
        "verdict": {
            "choice": "adopt" if within and cheaper else "larger" if not within and small else "decline",
            "firm": (loss["low"] <= tolerance) == (loss["high"] <= tolerance),
            "within": within,
            "cheaper": cheaper,
            "tolerance": tolerance,
            "small": _SMALL,
            "teachers_behind": teachers_behind(result),
        },
    }


def _cost(result: Mapping[str, Any], options: ReportOptions) -> dict[str, Any]:
    """Compute the yearly cost, the seconds it is computed from, and how many times smaller the file is."""
    student = result["evidence"]["student"]
    rows = {row["source"]: row for row in reversed(result["students"]) if row["backbone"] == student}
    file, real = (rows[source]["seconds"] / rows[source]["seeds"] for source in ("distilled", "real"))
    if rows["distilled"]["steps"] == rows["real"]["steps"]:
        file = real = (file + real) / 2  # equal work: the measured difference is noise
    search = sum(choice["seconds"] for choice in result["choices"])
    creation = sum(result["seconds"][stage] for stage in ("teachers", "distill", "assemble")) + search
    return {
        **yearly_cost(creation, file, real, options.retrainings, options.watts)._asdict(),
        "making_seconds": creation,
        "file_seconds": file,
        "real_seconds": real,
        "times_smaller": result["bytes"]["real"] / result["bytes"]["file"],
        "times_smaller_coded": result["evidence"]["real_coded"] / result["bytes"]["file"],
    }


def teachers_behind(result: Mapping[str, Any]) -> float | None:
    """Compute by how much the best teacher is less accurate than the best student of the full training set.

    Args:
        result: The content of result.json.

    Returns:
        The difference of accuracies, 0 to 1; None if it is 0.05 or less, or if there is no such student.
    """
    real = max((row["accuracy_mean"] for row in result["students"] if row["source"] == "real"), default=0.0)
    gap = real - max(teacher["accuracy"] for teacher in result["teachers"].values())
    return gap if gap > _BEHIND else None
