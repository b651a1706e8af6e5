"""Pictures of a distilled set: naturals, compensators, the images that reading composes, and views."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from infer.core.files import write_bytes
from infer.distilled.dataset import DistilledSet

_ROWS = 10
_MOST = 50


def draw(distilled: DistilledSet, folder: Path) -> None:
    """Write ``folder``/naturals.png, compensators.png, composed.png, round0.png, which shows them side by side, and
    views.png, of what there is; of naturals and views the first fifty and ten rows."""
    header = distilled.header
    per_row = len(header.classes)
    _write(distilled.naturals[: _MOST * per_row], per_row, folder / "naturals.png")
    if distilled.views:
        _write(distilled.images(torch.arange(min(len(distilled), _ROWS**2))), _ROWS, folder / "views.png")
    if not len(distilled.compensators):
        return
    drawn = visible(distilled)
    _write(drawn, header.compensators_per_round, folder / "compensators.png")
    composed = distilled.of_pool(len(distilled.naturals) + torch.arange(len(distilled.pairs)))
    _write(composed, per_row, folder / "composed.png")
    # A line a class: the natural, then each compensator of the round beside the image they compose.
    teachers = header.compensators_per_round
    lines = []
    for number in range(min(per_row, _ROWS)):
        lines.append(distilled.naturals[number])
        for teacher in range(teachers):
            lines += [drawn[teacher], composed[teacher * per_row + number]]
    _write(torch.stack(lines), 1 + 2 * teachers, folder / "round0.png")


def visible(distilled: DistilledSet) -> Tensor:
    """The compensators around mid-grey, at half their strength, so that darkening and brightening both show: uint8."""
    return (128 + distilled.compensators.short() * distilled.header.step // 2).clamp(0, 255).to(torch.uint8)


def png(images: Tensor, per_row: int) -> bytes:
    """``images`` uint8 [N, ch, H, W] as a PNG of rows; small ones are enlarged, pixel by pixel."""
    grid = make_grid(images, nrow=per_row, padding=1, pad_value=255)
    scale = max(1, 48 // images.shape[-1])
    grid = grid.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _write(images: Tensor, per_row: int, path: Path) -> None:
    write_bytes(path, png(images, per_row))
