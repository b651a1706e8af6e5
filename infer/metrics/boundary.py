"""Decisions of a classifier near the boundary: confused classes, margins, and decisions that flip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_BATCH = 500


class Pair(NamedTuple):
    """Two classes, and the share of their images that is predicted as the other of the two."""

    one: int
    other: int
    share: float


def confused_pairs(confusion: Tensor, most: int = 5) -> list[Pair]:
    """Find the pairs of classes that are confused most often.

    Args:
        confusion: int64 [C, C]; entry (i, j) counts the images of class i that are predicted as class j.
        most: Largest number of pairs.

    Returns:
        The pairs, the most confused first. Pairs that are never confused are left out.
    """
    counts = confusion.double()
    images = counts.sum(dim=1, keepdim=True)
    share = ((counts + counts.T) / (images + images.T).clamp(min=1)).triu(diagonal=1)
    worst = share.flatten().argsort(descending=True, stable=True)[:most].tolist()
    pairs = [Pair(index // len(confusion), index % len(confusion), float(share.flatten()[index])) for index in worst]
    return [pair for pair in pairs if pair.share > 0]


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the margin of every decision.

    The margin is the probability of the true class less the largest probability of any other class. It is negative
    where the decision is wrong.

    Args:
        logits: float32 [N, C].
        targets: True classes, int64 [N].

    Returns:
        Margins from -1 to 1, float32 [N].
    """
    probabilities = logits.softmax(dim=1)
    true = probabilities.gather(1, targets[:, None]).squeeze(1)
    return true - probabilities.scatter(1, targets[:, None], -1).max(dim=1).values


@torch.no_grad()
def flip_rate(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    pairs: Sequence[Pair],
    weight: float,
    seed: int,
) -> float:
    """Compute the share of correct decisions that flip when an image of a similar class is mixed in.

    Every image x of one class of a pair is mixed with a random image y of the other class:
    ``(1 - weight) * x + weight * y``. A decision flips where the network classifies x correctly and the mixture not as
    the class of x.

    Args:
        network: Maps images to logits float32 [B, C].
        images: Normalised images, float32 [N, ch, H, W].
        targets: True classes, int64 [N].
        pairs: The pairs of similar classes.
        weight: Weight of the other image, 0 to 1.
        seed: Seed of the random partners.

    Returns:
        The share, 0 to 1; nan if no image of the pairs is classified correctly.
    """
    generator = torch.Generator().manual_seed(seed)
    flipped = correct = 0
    for pair in pairs:
        for own, other in ((pair.one, pair.other), (pair.other, pair.one)):
            ours, theirs = (images[targets == number] for number in (own, other))
            if not len(ours) or not len(theirs):
                continue
            partners = theirs[torch.randint(len(theirs), (len(ours),), generator=generator)]
            for batch, mixed_in in zip(ours.split(_BATCH), partners.split(_BATCH), strict=True):
                before = network(batch).argmax(dim=1) == own
                after = network((1 - weight) * batch + weight * mixed_in).argmax(dim=1) == own
                correct += int(before.sum())
                flipped += int((before & ~after).sum())
    return flipped / correct if correct else float("nan")
