"""What images keep, give away and decide, against plain statements of the definitions."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from infer.metrics.boundary import Pair, confused_pairs, flips, margins
from infer.metrics.cost import yearly
from infer.metrics.fidelity import kept
from infer.metrics.privacy import membership, memorised_fid, nearness


def draw(count: int, seed: int, width: int = 8) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_neighbourhoods_are_those_of_the_papers():
    images, real, k = 0.8 * draw(23, 0), draw(41, 1), 5

    def radius(which: int, among: torch.Tensor) -> float:
        return sorted((among - among[which]).norm(dim=1).tolist())[k]  # the first is its own

    def inside(x: torch.Tensor, among: torch.Tensor) -> list[bool]:
        return [float((x - y).norm()) < radius(number, among) for number, y in enumerate(among)]

    lies = torch.tensor([inside(x, real) for x in images])
    found = kept(images, real, k)
    assert found.precision == pytest.approx(float(lies.any(dim=1).float().mean()))
    assert found.recall == pytest.approx(sum(any(inside(x, images)) for x in real) / len(real))
    assert found.density == pytest.approx(float(lies.sum()) / (k * len(images)))
    assert found.coverage == pytest.approx(float(lies.any(dim=0).float().mean()))


def test_distances_are_small_for_the_same_distribution_and_large_for_another():
    same, other = kept(draw(400, 0), draw(400, 1)), kept(draw(400, 0) + 1, draw(400, 1))
    assert same.fid < 0.5
    assert other.fid == pytest.approx(8, rel=0.15)  # the squared distance of the means: the covariances are the same
    assert abs(same.kid) < 0.1 * other.kid
    assert same.recall > 0.9 > 0.6 > other.recall
    whole = kept(draw(50, 0), draw(50, 0))
    assert (whole.precision, whole.recall, whole.coverage) == (1, 1, 1)
    assert whole.fid == pytest.approx(0, abs=1e-4)


def test_one_image_has_neighbours_but_no_distribution():
    found = kept(draw(1, 0) * 0.1, draw(30, 1))
    assert math.isnan(found.fid)
    assert math.isnan(found.recall)
    assert found.density > 0 < found.coverage
    assert math.isnan(kept(draw(3, 0), draw(1, 1)).coverage)


def test_copies_are_told_by_the_memorised_fid():
    real = draw(300, 0)
    fresh, copies = draw(300, 1), real + 0.1 * draw(300, 2)
    assert memorised_fid(2.0, copies, real) > 20
    assert memorised_fid(2.0, real, real) < math.inf
    assert memorised_fid(2.0, fresh[:20, :3], real[:4, :3]) == 2.0  # none is near: FID itself
    distances = [min(float(1 - torch.cosine_similarity(x, y, dim=0)) for y in real[:9]) for x in copies[:9]]
    assert memorised_fid(2.0, copies[:9], real[:9]) == pytest.approx(2 / (sum(distances) / 9), rel=1e-3)


def test_the_attack_is_the_area_under_its_curve_and_its_interval_holds_what_it_says():
    members, others = 0.9 * draw(60, 0, 1).flatten(), draw(40, 1, 1).flatten() + 0.5
    found = membership(members, others)
    labels, ranks = torch.tensor([1] * 60 + [0] * 40), -torch.cat([members, others])
    assert found.auc == pytest.approx(roc_auc_score(labels, ranks))
    assert found.low < found.auc < found.high
    held = [membership(draw(80, seed, 1).flatten(), draw(50, 1000 + seed, 1).flatten()) for seed in range(400)]
    assert sum(attack.low <= 0.5 <= attack.high for attack in held) / 400 > 0.95  # a bound, so it may hold more often
    assert membership(torch.zeros(5), torch.zeros(5)).auc == 0.5  # nothing to tell them by
    told = membership(torch.zeros(20), torch.ones(30))
    assert told.auc == told.high == 1
    assert 0.8 < told.low < 0.9  # Wilson's lower end of 20 of 20: 20 / (20 + 1.96 ** 2)


def test_nearness_tells_copies_from_fresh_pictures():
    train, held_out = draw(200, 0), draw(200, 1)
    copies, fresh = nearness(train[:50] + 0.01, train, held_out), nearness(draw(400, 2), train, held_out)
    assert copies.closer == 1
    assert copies.train == pytest.approx(0.01 * math.sqrt(8), rel=1e-2)
    assert fresh.closer == pytest.approx(0.5, abs=0.08)
    with pytest.raises(ValueError, match="200 train pictures and 100 held-out"):
        nearness(train, train, held_out[:100])


def test_the_worst_pair_comes_first():
    confused = torch.tensor([[8, 2, 0], [4, 6, 0], [0, 1, 9]])
    assert confused_pairs(confused) == [Pair(0, 1, pytest.approx(0.3)), Pair(1, 2, pytest.approx(0.05))]
    assert confused_pairs(torch.eye(3).long()) == []


def test_margins_are_negative_where_the_answer_is_wrong():
    found = margins(torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]]), torch.tensor([0, 2]))
    expected = [(math.e**2 - 1) / (math.e**2 + 2), (math.e - math.e**3) / (1 + math.e + math.e**3)]
    assert found.tolist() == pytest.approx(expected)


def test_decisions_turn_where_the_boundary_is_near():
    """One pixel decides at 0.5: mixing a quarter of 1.0 into x turns what lies within a third below it."""

    def network(images: torch.Tensor) -> torch.Tensor:
        pixel = images[:, 0, 0, 0]
        return torch.stack([0.5 - pixel, pixel - 0.5], dim=1)

    images = torch.tensor([0.0, 0.2, 0.4, 0.6, 1.0, 1.0]).view(-1, 1, 1, 1)
    targets = torch.tensor([0, 0, 0, 0, 1, 1])  # 0.6 is wrong to begin with
    turned = flips(network, images[:6], targets, [Pair(0, 1, 0.5)], 0.25, 0)
    # 0.4 -> 0.55 turns, 0.2 -> 0.4 does not; 1.0 -> 0.75 and more does not
    assert turned == pytest.approx(1 / 5)
    assert math.isnan(flips(network, images, targets, [], 0.25, 0))


def test_a_file_pays_from_its_break_even_on():
    cost = yearly(making=100, file=10, real=50, retrainings=52, watts=200)
    assert cost.break_even == 3
    assert 100 + 3 * 10 < 3 * 50
    assert 100 + 2 * 10 > 2 * 50
    assert (cost.hours_real, cost.hours_file) == (52 * 50 / 3600, (100 + 52 * 10) / 3600)
    assert cost.energy_real == pytest.approx(52 * 50 / 3600 * 0.2)
    assert yearly(100, 50, 50, 52, 200).break_even is None
