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


def test_a_large_mean_of_the_features_changes_no_distance():
    """A thousand standard deviations from the origin; the kernel of KID alone depends on the origin."""
    images, real = 0.8 * draw(300, 0), draw(400, 1)
    near, far = fidelity(images, real), fidelity(images + 1000, real + 1000)
    assert far.fid == pytest.approx(near.fid, rel=1e-3)
    assert far[2:] == pytest.approx(near[2:], abs=0.005)
    x, y = ((points + 1000).double() for points in (images[:100], real[:100]))
    assert math.isfinite(far.kid)
    kernels = [(a @ b.T / 8 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    within = sum((kernel.sum() - kernel.trace()) / (100 * 99) for kernel in kernels[:2])
    plain = fidelity((images + 1000)[:100], (real + 1000)[:100]).kid  # subsets of all images: no draw matters
    assert plain == pytest.approx(float(within - 2 * kernels[2].mean()), rel=1e-6)
