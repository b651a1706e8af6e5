"""The scores of DD-Ranking: how much of an accuracy is due to the images, and not to labels or augmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def ddranking_scores(rows: Sequence[Mapping[str, Any]], backbone: str) -> dict[str, float]:
    r"""Compute the scores of DD-Ranking and their parts, as far as the table has the rows for them.

    Both scores are :math:`(e^a - e^{-1}) / (e - e^{-1})`. The label-robust score has
    :math:`a = (\mathrm{improvement} - \mathrm{hard\ recovery}) / 2`; the augmentation-robust score has
    :math:`a = (\mathrm{improvement} + \mathrm{plain\ improvement}) / 2`.

    Args:
        rows: The rows of the comparison, with ``backbone``, ``source`` and ``accuracy_mean`` (0 to 1).
        backbone: The student whose rows count.

    Returns:
        A dictionary with some of these keys:

        - ``improvement``, -1 to 1: accuracy on the distilled file less that on the equal-bytes baseline.
        - ``hard_recovery``, -1 to 1: accuracy on the full training set less that on the distilled images with hard
          labels.
        - ``plain_improvement``, -1 to 1: the improvement without augmentation.
        - ``label_robust`` and ``augmentation_robust``, 0 to 1: the scores.

    References:
        Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", 2025.
    """
    mean = {row["source"]: row["accuracy_mean"] for row in rows if row["backbone"] == backbone}
    found: dict[str, float] = {}
    if {"distilled", "random"} <= set(mean):
        found["improvement"] = mean["distilled"] - mean["random"]
        if {"distilled_hard", "real"} <= set(mean):
            found["hard_recovery"] = mean["real"] - mean["distilled_hard"]
            found["label_robust"] = ddranking_score(found["improvement"] - found["hard_recovery"])
        if {"distilled_plain", "random_plain"} <= set(mean):
            found["plain_improvement"] = mean["distilled_plain"] - mean["random_plain"]
            found["augmentation_robust"] = ddranking_score(found["improvement"] + found["plain_improvement"])
    return found


def ddranking_score(total: float) -> float:
    """Compute the score for a = ``total`` / 2: 0 for a = -1 and 1 for a = 1."""
    return (math.exp(total / 2) - math.exp(-1)) / (math.e - math.exp(-1))
