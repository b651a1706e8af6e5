"""What a training reads its batches from."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Source(Protocol):
    """A training set: batches by their indices."""

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]: ...

    @property
    def streams(self) -> bool:
        """Whether a batch is read from disk."""
        ...
