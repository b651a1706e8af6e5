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

    Returns the images [B, ch, H, W], the partners' positions int64 [B] and the weights of the images themselves, float
    [B], with which labels are to be mixed (:func:`mix_labels`). One lam ~ Beta(alpha, alpha) a batch, as the paper has
    it.
    """
    device, batch = images.device, len(images)
    if kind == "none":
        return images, torch.arange(batch, device=device), torch.ones(batch, device=device)
    weight = torch.distributions.Beta(alpha, alpha).sample().to(device).expand(batch)
    partner = torch.randperm(batch).to(device)
    mixed, weight = blend(images, images[partner], kind, weight, torch.rand(1, 2).to(device).expand(batch, 2))
    return mixed, partner, weight


def blend(images: Tensor, partners: Tensor, kind: str, weight: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    """Each of ``images`` [B, ch, H, W] with its partner: their sum (``mixup``), or a box of the partner (``cutmix``).

    ``weight`` float [B] is the share of the image itself, ``corner`` [B, 2] in 0 to 1 says where the box lies. Returns
    the images and the shares that the labels are to have, which a box of whole pixels moves a little.
    """
    if kind == "mixup":
        return torch.lerp(partners, images, weight[:, None, None, None].to(images.dtype)), weight
    sides = torch.tensor(images.shape[-2:], device=images.device)
    box = ((1 - weight).sqrt()[:, None] * sides).long()
    start = (corner * (sides - box + 1)).long()
    inside = []
    for axis, side in enumerate(images.shape[-2:]):
        place = torch.arange(side, device=images.device)
        inside.append((place >= start[:, axis, None]) & (place < (start + box)[:, axis, None]))
    pasted = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return torch.where(pasted, partners, images), (1 - box.prod(dim=1) / sides.prod()).to(weight.dtype)


def mix_labels(labels: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Labels [B, C], logits or probabilities, interpolated as :func:`mix` did the images."""
    return torch.lerp(labels[partner], labels, weight[:, None])
