"""Composition of what a distilled file does not store: composed images, mixed views and their labels, in batches.

The order of the natural images says which compensator belongs to which natural image: the j-th natural image of a class
belongs to round j, and compensator i to round ``i // compensators_per_round``. A compensator is added to every natural
image of its round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from infer.core import ufc
from infer.core.label_code import dequantise_labels
from infer.core.labels import distribution
from infer.core.mixed_views import ViewDraws
from infer.distilled.storage import StoredSet


def natural_rounds(targets: Tensor) -> Tensor:
    """Return the round of each natural image by its class number, int64 [N]."""
    order = targets.argsort(stable=True)
    first_of_class = torch.searchsorted(targets[order], targets[order])
    rounds = torch.empty_like(order)
    rounds[order] = torch.arange(len(order)) - first_of_class
    return rounds


def composed_count(targets: Tensor, compensators: int, per_round: int) -> int:
    """Return the number P of composed images, without making anything of that size.

    Args:
        targets: class numbers of the natural images, int64 [N].
        compensators: their number U, a multiple of ``per_round``.
        per_round: compensators of a round.
    """
    if not compensators:
        return 0
    return per_round * int(_round_sizes(natural_rounds(targets), compensators // per_round).sum())


def _round_sizes(rounds: Tensor, count: int) -> Tensor:
    """Return the number of natural images in each of the first ``count`` rounds, int64 [count]."""
    return rounds.bincount(minlength=count)[:count]


@dataclass(frozen=True, eq=False, repr=False)
class ComposedSet(StoredSet):
    """Batches of images and labels by index tensors, int64 [B] on the device of the set.

    The pool is the N natural images, then the P composed ones. The items are the mixed views of the pool, or, where the
    set has none, the pool itself. Training reads these methods; no transform is applied.
    """

    def __len__(self) -> int:
        return self.mixed_views.count if self.mixed_views else self.pool

    @property
    def pool(self) -> int:
        """Number of natural and composed images, N + P."""
        return len(self.naturals) + len(self.pairs)

    @cached_property
    def pairs(self) -> Tensor:
        """Positions of the natural image and the compensator of each composed image, int64 [P, 2]."""
        count, per_round = len(self.compensators), self.header.compensators_per_round
        if not count:
            return torch.empty(0, 2, dtype=torch.int64, device=self.device)
        rounds = natural_rounds(self.natural_targets.cpu())
        members = rounds.argsort(stable=True)  # the natural images, round after round
        sizes = _round_sizes(rounds, count // per_round)
        ends = sizes.cumsum(0).repeat_interleave(per_round)  # of each compensator's round in `members`
        sizes = sizes.repeat_interleave(per_round)
        compensators = torch.arange(count).repeat_interleave(sizes)
        behind = (sizes.cumsum(0) - ends).repeat_interleave(sizes)
        naturals = members[torch.arange(len(compensators)) - behind]
        return torch.stack([naturals, compensators], dim=1).to(self.device)

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor]:
        """The pairs of the whole pool, int64 [N + P, 2], and the compensators followed by one of zeros.

        Natural images are paired with the zeros. No branch depends on the indices then, so that composing a batch on a
        GPU never waits for the device.
        """
        numbers = torch.arange(len(self.naturals), device=self.device)
        naturals = torch.stack([numbers, torch.full_like(numbers, len(self.compensators))], dim=1)
        zeros = torch.zeros_like(self.naturals[:1], dtype=torch.int8)
        return torch.cat([naturals, self.pairs]), torch.cat([self.compensators, zeros])

    @cached_property
    def _draws(self) -> ViewDraws:
        assert self.mixed_views is not None
        return ViewDraws(*(part.to(self.device) for part in self.mixed_views.draws(self.choices)))

    def images(self, indices: Tensor) -> Tensor:
        """Compose the items at ``indices``, uint8 [B, ch, H, W]."""
        if self.mixed_views:
            return self.mixed_views.images(self._draws, self.pool_images, indices)
        return self.pool_images(indices)

    def pool_images(self, indices: Tensor) -> Tensor:
        """Compose the images at ``indices`` of the pool, uint8 [B, ch, H, W]."""
        if not len(self.compensators):
            return self.naturals[indices]
        pairs, compensators = self._parts
        natural, compensator = pairs[indices].unbind(dim=1)
        levels = self.header.step * compensators[compensator].short()
        return ufc.compose(self.naturals[natural].short(), levels).to(torch.uint8)

    def classes_of(self, indices: Tensor) -> Tensor:
        """Return the class numbers, int64 [B].

        A composed image has the class of its natural image, a mixed view that of its first image.
        """
        if self.mixed_views:
            indices = self._draws.first[indices]
        return self.natural_targets[self._parts[0][indices, 0]]

    def raw_labels(self, indices: Tensor) -> Tensor:
        """Return the labels, float32 [B, C], in ``header.space``, where they are mixed; one-hot if none are stored."""
        if self.labels is None:
            return torch.nn.functional.one_hot(self.classes_of(indices), len(self.header.classes)).float()
        labels = self.labels[indices]
        return dequantise_labels(labels) if self.mixed_views else labels.float()

    def soft_labels(self, indices: Tensor) -> Tensor:
        """Return the labels as probabilities, float32 [B, C], at ``header.temperature``."""
        labels = self.raw_labels(indices)
        if self.labels is None:
            return labels
        return distribution(labels, self.header.space, self.header.temperature)
