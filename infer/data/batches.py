"""Batches as functions of the step: what a stopped run would have seen, a resumed one sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Sampler


class StepSampler(Sampler[Tensor]):
    """Yields ``draw(step)``, the indices int64 [B] of each of ``steps`` steps, from ``start`` on.

    A stopped run that goes on sets ``start`` to the steps it has behind it. Under several processes each takes its
    share of every batch; ``draw`` must be picklable for those that are spawned.
    """

    def __init__(self, draw: Callable[[int], Tensor], steps: int) -> None:
        self.draw = draw
        self.steps = steps
        self.start = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor]:
        ranks = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if ranks else (0, 1)
        for step in range(self.start, self.steps):
            yield self.draw(step)[rank::world]


def loader(dataset: Any, draw: Callable[[int], Tensor], steps: int) -> DataLoader[Any]:
    """Batches ``dataset[draw(step)]`` of ``steps`` steps; no workers, no Python a picture."""
    return DataLoader(dataset, sampler=StepSampler(draw, steps), batch_size=None)


def in_order(size: int, batch: int, step: int) -> Tensor:
    """Indices of the ``step``-th batch of one pass over ``size`` pictures as they lie."""
    return torch.arange(step * batch, min((step + 1) * batch, size))


def augment(images: Tensor, crop: int, flip: bool) -> Tensor:
    """Random crops, zero-padded by ``crop`` pixels, and horizontal flips, one draw an image.

    ``images`` [B, ch, H, W] of any dtype, on any device; the padding is black.
    """
    if not crop and not flip:
        return images
    batch, _, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(batch, -1)
    columns = torch.arange(width, device=device).expand(batch, -1)
    if flip:
        columns = torch.where((torch.rand(batch, 1) < 0.5).to(device), width - 1 - columns, columns)
    if crop:
        offsets = torch.randint(2 * crop + 1, (2, batch, 1)).to(device)
        images = F.pad(images, (crop,) * 4)
        rows, columns = rows + offsets[0], columns + offsets[1]
    picked = torch.arange(batch, device=device)[:, None, None]
    # Indexing puts the channels last, which is the memory format the networks want.
    return images[picked, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
