"""The verdict: the yearly cost of retraining, the decision, and whether the distilled file is worth adopting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from infer.metrics.cost import yearly_cost
from infer.report.decision import SMALL, decision, reported_rows
from infer.report.file_facts import is_random_draw
from infer.report.options import ReportOptions

_BEHIND = 0.05
"""Teachers whose accuracy is lower than a student's by more than this limit what their labels can teach."""

_AHEAD = 0.01
"""The report names a better network trained on all images if its accuracy exceeds the student's by more than this."""

_CHOICES = {"use": "adopt", "labels": "adopt", "unsure": "larger", "larger": "larger"}
"""The verdict by the choice of the advice; of all others it is "decline"."""


def decide(result: Mapping[str, Any], options: ReportOptions) -> dict[str, Any]:
    """Compute the yearly cost, the decision and the verdict.

    The verdict is "adopt" where the advice is to use the file, "larger" where it is to go on trying, and else
    "decline". It is ``firm`` if both ends of the loss's interval lie on the same side of the tolerance.

    Args:
        result: The content of result.json, with ``evidence`` and ``data``.
        options: The options of the report.

    Returns:
        The keys ``report``, ``cost``, ``decision`` and ``verdict`` of result.json.
    """
    cost, tolerance, loss = _cost(result, options), options.tolerance / 100, result["evidence"]["loss"]
    found = decision(result, tolerance)
    return {
        "report": asdict(options),
        "cost": cost,
        "decision": found,
        "verdict": {
            "choice": _CHOICES.get(found["advice"]["choice"], "decline"),
            "firm": (loss["low"] <= tolerance) == (loss["high"] <= tolerance),
            "within": loss["points"] <= tolerance,
            "cheaper": cost["hours_file"] < cost["hours_real"],
            "tolerance": tolerance,
            "small": SMALL,
            "teachers_behind": teachers_behind(result),
            "ahead": ahead(result),
        },
    }


def _cost(result: Mapping[str, Any], options: ReportOptions) -> dict[str, Any]:
    """Compute the yearly cost, the seconds it is computed from, and how many times smaller the file is."""
    rows = reported_rows(result)
    file, real = (rows[source]["seconds"] / rows[source]["seeds"] for source in ("distilled", "real"))
    if rows["distilled"]["steps"] == rows["real"]["steps"] > 0:
        file = real = (file + real) / 2  # equal work: the measured difference is noise
    search = sum(choice["seconds"] for choice in result["choices"])
    stages = ("assemble",) if is_random_draw(result) else ("teachers", "distill", "assemble")
    creation = sum(result["seconds"][stage] for stage in stages) + search
    year, price = yearly_cost(creation, file, real, options.retrainings, options.watts), options.price_per_kwh
    return {
        **year._asdict(),
        "money_real": None if price is None else year.energy_real * price,
        "money_file": None if price is None else year.energy_file * price,
        "making_seconds": creation,
        "file_seconds": file,
        "real_seconds": real,
        "times_smaller": result["bytes"]["real"] / result["bytes"]["file"],
    }


def ahead(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find the best network that was trained on all images, where it is better than the report's student of them.

    Args:
        result: The content of result.json, with ``evidence``.

    Returns:
        Its ``name`` and ``accuracy``; by how much the report's student of the file is below it (``points``), 0 to 1;
        and the accuracy of its own students of the file (``on_file``), None where there are none. None instead of all
        where it is better by 0.01 or less, and where classes are weighted equally: of a teacher, the accuracy alone is
        known.
    """
    rows, own = result["students"], reported_rows(result)
    known = {row["backbone"]: row["accuracy_mean"] for row in rows if row["source"] == "real"}
    for name, teacher in result["teachers"].items():
        known[name] = max(teacher["accuracy"], known.get(name, 0.0))
    name = max(known, key=known.__getitem__)
    if result["evidence"]["loss"]["balanced"] or known[name] - own["real"]["accuracy_mean"] <= _AHEAD:
        return None
    taught = [row["accuracy_mean"] for row in rows if (row["backbone"], row["source"]) == (name, "distilled")]
    points = known[name] - own["distilled"]["accuracy_mean"]
    return {"name": name, "accuracy": known[name], "points": points, "on_file": taught[0] if taught else None}


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
