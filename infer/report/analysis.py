"""The analysis behind a report: where students of the distilled file lose accuracy, and what the file contains."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infer.core.records import without_nan
from infer.core.sources import REPORTED
from infer.data.splits import rarest_class
from infer.report.arrays import ReportArrays
from infer.report.class_map import class_map
from infer.report.contents import fidelity_by_kind, privacy
from infer.report.decisions import (
    LEVEL,
    MIXED_IN,
    accuracy_loss,
    boundary_statistics,
    class_mistakes,
    decision_margins,
    gain_over_random,
)
from infer.report.feature_space import FeatureSpace
from infer.report.inputs import AnalysisInputs, Compression

__all__ = ["REPORTED", "AnalysisInputs", "Compression", "ReportArrays", "analyse", "usable"]

log = logging.getLogger("infer")


def usable(row: Mapping[str, Any]) -> bool:
    """Return whether the weights of all students of a row of the comparison still exist."""
    return "weights" in row and all(Path(file).is_file() for file in row["weights"])


def analyse(inputs: AnalysisInputs) -> tuple[dict[str, Any], ReportArrays]:
    """Analyse the students' decisions, the contents of the distilled file, and how classes lie in feature space.

    Args:
        inputs: The data, the two sets, and the trained networks.

    Returns:
        The content of result.json under ``evidence``, and the tensors that the report draws. The caller adds three keys
        to the former: ``student``, the students' backbone; ``seeds``, how many students each source has; and
        ``real_coded``, the bytes of the training images under the file's codec.
    """
    log.info("Analysing the decisions of students trained on %s", ", ".join(REPORTED))
    found: dict[str, Any] = {
        "level": LEVEL,
        "test_pictures": len(inputs.test.targets),
        "rarest": rarest_class(inputs.data),
        "loss": accuracy_loss(inputs),
        "against_random": gain_over_random(inputs),
        "mixed_in": MIXED_IN,
        "sources": {source: boundary_statistics(inputs, source) for source in REPORTED},
    }
    found["classes"], mistakes, taken = class_mistakes(inputs)
    log.info("Comparing the images of the distilled file with the test images")
    space = FeatureSpace(inputs)
    found["kept"] = fidelity_by_kind(inputs, space)
    found["components"] = space.dimensions
    found["privacy"] = privacy(inputs, space)
    log.info("Computing the class map")
    margins = {source: decision_margins(inputs, source) for source in REPORTED}
    return without_nan(found), ReportArrays(*class_map(inputs, space), margins, mistakes, taken)
