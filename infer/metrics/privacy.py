"""What a file, and a student of it, give away of the pictures behind it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.special import ndtri
from scipy.stats import mannwhitneyu
from torch import Tensor
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

from infer.metrics.fidelity import Features

_ROWS = 2048


class Attack(NamedTuple):
    """``auc`` in 0 to 1, 0.5 for an attack no better than guessing; ``low`` and ``high`` end its 95 % interval."""

    auc: float
    low: float
    high: float


def membership(members: Tensor, others: Tensor) -> Attack:
    """The loss-threshold attack (Yeom et al. 2018): does a smaller loss tell a training picture from one never seen?

    From the losses [N] of ``members`` of the training set and [R] of ``others``. The area under the attack's curve is
    the chance that a member has the smaller loss of the two; its standard error is that of Hanley and McNeil 1982.
    """
    positive, negative = len(members), len(others)
    statistic = mannwhitneyu(-members.double().numpy(), -others.double().numpy()).statistic
    auc = float(statistic) / (positive * negative)
    both_members, both_others = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc)
    variance += (positive - 1) * (both_members - auc**2) + (negative - 1) * (both_others - auc**2)
    half = float(ndtri(0.975)) * math.sqrt(max(0.0, variance) / (positive * negative))
    return Attack(auc, max(0.0, auc - half), min(1.0, auc + half))


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


def memorised_fid(images: Tensor, real: Tensor) -> float:
    """FID over the mean cosine distance to the nearest real picture where that is small (Bai et al. 2021).

    Torchmetrics', from features [N, D] and [R, D]; larger than FID where images copy real ones.
    """
    metric = MemorizationInformedFrechetInceptionDistance(feature=Features(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(images.double(), real=False)
    return max(0.0, float(metric.compute()))
