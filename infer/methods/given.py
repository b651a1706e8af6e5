"""What a method is given, and what picking methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infer import ufc
from infer.backbones import features
from infer.data import Splits
from infer.errors import UserError

_BATCH = 500


@dataclass(frozen=True)
class Given:
    """``data``, the order ``picks`` in which the run's seed draws each class's train pictures (C tensors int64), how
    many naturals are wanted (``count``, the classes in turn), the frozen ``teachers``, the ``seed``, the
    ``device`` to work on, and how much images uint8 [B, ch, H, W] would tell a ``scout`` (infer_plus.py)."""

    data: Splits
    picks: Sequence[Tensor]
    count: int
    teachers: Sequence[nn.Module]
    seed: int
    device: torch.device
    scout: Callable[[Tensor], Tensor]

    @property
    def rows(self) -> int:
        """Naturals of a class at most: more than its share where other classes run out."""
        sizes = [len(members) for members in self.picks]
        share, largest = -(-self.count // len(sizes)), max(sizes)
        enough = (rows for rows in range(share, largest) if sum(min(size, rows) for size in sizes) >= self.count)
        return next(enough, max(share, largest))

    def batches(self, positions: Tensor) -> list[Tensor]:
        """Positions of train pictures, a batch each."""
        return list(positions.split(_BATCH))

    def inputs(self, images: Tensor) -> Tensor:
        """Pixel levels [B, ch, H, W] as the teachers take them."""
        mean, std = (moment.to(self.device) for moment in self.data.moments)
        return ufc.normalise(images.to(self.device), mean, std).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def probabilities(self, positions: Tensor) -> Tensor:
        """Of the classes, the teachers' mean, for train pictures at ``positions``: float32 [N, C]."""
        found = []
        for batch in self.batches(positions):
            images = self.inputs(self.data.train[batch][0])
            found.append(torch.stack([t.to(self.device)(images).float().softmax(1) for t in self.teachers]).mean(0))
        return torch.cat(found).cpu()

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
    return Naturals(*given.data.train[in_turn(orders)[: given.count]])


def in_turn(orders: Sequence[Tensor]) -> Tensor:
    """The first of each class, then the second of each, ...: int64; classes that run out are passed over."""
    return torch.stack([order[k] for k in range(max(map(len, orders))) for order in orders if k < len(order)])


def check(data: Splits, count: int) -> None:
    """Raise :class:`UserError` where there are too few pictures for ``count`` naturals."""
    if count > len(data.train):
        raise UserError(
            f"ipc: asks for {count} train pictures, but there are {len(data.train)}; choose a smaller ipc or add some"
        )


Method = Callable[..., Naturals]
"""``naturals(given, **options)``; the options are those of conf/method/<name>.yaml."""
