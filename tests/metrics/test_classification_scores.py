"""Classification scores, against scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from infer.metrics.scores import scores


def test_scores_are_those_of_scikit_learn():
    targets = torch.tensor([0] * 50 + [1] * 7 + [2] * 3)
    predicted = targets.roll(4)
    confusion = torch.zeros(4, 4, dtype=torch.int64)
    for own, taken_for in zip(targets, predicted, strict=True):
        confusion[own, taken_for] += 1
    found = scores(confusion[:3, :3])
    assert found.accuracy == pytest.approx(float((predicted == targets).float().mean()))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(targets, predicted))
    assert found.macro_f1 == pytest.approx(f1_score(targets, predicted, average="macro"))
    assert found.recall == pytest.approx(recall_score(targets, predicted, average=None).tolist())
    without = scores(confusion)  # the last class has no images
    assert math.isnan(without.recall[3])
    assert without.balanced_accuracy == pytest.approx(found.balanced_accuracy)
