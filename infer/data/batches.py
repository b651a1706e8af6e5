"""Batches as functions of the step: what a stopped run would have seen, a resumed one sees."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
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


def augment(images: Tensor, crop: int, flip: bool, resized_crop: float | None = None) -> Tensor:
    """Random crops, zero-padded by ``crop`` pixels, and horizontal flips, one draw an image.

    ``images`` [B, ch, H, W] of any dtype, on any device; the padding is black. ``resized_crop`` in the place of
    ``crop``: random boxes of at least this share of the area, resized to the whole; float images come out.
    """
    if not crop and not flip and not resized_crop:
        return images
    batch, _, height, width = images.shape
    device = images.device
    if resized_crop:
        return _resized_crops(images, resized_crop, flip)
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


def _resized_crops(images: Tensor, least: float, flip: bool) -> Tensor:
    """A box of its own for each image, sampled bilinearly: one affine map an image."""
    batch, _, height, width = images.shape
    size_y, size_x = _box_sizes(batch, least)
    maps = torch.zeros(batch, 2, 3)
    maps[:, 0, 0] = torch.where(torch.rand(batch) < 0.5, -size_x, size_x) if flip else size_x
    maps[:, 1, 1] = size_y
    maps[:, 0, 2] = torch.empty(batch).uniform_(-1, 1) * (1 - size_x)
    maps[:, 1, 2] = torch.empty(batch).uniform_(-1, 1) * (1 - size_y)
    grid = F.affine_grid(maps.to(images.device), [batch, 1, height, width], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _box_sizes(count: int, least: float) -> tuple[Tensor, Tensor]:
    """Heights and widths of random boxes, float [count] each, as shares of the side of the square they lie in."""
    share = torch.empty(count).uniform_(least, 1.0)
    aspect = torch.empty(count).uniform_(math.log(3 / 4), math.log(4 / 3)).exp()
    return (share / aspect).sqrt().clamp(max=1), (share * aspect).sqrt().clamp(max=1)


def random_box(side: int, least: float) -> tuple[int, int, int, int]:
    """Top, left, height and width in pixels of a random box of at least ``least`` of the area of a square."""
    height, width = (max(1, round(side * float(size))) for size in _box_sizes(1, least))
    top, left = int(torch.randint(side - height + 1, ())), int(torch.randint(side - width + 1, ()))
    return top, left, height, width


def resized(images: Tensor, box: tuple[int, int, int, int], side: int) -> Tensor:
    """That box of every image [..., ch, H, W] float, resized to ``side`` x ``side``."""
    top, left, height, width = box
    cut = images[..., top : top + height, left : left + width]
    return F.interpolate(cut.flatten(0, -4), (side, side), mode="bilinear", antialias=True).view(
        *images.shape[:-2], side, side
    )
