"""The decision that a result allows: what a year costs, and whether to adopt the file, and by which rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from infer.cli.schema import ReportConfig
from infer.metrics.cost import yearly

_SMALL = 0.5
"""Where a file takes less than this share of the real set's bytes under its own codec, a larger one is worth a try."""

_BEHIND = 0.05
"""Teachers so far behind a student of all pictures hold back whoever learns from their labels."""


def decide(result: Mapping[str, Any], report: ReportConfig) -> dict[str, Any]:
    """``cost`` of a year and the ``verdict``: ``adopt`` where no more accuracy is lost than may be and a year of
    retrainings takes less time; ``larger`` where more is lost and the file is small; else ``decline``.

    Students of as many steps are taken to need the same time. The verdict is ``firm`` where both ends of the loss's
    interval lie on the same side of the tolerance.
    """
    rows = {row["source"]: row for row in reversed(result["students"]) if row["backbone"] == _student(result)}
    file, real = (rows[source]["seconds"] / rows[source]["seeds"] for source in ("distilled", "real"))
    if rows["distilled"]["steps"] == rows["real"]["steps"]:  # the same work: what the clock tells apart is its noise
        file = real = (file + real) / 2
    tried = sum(choice["seconds"] for choice in result["choices"])
    making = sum(result["seconds"][stage] for stage in ("teachers", "distill", "assemble")) + tried
    cost = {
        **yearly(making, file, real, report.retrainings, report.watts)._asdict(),
        "making_seconds": making,
        "file_seconds": file,
        "real_seconds": real,
        "times_smaller": result["bytes"]["real"] / result["bytes"]["file"],
        "times_smaller_coded": result["evidence"]["real_coded"] / result["bytes"]["file"],
    }
    loss, tolerance = result["evidence"]["loss"], report.tolerance / 100
    within, cheaper = loss["points"] <= tolerance, cost["hours_file"] < cost["hours_real"]
    small = result["bytes"]["file"] < _SMALL * result["evidence"]["real_coded"]
    return {
        "report": asdict(report),
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


def teachers_behind(result: Mapping[str, Any]) -> float | None:
    """By how much accuracy, in 0 to 1, the best teacher lies behind the best student of all real pictures; None where
    that is little or not known."""
    real = max((row["accuracy_mean"] for row in result["students"] if row["source"] == "real"), default=0.0)
    gap = real - max(teacher["accuracy"] for teacher in result["teachers"].values())
    return gap if gap > _BEHIND else None


def _student(result: Mapping[str, Any]) -> str:
    return str(result["evidence"]["student"])
