"""Which classes a network takes for one another, and how near its decisions are to falling otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_BATCH = 500


class Pair(NamedTuple):
    """Two classes, and the share of their pictures that was taken for the other of the two."""

    one: int
    other: int
    share: float


def confused_pairs(confused: Tensor, most: int = 5) -> list[Pair]:
    """The pairs of classes most often taken for one another, the worst first; none that never were."""
    counts = confused.double()
    there = counts.sum(dim=1, keepdim=True)
    share = ((counts + counts.T) / (there + there.T).clamp(min=1)).triu(diagonal=1)
    worst = share.flatten().argsort(descending=True, stable=True)[:most].tolist()
    pairs = [Pair(index // len(confused), index % len(confused), float(share.flatten()[index])) for index in worst]
    return [pair for pair in pairs if pair.share > 0]


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Probability of the true class less that of the likeliest other, -1 to 1: [N]; negative where it is wrong."""
    known = logits.softmax(dim=1)
    own = known.gather(1, targets[:, None]).squeeze(1)
    return own - known.scatter(1, targets[:, None], -1).max(dim=1).values


@torch.no_grad()
def flips(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    pairs: Sequence[Pair],
    weight: float,
    seed: int,
) -> float:
    """Share of decisions that a little of a similar class turns: the images of either class of a pair that ``network``
    gets right and no longer gives their class once ``weight`` of an image of the other class is mixed in.

    ``images`` [N, ch, H, W] as the network takes them; nan where no image is right.
    """
    draw = torch.Generator().manual_seed(seed)
    turned = right = 0
    for pair in pairs:
        for own, other in ((pair.one, pair.other), (pair.other, pair.one)):
            ours, theirs = (images[targets == number] for number in (own, other))
            if not len(ours) or not len(theirs):
                continue
            partners = theirs[torch.randint(len(theirs), (len(ours),), generator=draw)]
            for some, mixed_in in zip(ours.split(_BATCH), partners.split(_BATCH), strict=True):
                known = network(some).argmax(dim=1) == own
                lost = network((1 - weight) * some + weight * mixed_in).argmax(dim=1) != own
                right += int(known.sum())
                turned += int((known & lost).sum())
    return turned / right if right else float("nan")
