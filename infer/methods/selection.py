"""What a method is given, and what picking methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infer.core import ufc
from infer.core.errors import UserError
from infer.data import Splits
from infer.models.networks import features

_BATCH = 500


@dataclass(frozen=True)
class Given:
    """``data``, the order ``picks`` in which the run's seed draws each class's train pictures (C tensors int64), how
    many naturals are wanted (``count``), the ``weights`` float [C] by which classes share them, the frozen
    ``teachers``, the ``seed``, the ``device`` to work on, and how much images uint8 [B, ch, H, W] would tell a
    ``scout`` (infer_plus.py)."""

    data: Splits
    picks: Sequence[Tensor]
    count: int
    weights: Tensor
    teachers: Sequence[nn.Module]
    seed: int
    device: torch.device
    scout: Callable[[Tensor], Tensor]

    @cached_property
    def shares(self) -> list[int]:
        """Naturals of each class: more than its share of them where other classes run out."""
        classes = [torch.full_like(members, number) for number, members in enumerate(self.picks)]
        return in_turn(classes, self.weights)[: self.count].bincount(minlength=len(classes)).tolist()

    @property
    def rows(self) -> int:
        """The most of a class."""
        return max(self.shares)

    def batches(self, positions: Tensor) -> list[Tensor]:
        """Positions of train pictures, a batch each."""
        return list(positions.split(_BATCH))

    def inputs(self, images: Tensor) -> Tensor:
        """Pixel levels [B, ch, H, W] as the teachers take them."""
        mean, std = (moment.to(self.device) for moment in self.data.moments)
        return ufc.normalise(images.to(self.device), mean, std).contiguous(memory_format=torch.channels_last)

    def telling(self, positions: Tensor) -> Tensor:
        """How much the train pictures at ``positions`` would tell the scout: float32 [N]."""
        return torch.cat([self.scout(self.data.train[batch][0]) for batch in self.batches(positions)])

    def features(self, positions: Tensor) -> Tensor:
        """What the first teacher's last linear layer is given: float32 [N, D]."""
        batches = (self.inputs(self.data.train[batch][0]) for batch in self.batches(positions))
        return features(self.teachers[0].to(self.device), batches)


class Naturals(NamedTuple):
    """``images`` uint8 [N, ch, H, W] and ``targets`` int64 [N]: a class after the other, round after round."""

    images: Tensor
    targets: Tensor


def pictures(given: Given, orders: Sequence[Tensor]) -> Naturals:
    """Train pictures, from the front of each class's order."""
    return Naturals(*given.data.train[in_turn(orders, given.weights)[: given.count]])


def made(given: Given, images: Tensor) -> Naturals:
    """Of ``images`` [C, R, ch, H, W] of each class in turn as many as are wanted."""
    classes, rows = images.shape[:2]
    order = in_turn(list(torch.arange(classes * rows).view(classes, rows)), given.weights)[: given.count]
    return Naturals(images.flatten(0, 1)[order], order // rows)


def in_turn(orders: Sequence[Tensor], weights: Tensor) -> Tensor:
    """The first of each class, then further ones, of a class with twice the weight twice as many: int64 [N].

    Of equal ``weights`` [C] that is the second of each, the third of each, ...; classes that run out are passed over.
    """
    due = [torch.arange(len(order)) / weight for order, weight in zip(orders, weights.double(), strict=True)]
    return torch.cat(list(orders))[torch.cat(due).argsort(stable=True)]


def check(data: Splits, count: int) -> None:
    """Raise :class:`UserError` where there are too few pictures for ``count`` naturals."""
    if count > len(data.train):
        raise UserError(
            f"ipc: asks for {count} train pictures, but there are {len(data.train)}; choose a smaller ipc or add some"
        )


Method = Callable[..., Naturals]
"""``naturals(given, **options)``; the options are those of conf/method/<name>.yaml."""
