"""Decisions near the boundary, against plain statements of the definitions."""

import math

import pytest
import torch

from infer.metrics.boundary import Pair, confused_pairs, flip_rate, margins


def test_the_worst_pair_comes_first():
    confusion = torch.tensor([[8, 2, 0], [4, 6, 0], [0, 1, 9]])
    assert confused_pairs(confusion) == [Pair(0, 1, pytest.approx(0.3)), Pair(1, 2, pytest.approx(0.05))]
    assert confused_pairs(torch.eye(3).long()) == []


def test_margins_are_negative_where_the_decision_is_wrong():
    found = margins(torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]]), torch.tensor([0, 2]))
    expected = [(math.e**2 - 1) / (math.e**2 + 2), (math.e - math.e**3) / (1 + math.e + math.e**3)]
    assert found.tolist() == pytest.approx(expected)


def test_decisions_flip_where_the_boundary_is_near():
    """One pixel decides at 0.5: mixing a quarter of 1.0 into x flips what lies within a third below it."""

    def network(images: torch.Tensor) -> torch.Tensor:
        pixel = images[:, 0, 0, 0]
        return torch.stack([0.5 - pixel, pixel - 0.5], dim=1)

    images = torch.tensor([0.0, 0.2, 0.4, 0.6, 1.0, 1.0]).view(-1, 1, 1, 1)
    targets = torch.tensor([0, 0, 0, 0, 1, 1])  # 0.6 is wrong to begin with
    flipped = flip_rate(network, images[:6], targets, [Pair(0, 1, 0.5)], 0.25, 0)
    # 0.4 -> 0.55 flips, 0.2 -> 0.4 does not; 1.0 -> 0.75 and more does not
    assert flipped == pytest.approx(1 / 5)
    assert math.isnan(flip_rate(network, images, targets, [], 0.25, 0))
