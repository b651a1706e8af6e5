"""Whether a result has the analysis that its report rests on, so that nothing is trained for it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infer.core.sources import REPORTED
from infer.pipeline.compare import missing_rows
from infer.pipeline.options import DistillOptions
from infer.report.analysis import usable


def is_analysed(options: DistillOptions, result: Mapping[str, Any] | None) -> bool:
    """Return whether ``result`` has an analysis of the students that the report of ``options`` is of.

    One that lacks a part, see :func:`lacks_random`, counts where weights of its students were deleted: what it has
    stays true, and the rest cannot be measured.
    """
    evidence = (result or {}).get("evidence")
    if result is None or not evidence or evidence["student"] != options.students.backbones[0]:
        return False
    student = options.students.backbones[:1]
    if missing_rows(
        replace(options, students=replace(options.students, backbones=student, sources=[*REPORTED])), result["students"]
    ):
        return False
    rows = [row for row in result["students"] if row["backbone"] in student and row["source"] in REPORTED]
    return not lacks_random(result) or not all(map(usable, rows))


def lacks_random(result: Mapping[str, Any]) -> bool:
    """Return whether the analysis in ``result`` is an old one, without the comparison with random images."""
    return "against_random" not in result["evidence"]
