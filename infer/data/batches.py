"""Batches as functions of the step: what a stopped run would have seen, a resumed one sees."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler


class StepSampler(Sampler[Tensor]):
    """Yields ``draw(step)``, the indices int64 [B] of each of ``steps`` steps, from ``start`` on.

    A stopped run that goes on sets ``start`` to the steps it has behind it. Where ``shared`` among several processes,
    each takes its part of every batch; ``draw`` must be picklable for those that are spawned.
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
    """A dataset of the indices themselves, for stages whose data lie with the module, on its device."""

    def __getitem__(self, indices: Tensor) -> Tensor:
        return indices


def loader(dataset: Any, draw: Callable[[int], Tensor], steps: int, streams: bool = False) -> DataLoader[Any]:
    """Batches ``dataset[draw(step)]`` of ``steps`` steps; where the dataset ``streams``, workers decode ahead."""
    return DataLoader(
        dataset,
        sampler=StepSampler(draw, steps),
        batch_size=None,
        num_workers=min(os.cpu_count() or 1, 16) if streams else 0,
        pin_memory=streams and torch.cuda.is_available(),
    )


def fits(size: int, device: torch.device) -> bool:
    """Whether a set of ``size`` bytes may lie on ``device`` beside what trains on it: in half of what is free."""
    return device.type != "cuda" or size < torch.cuda.mem_get_info(device)[0] / 2


def in_order(size: int, batch: int, step: int) -> Tensor:
    """Indices of the ``step``-th batch of one pass over ``size`` pictures as they lie."""
    return torch.arange(step * batch, min((step + 1) * batch, size))
