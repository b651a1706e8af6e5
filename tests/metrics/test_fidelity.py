"""Fidelity, against plain statements of the definitions."""

import math

import pytest
import torch

from infer.metrics.fidelity import fidelity


def draw(count: int, seed: int, width: int = 8) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_neighbourhoods_are_those_of_the_papers():
    images, real, k = 0.8 * draw(23, 0), draw(41, 1), 5

    def radius(which: int, among: torch.Tensor) -> float:
        return sorted((among - among[which]).norm(dim=1).tolist())[k]  # the first is its own

    def inside(x: torch.Tensor, among: torch.Tensor) -> list[bool]:
        return [float((x - y).norm()) < radius(number, among) for number, y in enumerate(among)]

    lies = torch.tensor([inside(x, real) for x in images])
    found = fidelity(images, real, k)
    assert found.precision == pytest.approx(float(lies.any(dim=1).float().mean()))
    assert found.recall == pytest.approx(sum(any(inside(x, images)) for x in real) / len(real))
    assert found.density == pytest.approx(float(lies.sum()) / (k * len(images)))
    assert found.coverage == pytest.approx(float(lies.any(dim=0).float().mean()))


def test_distances_are_small_for_the_same_distribution_and_large_for_another():
    same, other = fidelity(draw(400, 0), draw(400, 1)), fidelity(draw(400, 0) + 1, draw(400, 1))
    assert same.fid < 0.5
    assert other.fid == pytest.approx(8, rel=0.15)  # the squared distance of the means: the covariances are the same
    assert abs(same.kid) < 0.1 * other.kid
    assert same.recall > 0.9 > 0.6 > other.recall
    whole = fidelity(draw(50, 0), draw(50, 0))
    assert (whole.precision, whole.recall, whole.coverage) == (1, 1, 1)
    assert whole.fid == pytest.approx(0, abs=1e-4)


def test_one_image_has_neighbours_but_no_distribution():
    found = fidelity(draw(1, 0) * 0.1, draw(30, 1))
    assert math.isnan(found.fid)
    assert math.isnan(found.recall)
    assert found.density > 0 < found.coverage
    assert math.isnan(fidelity(draw(3, 0), draw(1, 1)).coverage)
