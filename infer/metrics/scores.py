"""Classification scores from a confusion matrix."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """Classification scores of a network, each from 0 to 1.

    A class without images has recall nan and is left out of both means over classes.

    Attributes:
        accuracy: Share of the images that are classified correctly.
        balanced_accuracy: Mean of the recall over classes.
        macro_f1: Mean of the F1 score over classes.
        recall: Recall of each class, C values.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    recall: list[float]


def scores(confusion: Tensor) -> Scores:
    """Compute the scores of a confusion matrix.

    Args:
        confusion: int64 [C, C]; entry (i, j) counts the images of class i that are predicted as class j.

    Returns:
        The scores.

    >>> import torch
    >>> scores(torch.tensor([[8, 2], [0, 10]])).accuracy
    0.9
    """
    correct, actual, predicted = confusion.diagonal().double(), confusion.sum(dim=1), confusion.sum(dim=0)
    present = actual > 0
    recall = correct / actual
    f1 = 2 * correct / (actual + predicted).clamp(min=1)
    return Scores(
        float(correct.sum() / actual.sum()), float(recall[present].mean()), float(f1[present].mean()), recall.tolist()
    )
