"""Batches as functions of the step: a resumed run gets the batches that the stopped run would have got."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler


class StepSampler(Sampler[Tensor]):
    """Yields ``draw(step)``, the indices int64 [B] of a batch, for each step from ``start`` on.

    A resumed run sets ``start`` to the number of completed steps. Where ``shared`` is set, each of several processes
    takes its part of every batch; ``draw`` must be picklable if they are spawned.

    Args:
        draw: returns the indices of a step's batch.
        steps: number of steps of the whole run.
    """

    def __init__(self, draw: Callable[[int], Tensor], steps: int) -> None:
        self.draw = draw
        self.steps = steps
        self.start = 0
        self.shared = False

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        part = slice(None)
        if self.shared:
            part = slice(torch.distributed.get_rank(), None, torch.distributed.get_world_size())
        for step in range(self.start, self.steps):
            yield self.draw(step)[part]


class Indices:
    """A dataset of the indices themselves, for modules that hold their data on their device."""

    def __getitem__(self, indices: Tensor) -> Tensor:
        return indices


def loader(dataset: Any, draw: Callable[[int], Tensor], steps: int, streams: bool = False) -> DataLoader[Any]:
    """Create a loader of the batches ``dataset[draw(step)]``.

    Args:
        dataset: takes indices int64 [B] and returns a batch.
        draw: returns the indices of a step's batch.
        steps: number of steps.
        streams: whether the dataset reads from disk; worker processes then prepare batches ahead.
    """
    return DataLoader(
        dataset,
        sampler=StepSampler(draw, steps),
        batch_size=None,
        num_workers=min(len(os.sched_getaffinity(0)), 16) if streams else 0,  # cores that the process may use
        pin_memory=streams and torch.cuda.is_available(),
    )


def in_order(size: int, batch: int, step: int) -> Tensor:
    """Return the indices of batch number ``step`` of one pass in order over ``size`` pictures."""
    return torch.arange(step * batch, min((step + 1) * batch, size))
