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
    grid = grid.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _write(images: Tensor, per_row: int, path: Path) -> None:
    """Write images as one PNG file."""
    write_bytes(path, png(images, per_row))
