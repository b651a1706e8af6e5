"""What a method hands over, before it is labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from infer.budget import Split
from infer.data import Splits
from infer.errors import UserError


class Stored(NamedTuple):
    """``naturals`` uint8 [N, ch, H, W], their ``targets`` int64 [N], and ``compensators`` int8 [U, ch, H, W]."""

    naturals: Tensor
    targets: Tensor
    compensators: Tensor


Compensate = Callable[[Tensor, Tensor], Tensor]
Method = Callable[[Splits, Split, Sequence[Tensor], Compensate], Stored]


def naturals(data: Splits, split: Split, picks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Images and targets of :func:`positions`."""
    return data.train[positions(data, split, picks)]


def positions(data: Splits, split: Split, picks: Sequence[Tensor]) -> Tensor:
    """The split's naturals round after round, a class after the other, then the extra ones: their places in the train
    split, int64 [N].

    Extra ones are taken from the classes in turn, from those that still have some. Raises :class:`UserError` naming the
    classes that have fewer pictures than there are rounds.
    """
    short = [
        f"{name} has {len(pick)}" for name, pick in zip(data.classes, picks, strict=True) if len(pick) < split.rounds
    ]
    if short:
        raise UserError(
            f"ipc: the split needs {split.rounds} train pictures of every class, but {', '.join(short)}; "
            "choose a smaller ipc or add pictures"
        )
    if split.naturals > len(data.train):
        raise UserError(f"ipc: asks for {split.naturals} train pictures, but there are {len(data.train)}")
    in_turn = [pick[k] for k in range(max(map(len, picks))) for pick in picks if k < len(pick)]
    return torch.stack(in_turn[: split.naturals])
