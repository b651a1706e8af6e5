"""Herding (Welling 2009; iCaRL, Rebuffi et al. 2017): pictures whose mean feature keeps nearest to their class's."""

from __future__ import annotations

import torch
from torch import Tensor

from infer.methods.selection import Given, Naturals, pictures


def naturals(given: Given) -> Naturals:
    """Greedy: each next picture is the one that moves the mean of the picked nearest to the mean of the class.

    In the first teacher's features, of unit length each. The seed decides nothing.
    """
    shares = zip(given.picks, given.shares, strict=True)
    return pictures(given, [members[order(given.features(members), share)] for members, share in shares])


def order(features: Tensor, count: int) -> Tensor:
    """Positions int64 [count] in ``features`` float [N, D], each once."""
    features = torch.nn.functional.normalize(features, dim=1)
    mean, total = features.mean(dim=0), torch.zeros(features.shape[1])
    free = torch.ones(len(features), dtype=torch.bool)
    norms, closeness = features.square().sum(dim=1), features @ mean
    picked = []
    for step in range(1, min(count, len(features)) + 1):
        # |mean - (total + f) / step|^2, less what all candidates share
        distance = (norms + 2 * (features @ total)) / step**2 - 2 * closeness / step
        best = int(distance.masked_fill(~free, torch.inf).argmin())
        picked.append(best)
        free[best] = False
        total += features[best]
    return torch.tensor(picked, dtype=torch.int64)
