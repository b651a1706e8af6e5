"""The inputs of a method, its output, and the selection steps that several methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infer.data import Splits
from infer.methods.proxy import ProxyModel
from infer.models.weights import features, normalised

_BATCH = 500


class Naturals(NamedTuple):
    """Natural images of a set, in rounds of one image per class.

    Args:
        images: uint8 [N, ch, H, W].
        targets: class indices, int64 [N].
        indices: positions among the train images, int64 [N]; None for created images.
        reasons: why each was selected, N texts; empty for created images.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor | None = None
    reasons: Sequence[str] = ()

    def first(self, count: int) -> Naturals:
        """Return the first ``count`` images."""
        indices = None if self.indices is None else self.indices[:count]
        return Naturals(self.images[:count], self.targets[:count], indices, self.reasons[:count])


@dataclass(frozen=True)
class SelectionInputs:
    """Everything that a method may use to select or create ``count`` natural images.

    Args:
        data: the data set; only its train images are used.
        order: indices of the train images of each class, in the random order of the run's seed; C tensors int64.
        count: number of naturals.
        weights: relative number of naturals of each class, float [C].
        teachers: frozen networks in eval mode that take normalised images.
        seed: seed of the method's own random draws.
        device: device of all network evaluations.
        proxy: trained proxy model, for methods whose ``uses_proxy`` asks for one.
    """

    data: Splits
    order: Sequence[Tensor]
    count: int
    weights: Tensor
    teachers: Sequence[nn.Module]
    seed: int
    device: torch.device
    proxy: ProxyModel | None = None

    @cached_property
    def per_class(self) -> list[int]:
        """Number of naturals of each class. Where a class runs out of images, the others take its share."""
        classes = [torch.full_like(members[: self.count], number) for number, members in enumerate(self.order)]
        return round_robin(classes, self.weights)[: self.count].bincount(minlength=len(classes)).tolist()

    @property
    def largest(self) -> int:
        """Number of naturals of the class that has the most."""
        return max(self.per_class)

    def batches(self, indices: Tensor) -> list[Tensor]:
        """Split ``indices`` of train images into batches."""
        return list(indices.split(_BATCH))

    def normalised(self, images: Tensor) -> Tensor:
        """Turn pixel levels [B, ch, H, W] into the input of the teachers, float32, on ``device``."""
        mean, std = (moment.to(self.device) for moment in self.data.moments)
        return normalised(images.to(self.device), mean, std)

    def features(self, indices: Tensor) -> Tensor:
        """Compute the first teacher's features of the train images at ``indices``: float32 [N, D], on the CPU."""
        batches = (self.normalised(self.data.train[batch][0]) for batch in self.batches(indices))
        return features(self.teachers[0].to(self.device), batches)

    def reducible_loss(self, indices: Tensor) -> Tensor:
        """Compute the proxy model's reducible loss of the train images at ``indices``: float32 [N], on the CPU.

        Raises:
            ValueError: if there is no proxy model.
        """
        if self.proxy is None:
            raise ValueError("the reducible loss needs a proxy model, but SelectionInputs.proxy is None")
        return torch.cat([self.proxy.reducible_loss(self.data.train[batch][0]) for batch in self.batches(indices)])


def round_robin(orders: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Merge the lists of all classes: first one entry of each class, then further ones in proportion to ``weights``.

    With equal weights the second round has the second entry of each class, and so on. A class whose list has ended is
    skipped.

    Args:
        orders: one list per class, C tensors int64.
        weights: float [C], positive.

    Returns:
        All entries, int64 [N].
    """
    due = [torch.arange(len(order)) / weight for order, weight in zip(orders, weights.double(), strict=True)]
    return torch.cat(list(orders))[torch.cat(due).argsort(stable=True)]


def select_pictures(
    inputs: SelectionInputs,
    orders: Sequence[Tensor],
    reason: str = "chosen by the method",
    reasons: Mapping[int, str] = MappingProxyType({}),
) -> Naturals:
    """Select the first train images of each class.

    Args:
        inputs: of the method.
        orders: indices of each class by preference, C tensors int64.
        reason: why an image is selected, in a few words.
        reasons: the same of single images, by their indices.
    """
    enough = [order[: inputs.count] for order in orders]
    indices = round_robin(enough, inputs.weights)[: inputs.count]
    return Naturals(*inputs.data.train[indices], indices, [reasons.get(index, reason) for index in indices.tolist()])


def select_created(inputs: SelectionInputs, images: Tensor) -> Naturals:
    """Select from created ``images`` uint8 [C, R, ch, H, W] the first ones of each class."""
    classes, rows = images.shape[:2]
    order = round_robin(list(torch.arange(classes * rows).view(classes, rows)), inputs.weights)[: inputs.count]
    return Naturals(images.flatten(0, 1)[order], order // rows)
