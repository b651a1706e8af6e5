"""What a file, and a student of it, give away of the pictures behind it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.special import ndtri
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn.functional import normalize

_ROWS = 2048
_COPIED, _LEAST = 0.1, 1e-6
"""Of cosine distances: below the first on average, images count as copies; the second stands for none at all."""


class Attack(NamedTuple):
    """``auc`` in 0 to 1, 0.5 for an attack no better than guessing; ``low`` and ``high`` end its 95 % interval."""

    auc: float
    low: float
    high: float


def membership(members: Tensor, others: Tensor) -> Attack:
    """The loss-threshold attack (Yeom et al. 2018): does a smaller loss tell a training picture from one never seen?

    From the losses [N] of ``members`` of the training set and [R] of ``others``. The area under the attack's curve is
    the chance that a member has the smaller loss of the two. Its variance is at most AUC (1 - AUC) over the smaller of
    the two counts, whatever the distributions (Birnbaum and Klose 1957): the interval is Wilson's for that many.
    """
    positive, negative = len(members), len(others)
    statistic = mannwhitneyu(-members.double().numpy(), -others.double().numpy()).statistic
    auc = float(statistic) / (positive * negative)
    count, z = min(positive, negative), float(ndtri(0.975))
    middle = (auc + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(auc * (1 - auc) / count + z**2 / (4 * count**2))
    return Attack(auc, max(0.0, middle - half), min(1.0, middle + half))


class Nearness(NamedTuple):
    """Medians of the distances of images to the nearest ``train`` and the nearest ``held_out`` picture; ``closer``, the
    share of images whose nearest train picture is the nearer one: 0.5 where images tell nothing of their training."""

    train: float
    held_out: float
    closer: float


def nearness(images: Tensor, train: Tensor, held_out: Tensor) -> Nearness:
    """Of ``images`` [N, D] to as many pictures of either kind, [R, D]: pixels or features, flat.

    More pictures have nearer ones among them, so the two kinds are to be of the same size.
    """
    if len(train) != len(held_out):
        raise ValueError(f"{len(train)} train pictures and {len(held_out)} held-out ones: give as many of either")
    own, other = _nearest(images, train), _nearest(images, held_out)
    closer = (own < other).float() + (own == other).float() / 2
    return Nearness(float(own.median()), float(other.median()), float(closer.mean()))


def _nearest(images: Tensor, pictures: Tensor) -> Tensor:
    return torch.cat([torch.cdist(rows, pictures).min(dim=1).values for rows in images.split(_ROWS)])


def memorised_fid(fid: float, images: Tensor, train: Tensor) -> float:
    """``fid`` over the mean cosine distance of ``images`` [N, D] to the nearest ``train`` picture [R, D] where that is
    below 0.1 (Bai et al. 2021): larger than FID where images copy what was trained on."""
    units = normalize(train.double(), dim=1)
    distances = [1 - (normalize(rows.double(), dim=1) @ units.T).max(dim=1).values for rows in images.split(_ROWS)]
    distance = float(torch.cat(distances).mean())
    return fid / max(distance, _LEAST) if distance < _COPIED else fid
