"""Privacy metrics, against plain statements of the definitions."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from infer.metrics.privacy import membership_attack, memorised_fid, nearest_distances


def draw(count: int, seed: int, width: int = 8) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_copies_have_a_large_memorised_fid():
    real = draw(300, 0)
    fresh, copies = draw(300, 1), real + 0.1 * draw(300, 2)
    assert memorised_fid(2.0, copies, real) > 20
    assert memorised_fid(2.0, real, real) < math.inf
    assert memorised_fid(2.0, fresh[:20, :3], real[:4, :3]) == 2.0  # none is near: the FID itself
    distances = [min(float(1 - torch.cosine_similarity(x, y, dim=0)) for y in real[:9]) for x in copies[:9]]
    assert memorised_fid(2.0, copies[:9], real[:9]) == pytest.approx(2 / (sum(distances) / 9), rel=1e-3)


def test_the_attack_is_the_area_under_its_curve_and_its_interval_has_its_level():
    members, others = 0.9 * draw(60, 0, 1).flatten(), draw(40, 1, 1).flatten() + 0.5
    found = membership_attack(members, others)
    labels, ranks = torch.tensor([1] * 60 + [0] * 40), -torch.cat([members, others])
    assert found.auc == pytest.approx(roc_auc_score(labels, ranks))
    assert found.low < found.auc < found.high
    held = [membership_attack(draw(80, seed, 1).flatten(), draw(50, 1000 + seed, 1).flatten()) for seed in range(400)]
    assert sum(attack.low <= 0.5 <= attack.high for attack in held) / 400 > 0.95  # a bound, so it may hold more often
    assert membership_attack(torch.zeros(5), torch.zeros(5)).auc == 0.5  # equal losses are no information
    perfect = membership_attack(torch.zeros(20), torch.ones(30))
    assert perfect.auc == perfect.high == 1
    assert 0.8 < perfect.low < 0.9  # Wilson's lower end of 20 of 20: 20 / (20 + 1.96 ** 2)


def test_copies_are_nearer_to_training_images_than_fresh_images():
    train, held_out = draw(200, 0), draw(200, 1)
    copies, fresh = (
        nearest_distances(train[:50] + 0.01, train, held_out),
        nearest_distances(draw(400, 2), train, held_out),
    )
    assert copies.closer == 1
    assert copies.train == pytest.approx(0.01 * math.sqrt(8), rel=1e-2)
    assert fresh.closer == pytest.approx(0.5, abs=0.08)
    with pytest.raises(ValueError, match="200 training images and 100 held-out"):
        nearest_distances(train, train, held_out[:100])
