"""Images of a distilled set as PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from infer.core.files import write_bytes
from infer.distilled import DistilledSet

_ROWS = 10
_MOST = 50  # natural images of each class
_SIDE = 48  # pixels that smaller images are enlarged to
_ENLARGED = 3  # times that a report enlarges its images
_WIDEST = 192  # pixels of an image in a report, unless it is larger itself


def draw(distilled: DistilledSet, folder: Path) -> None:
    """Write the images of a set as PNG files.

    The files are naturals.png (at most 50 images of each class), views.png (the first 100 mixed views),
    compensators.png, composed.png, and round0.png, which shows how the images of the first round are composed. A file
    whose images the set lacks is not written.

    Args:
        distilled: The set.
        folder: The folder of the files. It is created if it does not exist.

    Raises:
        UserError: If a file cannot be written.
    """
    classes = len(distilled.classes)
    _write(distilled.naturals[: _MOST * classes], classes, folder / "naturals.png")
    if distilled.mixed_views:
        _write(distilled.images(torch.arange(min(len(distilled), _ROWS**2))), _ROWS, folder / "views.png")
    if len(distilled.compensators):
        composed = distilled.pool_images(len(distilled.naturals) + torch.arange(len(distilled.pairs)))
        per_round = distilled.header.compensators_per_round
        _write(grey_compensators(distilled), per_round, folder / "compensators.png")
        _write(composed, classes, folder / "composed.png")
        _write(_first_round(distilled, composed), 1 + 2 * per_round, folder / "round0.png")


def _first_round(distilled: DistilledSet, composed: Tensor) -> Tensor:
    """Lay out a row for each of the first ten classes: its natural image, each compensator and what it composes."""
    classes, compensators = len(distilled.classes), grey_compensators(distilled)
    row = []
    for number in range(min(classes, _ROWS)):
        row.append(distilled.naturals[number])
        for teacher in range(distilled.header.compensators_per_round):
            row += [compensators[teacher], composed[teacher * classes + number]]
    return torch.stack(row)


def grey_compensators(distilled: DistilledSet) -> Tensor:
    """Return the compensators as images around mid-grey, at half their strength: uint8 [U, ch, H, W].

    Values that darken an image and values that brighten it are both visible.
    """
    return (128 + distilled.compensators.short() * distilled.header.step // 2).clamp(0, 255).to(torch.uint8)


def png(images: Tensor, per_row: int) -> bytes:
    """Encode images as one PNG. Small images are enlarged without interpolation.

    Args:
        images: uint8 [N, ch, H, W].
        per_row: Images in a row.

    Returns:
        The content of the PNG file.
    """
    grid = make_grid(images, nrow=per_row, padding=1, pad_value=255)
    scale = max(1, _SIDE // images.shape[-1])
    return _encode(grid.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2))


def pixels(image: Tensor) -> bytes:
    """Encode one image as a PNG of as many pixels.

    Args:
        image: uint8 [ch, H, W].

    Returns:
        The content of the PNG file.
    """
    return _encode(image.expand(3, -1, -1) if len(image) == 1 else image)


def enlargement(side: int) -> int:
    """Return how many times a report enlarges images: three times, small images to 48 pixels, none beyond 192.

    Args:
        side: Pixels of a side.

    Example:
        >>> [enlargement(side) for side in (8, 32, 64, 96, 224)]
        [6, 3, 3, 2, 1]
    """
    return max(_SIDE // side, min(_ENLARGED, _WIDEST // side), 1)


def _encode(image: Tensor) -> bytes:
    """Encode one image, uint8 [3, H, W], as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _write(images: Tensor, per_row: int, path: Path) -> None:
    """Write images as one PNG file."""
    write_bytes(path, png(images, per_row))
