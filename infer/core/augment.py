"""Random crops, flips and boxes as pure functions of uniform draws: the same draws give the same images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from infer.core.devices import moved

DRAWS = 5
"""Uniform numbers in 0 to 1 that one image takes."""

Transform = Callable[[Tensor], Tensor]


def augment(images: Tensor, draws: Tensor, crop: int, flip: bool, resized_crop: float | None = None) -> Tensor:
    """Crop and flip each image as its draws say.

    Args:
        images: [B, ch, H, W] of any dtype, on any device.
        draws: float [B, DRAWS], uniform in 0 to 1.
        crop: pixels of black padding before a crop of the image's size.
        flip: flip half of the images horizontally.
        resized_crop: in place of ``crop``, boxes of at least this share of the area, resized to the whole image.

    Returns:
        [B, ch, H, W]; of the dtype of ``images``, or float where ``resized_crop`` is given.
    """
    if not crop and not flip and not resized_crop:
        return images
    draws = moved(draws, images.device)
    flipped = flip & (draws[:, 0] < 0.5)
    if resized_crop:
        return _resized_crops(images, draws[:, 1:], flipped, resized_crop)
    batch, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(batch, -1)
    columns = torch.arange(width, device=images.device).expand(batch, -1)
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    if crop:
        down, right = (draws[:, 1:3] * (2 * crop + 1)).long().unbind(dim=1)
        images = F.pad(images, (crop,) * 4)
        rows, columns = rows + down[:, None], columns + right[:, None]
    pixels = (images.shape[-1] * rows[:, :, None] + columns[:, None, :]).view(batch, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, pixels).view(batch, channels, height, width)


def _resized_crops(images: Tensor, draws: Tensor, flipped: Tensor, least: float) -> Tensor:
    """Sample a box of each image bilinearly, by one affine map per image."""
    batch, _, height, width = images.shape
    size_y, size_x = _box_sizes(draws[:, :2], least)
    maps = torch.zeros(batch, 2, 3, device=images.device)
    maps[:, 0, 0] = torch.where(flipped, -size_x, size_x)
    maps[:, 1, 1] = size_y
    maps[:, 0, 2] = (2 * draws[:, 2] - 1) * (1 - size_x)
    maps[:, 1, 2] = (2 * draws[:, 3] - 1) * (1 - size_y)
    grid = F.affine_grid(maps, [batch, 1, height, width], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _box_sizes(draws: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return heights and widths of boxes from ``draws`` [B, 2], as shares of the side of the square image."""
    share = least + (1 - least) * draws[:, 0]
    aspect = (math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draws[:, 1]).exp()
    return (share / aspect).sqrt().clamp(max=1), (share * aspect).sqrt().clamp(max=1)


def random_transform(jitter: int, resized_crop: float | None, side: int) -> Transform:
    """Draw one transform of square images [..., ch, side, side] from torch's global generator.

    Args:
        jitter: the transform rolls images by 0 to this many pixels, down and right.
        resized_crop: least share of the area of a box that is resized to the whole, with a random flip; None: neither.
        side: height and width of the images in pixels.
    """
    down, right = torch.randint(jitter + 1, (2,)).tolist()
    box = _random_box(side, resized_crop) if resized_crop else None
    flip = resized_crop is not None and bool(torch.rand(()) < 0.5)

    def transform(images: Tensor) -> Tensor:
        images = _resized(images, box, side) if box else images
        return (images.flip(-1) if flip else images).roll((down, right), dims=(-2, -1))

    return transform


def _random_box(side: int, least: float) -> tuple[int, int, int, int]:
    """Return top, left, height and width in pixels of a box of at least ``least`` of the area of a square."""
    height, width = (max(1, round(side * float(size))) for size in _box_sizes(torch.rand(1, 2), least))
    top, left = int(torch.randint(side - height + 1, ())), int(torch.randint(side - width + 1, ()))
    return top, left, height, width


def _resized(images: Tensor, box: tuple[int, int, int, int], side: int) -> Tensor:
    """Cut that box out of every image [..., ch, H, W] float and resize it to ``side`` x ``side``."""
    top, left, height, width = box
    cut = images[..., top : top + height, left : left + width]
    return F.interpolate(cut.flatten(0, -4), (side, side), mode="bilinear", antialias=True).view(
        *images.shape[:-2], side, side
    )
