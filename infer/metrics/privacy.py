"""Privacy metrics: what a student and a set of images reveal about the training images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.special import ndtri
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn.functional import normalize

_ROWS = 2048
_COPY_DISTANCE = 0.1  # mean cosine distance below which images count as copies
_SMALLEST_DISTANCE = 1e-6  # stands for a distance of zero


class Attack(NamedTuple):
    """The result of a membership attack.

    Attributes:
        auc: Area under the ROC curve, 0 to 1; 0.5 is guessing.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
    """

    auc: float
    low: float
    high: float


def membership_attack(members: Tensor, others: Tensor) -> Attack:
    """Run the loss-threshold attack: predict from a small loss that an image is a training image.

    The area under the ROC curve is the probability that a member has a smaller loss than another image. Its variance
    is at most AUC (1 - AUC) / n, where n is the smaller of the two counts, whatever the distributions are. The interval
    is Wilson's for n observations.

    Args:
        members: Losses of training images, float [N].
        others: Losses of images the network was not trained on, float [R].

    Returns:
        The area under the curve and its interval.

    References:
        Yeom et al., "Privacy Risk in Machine Learning", 2018 (the attack); Birnbaum and Klose, "Bounds for the
        Variance of the Mann-Whitney Statistic", 1957.
    """
    positive, negative = len(members), len(others)
    statistic = mannwhitneyu(-members.double().numpy(), -others.double().numpy()).statistic
    auc = float(statistic) / (positive * negative)
    count, z = min(positive, negative), float(ndtri(0.975))
    middle = (auc + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(auc * (1 - auc) / count + z**2 / (4 * count**2))
    return Attack(auc, max(0.0, middle - half), min(1.0, middle + half))


class NearestDistances(NamedTuple):
    """Distances of images to the nearest real images.

    Attributes:
        train: Median distance to the nearest training image.
        held_out: Median distance to the nearest held-out image.
        closer: Share of the images that are nearer to a training image than to any held-out image, 0 to 1; 0.5 reveals
            nothing.
    """

    train: float
    held_out: float
    closer: float


def nearest_distances(images: Tensor, train: Tensor, held_out: Tensor) -> NearestDistances:
    """Compare the distances of images to training images and to held-out images.

    Args:
        images: Features or flat pixels, float32 [N, D].
        train: Those of training images, float32 [R, D].
        held_out: Those of held-out images, float32 [R, D]. A larger set has nearer neighbours, so both have R rows.

    Returns:
        Two medians and the share of images that are closer to a training image.

    Raises:
        ValueError: If ``train`` and ``held_out`` have different lengths.
    """
    if len(train) != len(held_out):
        raise ValueError(f"{len(train)} training images and {len(held_out)} held-out images: give as many of each")
    to_train, to_held_out = _nearest(images, train), _nearest(images, held_out)
    closer = (to_train < to_held_out).float() + (to_train == to_held_out).float() / 2
    return NearestDistances(float(to_train.median()), float(to_held_out.median()), float(closer.mean()))


def _nearest(images: Tensor, references: Tensor) -> Tensor:
    """Compute the distance of every image to its nearest reference: [N]."""
    images, references = images.double(), references.double()  # float32 loses small distances far from the origin
    return torch.cat([torch.cdist(rows, references).min(dim=1).values for rows in images.split(_ROWS)])


def memorised_fid(fid: float, images: Tensor, train: Tensor) -> float:
    """Compute the memorisation-informed FID, which grows where images copy training images.

    Args:
        fid: The FID of the images.
        images: Features, float32 [N, D].
        train: Features of training images, float32 [R, D].

    Returns:
        ``fid`` divided by the mean cosine distance to the nearest training image if that distance is below 0.1, else
        ``fid``.

    References:
        Bai et al., "On Training Sample Memorization: Lessons from Benchmarking Generative Modeling with a Large-scale
        Competition", 2021.
    """
    units = normalize(train.double(), dim=1)
    distances = [1 - (normalize(rows.double(), dim=1) @ units.T).max(dim=1).values for rows in images.split(_ROWS)]
    distance = float(torch.cat(distances).mean())
    return fid / max(distance, _SMALLEST_DISTANCE) if distance < _COPY_DISTANCE else fid
