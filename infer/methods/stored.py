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
    """The split's naturals round after round, a class after the other, then the extra ones: images and targets.

    Raises :class:`UserError` naming the classes that have fewer pictures than the split needs.
    """
    needed = split.natural_per_class
    counts = {name: len(pick) for name, pick in zip(data.classes, picks, strict=True)}
    short = [f"{name} has {count}" for name, count in counts.items() if count < needed]
    if short:
        raise UserError(
            f"ipc: the split needs {needed} train pictures of every class, but {', '.join(short)}; "
            f"choose a smaller ipc or add pictures"
        )
    order = [picks[c][k] for k in range(split.rounds) for c in range(split.classes)]
    order += [picks[i % split.classes][split.rounds + i // split.classes] for i in range(split.extra)]
    return data.train[torch.stack(order)]
