"""Herding: real images whose mean feature stays close to the mean feature of their class.

Sources: Welling, "Herding Dynamical Weights to Learn", ICML 2009; as a selection rule: Rebuffi et al., "iCaRL:
Incremental Classifier and Representation Learning", CVPR 2017.

As in iCaRL, features have unit length. Where this version differs: the features are those of the first teacher, and
the class mean itself is not scaled to unit length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infer.methods.options import NoOptions
from infer.methods.selection import Naturals, SelectionInputs, select_pictures


def select(inputs: SelectionInputs, options: NoOptions) -> Naturals:
    """Select train images of each class by :func:`greedy_order`. The seed has no effect."""
    classes = zip(inputs.order, inputs.per_class, strict=True)
    orders = [members[greedy_order(inputs.features(members), n)] for members, n in classes]
    return select_pictures(inputs, orders, "keeps the mean of those chosen closest to the class mean (herding)")


def greedy_order(features: Tensor, count: int) -> Tensor:
    r"""Order images by herding.

    Step k picks the unused image i that minimises :math:`\lVert \mu - (s + f_i) / k \rVert`, where :math:`\mu` is the
    mean of all features and :math:`s` the sum of those picked so far.

    Args:
        features: float [N, D]; scaled to unit length first.
        count: number of images to pick; at most N are.

    Returns:
        Distinct indices in the order of picking, int64 [min(count, N)].
    """
    features = torch.nn.functional.normalize(features, dim=1)
    mean, total = features.mean(dim=0), torch.zeros(features.shape[1])
    unused = torch.ones(len(features), dtype=torch.bool)
    norms, closeness = features.square().sum(dim=1), features @ mean
    picked = []
    for step in range(1, min(count, len(features)) + 1):
        # The squared distance without the terms that all candidates share.
        distance = (norms + 2 * (features @ total)) / step**2 - 2 * closeness / step
        best = int(distance.masked_fill(~unused, torch.inf).argmin())
        picked.append(best)
        unused[best] = False
        total += features[best]
    return torch.tensor(picked, dtype=torch.int64)
