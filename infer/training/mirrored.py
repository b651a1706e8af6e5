"""Alternating flips: each pass has the mirror image of every picture of the pass before.

Of random flips, a quarter of the pictures are the same in two passes in a row on either side; alternating ones show
both sides of each picture in every two passes (Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from infer.core.mixing import shuffled_indices
from infer.data import Pictures, Streamed


@dataclass(frozen=True)
class Mirrored:
    """N pictures followed by the mirror images of all of them, which take no memory.

    Args:
        pictures: N pictures.
    """

    pictures: Pictures | Streamed

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images, targets = self.pictures[indices % len(self.pictures)]
        flipped = (indices >= len(self.pictures)).to(images.device)[:, None, None, None]
        return torch.where(flipped, images.flip(-1), images), targets

    @property
    def streams(self) -> bool:
        """Whether a batch is read from disk."""
        return self.pictures.streams

    @property
    def device(self) -> torch.device:
        """The device of the pictures, and of indices."""
        return self.pictures.device

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.pictures.nbytes

    def to(self, device: torch.device) -> Mirrored:
        """Move the pictures to ``device``; streamed ones stay on disk."""
        return replace(self, pictures=self.pictures.to(device))


def mirrored_batch(size: int, batch: int, seed: int, step: int) -> Tensor:
    """Draw the indices of one batch of :class:`Mirrored` with ``size`` pictures: int64 [batch], below 2 * ``size``.

    Half of the pictures, chosen by the seed, are mirrored in even passes, the others in odd ones.

    Example:
        >>> two_passes = torch.stack([mirrored_batch(6, 6, 0, step).sort().values for step in (0, 1)])
        >>> two_passes.flatten().sort().values.tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    """
    pictures = shuffled_indices(size, batch, step * batch, seed)
    passes = torch.arange(step * batch, (step + 1) * batch) // size
    return pictures + size * ((passes + _order(size, seed)[pictures]) % 2)


@lru_cache(maxsize=1)  # of every step of a training
def _order(size: int, seed: int) -> Tensor:
    """Return an order of the pictures, int64 [size]; those at odd places are mirrored in even passes."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))
