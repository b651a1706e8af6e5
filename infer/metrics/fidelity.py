"""Fidelity of a set of images: distances of distributions and nearest neighbours in a network's features."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

_ROWS = 2048


class Fidelity(NamedTuple):
    """How a set of images compares with real images.

    The neighbourhood of an image is the ball around it that reaches to its k-th nearest neighbour in its own set.

    Attributes:
        fid: Fréchet distance; 0 for equal distributions.
        kid: Kernel distance; 0 for equal distributions.
        precision: Share of the images inside the neighbourhood of a real image.
        recall: Share of the real images inside the neighbourhood of an image.
        density: Mean number of real neighbourhoods that contain an image, divided by k.
        coverage: Share of the real neighbourhoods that contain an image.
    """

    fid: float
    kid: float
    precision: float
    recall: float
    density: float
    coverage: float


class _Features(nn.Module):
    """Identity in the place of torchmetrics' feature extractor, because the features are already computed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features``."""
        return features


def fidelity(images: Tensor, real: Tensor, k: int = 5, seed: int = 0) -> Fidelity:
    """Compare the features of a set of images with those of real images.

    FID and KID are those of torchmetrics. FID is biased upwards for few images, so compare it with the FID of as many
    real images. With fewer than k + 1 images, k is reduced.

    Args:
        images: Features of the images, float32 [N, D].
        real: Features of real images, float32 [R, D].
        k: Number of neighbours that spans a neighbourhood.
        seed: Seed of the random subsets of KID.

    Returns:
        The metrics. With fewer than two images, all but density and coverage are nan. With fewer than two real images,
        all are nan.

    References:
        Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019; Naeem et al.,
        "Reliable Fidelity and Diversity Metrics for Generative Models", 2020 (density and coverage).
    """
    nan = float("nan")
    if len(real) < 2:
        return Fidelity(nan, nan, nan, nan, nan, nan)
    images, real = images.double(), real.double()  # in float32, differences of squares are lost beside a large mean
    neighbours = min(k, len(real) - 1)
    containing, covered = _real_neighbourhoods(images, real, neighbours)
    density, coverage = float(containing.mean()) / neighbours, float(covered.float().mean())
    if len(images) < 2:
        return Fidelity(nan, nan, nan, nan, density, coverage)
    radii = _radii(images, min(k, len(images) - 1))
    recalled = torch.cat([(torch.cdist(rows, images) < radii).any(dim=1) for rows in real.split(_ROWS)])
    return Fidelity(
        _fid(images, real),
        _kid(images, real, seed),
        float((containing > 0).float().mean()),
        float(recalled.float().mean()),
        density,
        coverage,
    )


def _real_neighbourhoods(images: Tensor, real: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Count the real neighbourhoods around each image, float [N], and tell which of them contain an image, bool [R]."""
    radii = _radii(real, k)
    containing = torch.zeros(len(images))
    covered = torch.zeros(len(real), dtype=torch.bool)
    for rows in torch.arange(len(images)).split(_ROWS):
        inside = torch.cdist(images[rows], real) < radii
        containing[rows] = inside.sum(dim=1).float()
        covered |= inside.any(dim=0)
    return containing, covered


def _radii(features: Tensor, k: int) -> Tensor:
    """Compute the distance of each row to its k-th nearest neighbour among the others: [N]."""
    return torch.cat([torch.cdist(rows, features).kthvalue(k + 1, dim=1).values for rows in features.split(_ROWS)])


def _fid(images: Tensor, real: Tensor) -> float:
    """Compute the Fréchet distance."""
    metric = FrechetInceptionDistance(feature=_Features(real.shape[1]))
    metric.update(real, real=True)
    metric.update(images, real=False)
    return float(metric.compute().clamp(min=0))  # max() would turn nan into 0


def _kid(images: Tensor, real: Tensor, seed: int) -> float:
    """Compute the mean kernel distance over random subsets of at most 100 images each."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all extracted features")
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=_Features(real.shape[1]), subsets=50, subset_size=min(100, len(images), len(real))
        )
        metric.update(real, real=True)
        metric.update(images, real=False)
        return float(metric.compute()[0])
