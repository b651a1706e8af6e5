"""What a set of images keeps of the real one, in a network's features: distances of distributions, and neighbours."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

_ROWS = 2048


class Kept(NamedTuple):
    """``fid`` and ``kid``: 0 where the distributions agree. ``precision``: share of the images that lie where real ones
    lie; ``recall``: share of the real ones that lie where the images lie; ``density``: how many real neighbourhoods an
    image lies in, over k; ``coverage``: share of the real neighbourhoods that have an image in them."""

    fid: float
    kid: float
    precision: float
    recall: float
    density: float
    coverage: float


class Features(nn.Module):
    """Stands for the network where its features [N, D] are at hand: torchmetrics asks it, and gets them back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        """The features themselves."""
        return features


def kept(images: Tensor, real: Tensor, k: int = 5, seed: int = 0) -> Kept:
    """How the features ``images`` [N, D] stand to those of ``real`` pictures [R, D]; ``k`` the size of a neighbourhood.

    FID and KID are torchmetrics'; of few images FID is biased upwards, so it is to be read beside that of as many real
    pictures. Precision and recall after Kynkäänniemi et al. 2019, density and coverage after Naeem et al. 2020. Fewer
    than k + 1 images make smaller neighbourhoods; fewer than two have none, and nan for all but density and coverage,
    and fewer than two real pictures nan for all.
    """
    nan = float("nan")
    if len(real) < 2:
        return Kept(nan, nan, nan, nan, nan, nan)
    neighbours = min(k, len(real) - 1)
    radii = _radii(real, neighbours)
    within = torch.zeros(len(images))  # real neighbourhoods that an image lies in
    reached = torch.zeros(len(real), dtype=torch.bool)
    for rows in torch.arange(len(images)).split(_ROWS):
        inside = torch.cdist(images[rows], real) < radii
        within[rows] = inside.sum(dim=1).float()
        reached |= inside.any(dim=0)
    density, coverage = float(within.mean()) / neighbours, float(reached.float().mean())
    if len(images) < 2:
        return Kept(nan, nan, nan, nan, density, coverage)
    own = _radii(images, min(k, len(images) - 1))
    found = torch.cat([(torch.cdist(rows, images) < own).any(dim=1) for rows in real.split(_ROWS)])
    return Kept(
        _distance(images, real, FrechetInceptionDistance(feature=Features(real.shape[1]))),
        _kid(images, real, seed),
        float((within > 0).float().mean()),
        float(found.float().mean()),
        density,
        coverage,
    )


def _radii(features: Tensor, k: int) -> Tensor:
    """Distance of each of ``features`` to its k-th neighbour among the others: [N]."""
    return torch.cat([torch.cdist(rows, features).kthvalue(k + 1, dim=1).values for rows in features.split(_ROWS)])


def _distance(images: Tensor, real: Tensor, metric: FrechetInceptionDistance) -> float:
    metric.update(real.double(), real=True)
    metric.update(images.double(), real=False)
    return max(0.0, float(metric.compute()))


def _kid(images: Tensor, real: Tensor, seed: int) -> float:
    """The mean over torchmetrics' random subsets, of at most 100 images each."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="Metric `Kernel Inception Distance` will save all extracted features")
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=Features(real.shape[1]), subsets=50, subset_size=min(100, len(images), len(real))
        )
        metric.update(real, real=True)
        metric.update(images, real=False)
        return float(metric.compute()[0])
