"""k-center (Sener and Savarese 2018): pictures such that no other of their class is far from all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from infer.methods.selection import Given, Naturals, pictures


def naturals(given: Given) -> Naturals:
    """Greedy, in the first teacher's features: from the seed's first pick on, always the one farthest from all picked.

    Each class for itself, so that the set stays balanced.
    """
    shares = zip(given.picks, given.shares, strict=True)
    return pictures(given, [members[order(given.features(members), share)] for members, share in shares])


def order(features: Tensor, count: int) -> Tensor:
    """Positions int64 [count] in ``features`` float [N, D], the first of them first."""
    picked = [0]
    far = torch.linalg.vector_norm(features - features[0], dim=1)
    while len(picked) < min(count, len(features)):
        best = int(far.argmax())
        picked.append(best)
        far = torch.minimum(far, torch.linalg.vector_norm(features - features[best], dim=1))
        far[picked] = -1.0
    return torch.tensor(picked)
