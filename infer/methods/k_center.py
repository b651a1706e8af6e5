"""k-center: real images such that no image of their class is far from all of them.

Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018.

Where this version differs: it is only the greedy algorithm, without the mixed integer program that refines it, and it
treats each class separately, so that the set is balanced. The features are those of the first teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infer.methods.options import NoOptions
from infer.methods.selection import Naturals, SelectionInputs, select_pictures


def select(inputs: SelectionInputs, options: NoOptions) -> Naturals:
    """Select train images of each class by :func:`greedy_order`. The seed determines the first image of a class."""
    classes = zip(inputs.order, inputs.per_class, strict=True)
    orders = [members[greedy_order(inputs.features(members), n)] for members, n in classes]
    return select_pictures(inputs, orders, "farthest from those chosen before it (k-center)")


def greedy_order(features: Tensor, count: int) -> Tensor:
    """Order images by farthest-first traversal: each next image is the one farthest from all picked ones.

    Args:
        features: float [N, D]. The first image is picked first.
        count: number of images to pick; at most N are.

    Returns:
        Distinct indices in the order of picking, int64 [min(count, N)].
    """
    picked, distance = [0], torch.full((len(features),), torch.inf)
    while len(picked) < min(count, len(features)):
        distance = torch.minimum(distance, torch.linalg.vector_norm(features - features[picked[-1]], dim=1))
        distance[picked[-1]] = -1.0  # nearer than any other ever is: it is not picked again
        picked.append(int(distance.argmax()))
    return torch.tensor(picked)
