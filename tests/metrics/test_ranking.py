"""The scores of DD-Ranking."""

import math

import pytest

from infer.metrics.ranking import ddranking_scores


def test_the_label_robust_score():
    """Against the formula, and against its ends: as good as can be, 1; as bad, 0."""

    def row(source: str, accuracy: float) -> dict:
        return {"backbone": "net", "source": source, "accuracy_mean": accuracy}

    rows = [row("distilled", 0.6), row("distilled_hard", 0.4), row("random", 0.5), row("real", 0.9)]
    found = ddranking_scores(rows, "net")
    assert found["improvement"] == pytest.approx(0.1)
    assert found["hard_recovery"] == pytest.approx(0.5)
    a = 0.5 * 0.1 - 0.5 * 0.5
    assert found["label_robust"] == pytest.approx((math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert "augmentation_robust" not in found
    assert ddranking_scores(rows[:1], "net") == {}


def test_the_augmentation_robust_score():
    accuracies = {"distilled": 0.5, "random": 0.4, "distilled_plain": 0.3, "random_plain": 0.35}
    rows = [{"backbone": "net", "source": source, "accuracy_mean": mean} for source, mean in accuracies.items()]
    found = ddranking_scores(rows, "net")
    assert found["plain_improvement"] == pytest.approx(-0.05)
    a = 0.5 * 0.1 + 0.5 * -0.05
    assert found["augmentation_robust"] == pytest.approx((math.exp(a) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert "label_robust" not in found
