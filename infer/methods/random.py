"""The baseline that decides: as many natural pictures as the budget holds, picked at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infer.budget import Split
from infer.data import Splits
from infer.methods.stored import Compensate, Stored, naturals


def distil(data: Splits, split: Split, picks: Sequence[Tensor], _: Compensate) -> Stored:
    """Naturals alone, as a method: it asks for no compensators."""
    return pick(data, split, picks)


def pick(data: Splits, split: Split, picks: Sequence[Tensor]) -> Stored:
    """Naturals alone."""
    images, targets = naturals(data, split, picks)
    return Stored(images, targets, torch.empty(0, *images.shape[1:], dtype=torch.int8))
