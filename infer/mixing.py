"""How a student's batch is drawn and interpolated."""

from __future__ import annotations

import torch
from torch import Tensor


def passes(size: int, count: int, first: int, seed: int) -> Tensor:
    """Items ``first`` to ``first + count`` of an endless stream of shuffled passes over ``size`` images: int64 [count].

    A pure function: a run that stops goes on with the very images it would have seen.
    """
    drawn = []
    position = first
    while position < first + count:
        number, offset = divmod(position, size)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + number))
        piece = order[offset : offset + first + count - position]
        drawn.append(piece)
        position += len(piece)
    return torch.cat(drawn)


def student_batch(naturals: int, composed: int, batch: int, ratio: float | None, seed: int, step: int) -> Tensor:
    """Indices of the ``step``-th batch of a set of ``naturals`` images followed by ``composed`` ones: int64 [batch].

    ``ratio`` is the share of naturals in every batch; None draws every image of the set equally often.
    """
    if ratio is None or composed == 0:
        return passes(naturals + composed, batch, step * batch, seed)
    share = round(ratio * batch)
    parts = [passes(naturals, share, step * share, seed)] if share else []
    if share < batch:
        rest = batch - share
        parts.append(naturals + passes(composed, rest, step * rest, seed + 2**31))  # an order of its own
    return torch.cat(parts)


def mix(images: Tensor, kind: str, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Interpolate each image of a batch with another one: ``mixup``, ``cutmix`` or ``none``.

    Returns the images [B, ch, H, W], the partners' positions int64 [B] and the weight of the image itself, a float
    scalar tensor, with which labels are to be mixed (:func:`mix_labels`). One lam ~ Beta(alpha, alpha) a batch.
    """
    weight = torch.ones(())
    partner = torch.arange(len(images))
    if kind != "none":
        weight = torch.distributions.Beta(alpha, alpha).sample()
        partner = torch.randperm(len(images))
    if kind == "mixup":
        images = torch.lerp(images[partner], images, float(weight))
    elif kind == "cutmix":
        height, width = images.shape[-2:]
        side = (1 - weight).sqrt()
        cut_h, cut_w = int(side * height), int(side * width)
        top = int(torch.randint(height - cut_h + 1, ()))
        left = int(torch.randint(width - cut_w + 1, ()))
        images = images.clone()
        box = (..., slice(top, top + cut_h), slice(left, left + cut_w))
        images[box] = images[partner][box]
        weight = torch.tensor(1 - cut_h * cut_w / (height * width))
    return images, partner.to(images.device), weight.to(images.device)


def mix_labels(labels: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Labels [B, C], logits or probabilities, interpolated as :func:`mix` did the images."""
    return weight * labels + (1 - weight) * labels[partner]
