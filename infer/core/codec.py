"""Compression of natural images: many images are the tiles of one picture file, a sheet.

One sheet of small tiles takes far fewer bytes than raw pixels, and fewer than one file per image.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from infer.core.images import open_image

CODECS = ("avif", "webp", "jpeg")
_SIDE = 4096
"""Longest side of a sheet in pixels: below the limits of the codecs; a sheet then takes some megabytes of memory."""


def encode(
    images: Tensor, codec: str, quality: int, speed: int | None = None, subsampling: str = "4:4:4"
) -> list[bytes]:
    """Compress images into sheets.

    Tiles lie from left to right and from top to bottom. :func:`decode` shows what the compression loses.

    Args:
        images: uint8 [N, ch, H, W] with 1 or 3 channels.
        codec: ``"avif"``, ``"webp"`` or ``"jpeg"``.
        quality: quality setting of the codec, 0 to 100.
        speed: effort of AVIF's encoder, 0 (slowest, fewest bytes) to 10; None is Pillow's default.
        subsampling: resolution of the colours of AVIF and JPEG: ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``. Half of it is
            visible in images of 32 pixels. Grey images have no colours.

    Returns:
        The content of one picture file per sheet.

    Raises:
        OSError: if the installed Pillow lacks the codec.
    """
    options: dict[str, Any] = {}
    if codec == "avif":
        options["subsampling"] = "4:0:0" if images.shape[1] == 1 else subsampling
        if speed is not None:
            options["speed"] = speed
    if codec == "jpeg":
        options |= {"optimize": True, "subsampling": subsampling}
    sheets = []
    for tiles in images.split(_tiles_per_sheet(images.shape[-2:])):
        buffer, pixels = io.BytesIO(), _sheet(tiles)
        with _whole_in_buffer(pixels.nbytes):
            Image.fromarray(pixels).save(buffer, codec.upper(), quality=quality, **options)
        sheets.append(buffer.getvalue())
    return sheets


@contextmanager
def _whole_in_buffer(raw: int) -> Iterator[None]:
    """Give Pillow a buffer for any file of ``raw`` bytes of pixels.

    Optimised JPEG is written at once, and Pillow's own buffer is too small for noise at a high quality.
    """
    usual = ImageFile.MAXBLOCK
    ImageFile.MAXBLOCK = max(usual, 2 * raw)
    try:
        yield
    finally:
        ImageFile.MAXBLOCK = usual


def decode(sheets: Sequence[bytes], count: int, shape: tuple[int, int, int]) -> Tensor:
    """Decompress the images of :func:`encode`.

    Args:
        sheets: the content of the picture files.
        count: number of images N.
        shape: shape (ch, H, W) of an image.

    Returns:
        The images, uint8 [N, ch, H, W].

    Raises:
        ValueError: if the sheets have another number or size than ``count`` and ``shape`` need, or a sheet is damaged
            or is a file of another kind.
    """
    if len(sheets) != (expected := sheet_count(count, shape[1:])):
        raise ValueError(f"{len(sheets)} sheets for {count} images, {expected} expected")
    images = torch.empty(count, *shape, dtype=torch.uint8)
    for number, tiles in enumerate(images.split(_tiles_per_sheet(shape[1:]))):
        try:
            _read_tiles(sheets[number], tiles)
        except ValueError as error:
            raise ValueError(f"sheet {number}: {error}") from error
    return images


def sheet_count(count: int, size: Sequence[int]) -> int:
    """Return how many sheets :func:`encode` makes of ``count`` images of ``size`` (H, W)."""
    return math.ceil(count / _tiles_per_sheet(size))


def _read_tiles(content: bytes, tiles: Tensor) -> None:
    """Decode one sheet into ``tiles``, uint8 [tiles, ch, H, W]."""
    count, channels, height, width = tiles.shape
    rows, columns = _grid(count)
    # A file comes from anywhere: only the codecs of `encode` may read it, and its size is checked before its pixels.
    with open_image(content, [codec.upper() for codec in CODECS], max_pixels=rows * columns * height * width) as opened:
        if opened.size != (columns * width, rows * height):
            raise ValueError(f"has {opened.size} pixels for {count} tiles of {width} x {height}")
        mode = "L" if channels == 1 else "RGB"
        pixels = np.array(opened if opened.mode == mode else opened.convert(mode))
    grid = torch.from_numpy(pixels).view(rows, height, columns, width, channels)
    tiles.copy_(grid.permute(0, 2, 4, 1, 3).flatten(0, 1)[:count])


def _sheet(tiles: Tensor) -> np.ndarray:
    """Arrange tiles into pixels [rows * H, columns * W] or [rows * H, columns * W, 3].

    Unused places are flat grey, which costs almost nothing; a repeated image would cost as much as a new one.
    """
    rows, columns = _grid(len(tiles))
    filled = torch.cat([tiles, tiles.new_full((rows * columns - len(tiles), *tiles.shape[1:]), 128)])
    grid = filled.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2)  # rows, H, columns, W, ch
    return grid.flatten(2, 3).flatten(0, 1).squeeze(-1).numpy()


def _grid(tiles: int) -> tuple[int, int]:
    """Rows and columns of a nearly square sheet."""
    columns = math.ceil(math.sqrt(tiles))
    return math.ceil(tiles / columns), columns


def _tiles_per_sheet(size: Sequence[int]) -> int:
    height, width = size
    return max(1, _SIDE // height) * max(1, _SIDE // width)
