"""How well a network knows the classes."""

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from infer.metrics.scores import scores


def test_scores_are_those_of_scikit_learn():
    targets = torch.tensor([0] * 50 + [1] * 7 + [2] * 3)
    predicted = targets.roll(4)
    confused = torch.zeros(4, 4, dtype=torch.int64)
    for own, taken in zip(targets, predicted, strict=True):
        confused[own, taken] += 1
    found = scores(confused[:3, :3])
    assert found.accuracy == pytest.approx(float((predicted == targets).float().mean()))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(targets, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert found.recall == pytest.approx(recall_score(targets, predicted, average=None).tolist())
    without = scores(confused)  # a class of which there is no picture
    assert math.isnan(without.recall[3])
    assert without.balanced_accuracy == pytest.approx(found.balanced_accuracy)
