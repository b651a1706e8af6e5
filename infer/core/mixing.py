"""Drawing and interpolating a student's batches."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from infer.core.devices import moved


def shuffled_indices(size: int, count: int, first: int, seed: int) -> Tensor:
    """Return items ``first`` to ``first + count`` of an endless stream of shuffled passes over ``size`` images.

    Returns int64 [count]. It is a pure function: a resumed run sees the images that the unbroken one would have seen.
    """
    drawn = []
    position = first
    while position < first + count:
        number, offset = divmod(position, size)
        piece = _order(size, seed, number)[offset : offset + first + count - position]
        drawn.append(piece)
        position += len(piece)
    return torch.cat(drawn)


@lru_cache(maxsize=4)  # a batch may need the end of one pass and the start of the next, of naturals and of composed
def _order(size: int, seed: int, number: int) -> Tensor:
    """Return the order of pass ``number``, int64 [size]; it is drawn once a pass and shared: do not change it."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + number))


def student_batch(naturals: int, composed: int, batch: int, ratio: float | None, seed: int, step: int) -> Tensor:
    """Draw the indices of one batch of a set of ``naturals`` images followed by ``composed`` ones.

    Args:
        naturals, composed: numbers of images.
        batch: images of a batch.
        ratio: share of naturals in a batch; None draws every image of the set equally often.
        seed: of the order of the images.
        step: number of the batch.

    Returns:
        int64 [batch].
    """
    if ratio is None or composed == 0:
        return shuffled_indices(naturals + composed, batch, step * batch, seed)
    share = round(ratio * batch)
    parts = [shuffled_indices(naturals, share, step * share, seed)] if share else []
    if share < batch:
        rest = batch - share
        parts.append(naturals + shuffled_indices(composed, rest, step * rest, seed + 2**31))  # an order of its own
    return torch.cat(parts)


def mix(images: Tensor, kind: str, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Interpolate each image of a batch with another image of it.

    One weight ~ Beta(alpha, alpha) is drawn per batch, as in the paper, from torch's global generator.

    Args:
        images: float [B, ch, H, W].
        kind: ``mixup`` (Zhang et al. 2018), ``cutmix`` (Yun et al. 2019) or ``none``.
        alpha: of the Beta distribution.

    Returns:
        The mixed images [B, ch, H, W], the partners' positions int64 [B], and the weights of the images themselves,
        float [B]: the arguments of :func:`mix_labels`.
    """
    device, batch = images.device, len(images)
    if kind == "none":
        return images, torch.arange(batch, device=device), torch.ones(batch, device=device)
    weight = moved(torch.distributions.Beta(alpha, alpha).sample(), device).expand(batch)
    partner = moved(torch.randperm(batch), device)
    mixed, weight = blend(images, images[partner], kind, weight, moved(torch.rand(1, 2), device).expand(batch, 2))
    return mixed, partner, weight


def blend(images: Tensor, partners: Tensor, kind: str, weight: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    """Blend each image with its partner: a weighted sum (``mixup``), or a box of the partner pasted in (``cutmix``).

    Args:
        images, partners: [B, ch, H, W].
        kind: ``mixup`` or ``cutmix``.
        weight: share of the image itself, float [B].
        corner: place of the box, in 0 to 1, float [B, 2].

    Returns:
        The blended images, and the share of the image itself after rounding the box to whole pixels, float [B].
    """
    if kind == "mixup":
        return torch.lerp(partners, images, weight[:, None, None, None].to(images.dtype)), weight
    sides = moved(torch.tensor(images.shape[-2:]), images.device)
    box = ((1 - weight).sqrt()[:, None] * sides).long()
    start = (corner * (sides - box + 1)).long()
    inside = []
    for axis, side in enumerate(images.shape[-2:]):
        place = torch.arange(side, device=images.device)
        inside.append((place >= start[:, axis, None]) & (place < (start + box)[:, axis, None]))
    pasted = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return torch.where(pasted, partners, images), (1 - box.prod(dim=1) / sides.prod()).to(weight.dtype)


def mix_labels(labels: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Interpolate labels [B, C], logits or probabilities, as :func:`mix` interpolated the images."""
    return torch.lerp(labels[partner], labels, weight[:, None])
