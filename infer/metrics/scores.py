"""How well a network knows the classes, the rare ones too."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """In 0 to 1: ``accuracy``, its mean over classes (``balanced_accuracy``), the mean F1 over classes, and each
    class's recall; a class without pictures has recall nan and is in no mean."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    recall: list[float]


def scores(confused: Tensor) -> Scores:
    """Of a confusion matrix int64 [C, C]: pictures of class i that were taken for class j."""
    right, real, taken = confused.diagonal().double(), confused.sum(dim=1), confused.sum(dim=0)
    there = real > 0
    recall = right / real
    f1 = 2 * right / (real + taken).clamp(min=1)
    return Scores(
        float(right.sum() / real.sum()), float(recall[there].mean()), float(f1[there].mean()), recall.tolist()
    )
