"""Naturals under a codec: one sheet of tiles takes a fraction of the bytes of raw pixels, or of a file a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CODECS = ("avif", "webp", "jpeg")
_SIDE = 4096
"""Pixels of a sheet's side at most: below the codecs' own limits, and a megabyte or two of memory a sheet."""


def encode(images: Tensor, codec: str, quality: int) -> list[bytes]:
    """``images`` uint8 [N, ch, H, W] as tiles, left to right and top to bottom, of square sheets: a file each.

    ``quality`` is the codec's own, 0 to 100. What it loses, :func:`decode` shows. Raises OSError where this Pillow
    lacks the codec.
    """
    options: dict[str, Any] = {}
    if codec == "avif":  # a picture of 32 pixels has no colour to spare
        options["subsampling"] = "4:0:0" if images.shape[1] == 1 else "4:4:4"
    if codec == "jpeg":
        options |= {"optimize": True, "subsampling": "4:4:4"}
    sheets = []
    for tiles in images.split(_tiles_a_sheet(images.shape[-2:])):
        buffer = io.BytesIO()
        Image.fromarray(_sheet(tiles)).save(buffer, codec.upper(), quality=quality, **options)
        sheets.append(buffer.getvalue())
    return sheets


def decode(sheets: Sequence[bytes], count: int, shape: tuple[int, int, int]) -> Tensor:
    """The ``count`` images uint8 [N, ch, H, W] of ``shape`` (ch, H, W) in ``sheets``.

    Raises ValueError or OSError where a sheet is broken or of another size.
    """
    channels, height, width = shape
    images = []
    for number, content in enumerate(sheets):
        tiles = min(_tiles_a_sheet((height, width)), count - number * _tiles_a_sheet((height, width)))
        rows, columns = _grid(tiles)
        with Image.open(io.BytesIO(content)) as opened:
            if opened.size != (columns * width, rows * height):
                raise ValueError(f"sheet {number} has {opened.size} pixels for {tiles} tiles of {width} x {height}")
            sheet = np.asarray(opened.convert("L" if channels == 1 else "RGB")).reshape(
                rows, height, columns, width, -1
            )
        images.append(torch.from_numpy(sheet.transpose(0, 2, 4, 1, 3).reshape(-1, *shape)[:tiles].copy()))
    return torch.cat(images)


def _sheet(tiles: Tensor) -> np.ndarray:
    """Pixels [rows * H, columns * W] or [..., 3] of the tiles; those that are wanting are flat, which costs nearly
    nothing: a repeated picture would cost as much as another."""
    rows, columns = _grid(len(tiles))
    filled = torch.cat([tiles, tiles.new_full((rows * columns - len(tiles), *tiles.shape[1:]), 128)])
    lying = filled.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2)  # rows, H, columns, W, ch
    return lying.flatten(2, 3).flatten(0, 1).squeeze(-1).numpy()


def _grid(tiles: int) -> tuple[int, int]:
    """Rows and columns of the sheet, nearly a square."""
    columns = math.ceil(math.sqrt(tiles))
    return math.ceil(tiles / columns), columns


def _tiles_a_sheet(side: tuple[int, ...]) -> int:
    height, width = side
    return max(1, _SIDE // height) * max(1, _SIDE // width)
