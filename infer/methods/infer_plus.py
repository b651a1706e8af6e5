"""Ours: bytes go where they teach most. A scout, a student of random pictures, shows what a file of these leaves out.

What it misses and the teachers agree on is worth storing: first of the pictures (``naturals``), then of each view's
candidates (labels.candidates). A codec for the naturals (budget/) and labels of views (labels/) make the room for it.
Each of the four can be switched alone, and all but the first given to any other method.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infer.methods.selection import Given, Naturals, pictures


def naturals(given: Given, easiest: float) -> Naturals:
    """The seed's first pictures, without the ``easiest`` share (0 to 1) of each class: those that tell a scout least.

    A class of which too few would be left gives up only as many as it can spare.
    """
    orders = []
    for members, share in zip(given.picks, given.shares, strict=True):
        spare = min(int(easiest * len(members)), len(members) - share)
        kept = torch.ones(len(members), dtype=torch.bool)
        if spare:
            kept[given.telling(members).argsort(stable=True)[:spare]] = False
        orders.append(members[kept])
    return pictures(given, orders)


def telling(scout: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """How much images would tell a scout, from its logits [B, C] and the ``teachers``' [M, B, C]: float32 [B].

    KL(label || scout) - mean of KL(label || teacher), all at ``temperature``, where the label is the mean of the
    teachers' probabilities: what the scout misses, less what even a teacher of everything does. After the reducible
    loss of Mindermann et al. 2022, for soft labels.
    """
    known = (teachers / temperature).log_softmax(dim=-1)
    label = known.exp().mean(dim=0)
    return (label * (known.mean(dim=0) - (scout / temperature).log_softmax(dim=-1))).sum(dim=-1)
