"""INFER as published: K naturals of each class, and a compensator for each round and teacher."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from infer import ufc
from infer.budget import Split
from infer.data import Splits
from infer.methods.stored import Compensate, Stored, naturals


def distil(data: Splits, split: Split, picks: Sequence[Tensor], compensate: Compensate) -> Stored:
    """Pick the naturals, optimise the compensators of all rounds, and keep both at 8 bits."""
    images, targets = naturals(data, split, picks)
    met = split.rounds * split.classes
    rounds = (split.rounds, split.classes)
    u = compensate(images[:met].unflatten(0, rounds), targets[:met].unflatten(0, rounds))
    return Stored(images, targets, ufc.quantise(u.flatten(0, 1), data.moments[1]))
