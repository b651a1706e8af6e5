"""Pictures of 16-bit colours, of which Pillow keeps the high bytes: where the low bytes are, and copies by strips."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    FILLORDER,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    TiffImageFile,
)

from infer.core.images import PictureError, open_image, raw_mode, turn_upright

_DEEP = re.compile("(LA|RGB[AXa]?|CMYK|R);16([BLN])")
"""Names of 16-bit colours; ``R`` begins a TIFF that has a plane for each channel."""

_STRIP = 2**20
"""Most pixels of a strip."""

Box = tuple[int, int, int, int]


def strips(*pictures: Image.Image) -> Iterator[tuple[Box, list[np.ndarray]]]:
    """Yield strips of ``pictures`` of one size: copies of them, also of another type, stay small.

    Yields:
        The box of the strip, and the values [rows, columns] or [rows, columns, ch] of each picture.
    """
    width, height = pictures[0].size
    columns, rows = min(width, _STRIP), max(1, _STRIP // width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            box = (left, top, min(left + columns, width), min(top + rows, height))
            yield box, [np.asarray(each.crop(box)) for each in pictures]


def mend_planes(picture: ImageFile) -> None:
    """Let Pillow read an uncompressed TIFF of 16 bits with a plane for each channel, which it takes for 8 bits.

    Args:
        picture: of any format, not loaded yet.

    Raises:
        PictureError: for planes of another depth or kind, which Pillow reads wrong.
    """
    if not isinstance(picture, TiffImageFile) or not picture.tile or picture.tile[0].codec_name != "raw":
        return
    tags = picture.tag_v2
    if tags.get(PLANAR_CONFIGURATION, 1) == 1:
        return
    bits, polarity, in_order = (
        set(tags.get(BITSPERSAMPLE, (1,))),
        tags.get(PHOTOMETRIC_INTERPRETATION),
        tags.get(FILLORDER, 1) == 1,
    )
    channels = [raw_mode(picture, number) for number in range(len(picture.tile))]  # Pillow keeps their first letters
    plain = bits == {8} and (len(set(channels)) > 1 or polarity in (1, 3))
    if in_order and (plain or (bits == {1} and polarity == 1)):
        return
    if not in_order or bits != {16} or set(channels) not in ({*"RGB"}, {*"RGBA"}):
        raise PictureError(f"{max(bits)}-bit values in a plane for each channel, of a kind that Pillow cannot read")
    order = "B" if tags.prefix == b"MM" else "L"
    picture.tile = [
        tile._replace(args=(f"{channel};16{order}", *tuple(tile.args or ())[1:]))
        for channel, tile in zip(channels, picture.tile, strict=True)
    ]


def is_deep(raw: str) -> bool:
    """Return whether ``raw``, by :func:`raw_mode`, is that of 16-bit colours."""
    return _DEEP.fullmatch(raw) is not None


def low_bytes(file: Path, tags: Mapping[int, Any], as_raw: bool) -> Image.Image:
    """Decode the low bytes of 16-bit colours: where the bytes are read in the other order, they come as the high ones.

    Args:
        file: of the picture.
        tags: of a TIFF.
        as_raw: whether it is a PPM, see :func:`read_as_raw`.

    Returns:
        The low bytes, upright; grey for grey with alpha.

    Raises:
        PictureError: where Pillow does not give them.
    """
    with open_image(file) as again:
        if as_raw:
            read_as_raw(again)
        mend_planes(again)
        match = _DEEP.fullmatch(raw_mode(again))
        assert match
        mode, order = match.groups()
        if mode == "RGBa" or (tags.get(PLANAR_CONFIGURATION, 1) != 1 and again.tile[0].codec_name != "raw"):
            kind = "multiplied by their alpha" if mode == "RGBa" else "in compressed planes"
            raise PictureError(f"16-bit colours {kind}, of which Pillow gives 8 bits: the range cannot be chosen")
        if mode == "LA":  # Pillow knows one order only, but the four bytes of a pixel are the channels of another mode
            again._mode = "RGBA"
            again.tile = [tile._replace(args="RGBA") for tile in again.tile]
        else:
            little = order == "L" or (order == "N" and sys.byteorder == "little")
            again.tile = [tile._replace(args=_with_order(tile.args, "B" if little else "L")) for tile in again.tile]
        turn_upright(again)
        return again.getchannel("G") if mode == "LA" else again


def _with_order(args: Any, order: str) -> Any:
    """Return the arguments of a decoder with the byte ``order``."""
    return (args[0][:-1] + order, *args[1:]) if isinstance(args, tuple) else args[:-1] + order


def stated_by_netpbm(picture: ImageFile) -> int | None:
    """Return the largest value that a PPM states, where Pillow scales the values up from it; None for others."""
    if picture.tile and picture.tile[0].codec_name in ("ppm", "ppm_plain") and isinstance(picture.tile[0].args, tuple):
        return int(picture.tile[0].args[1])
    return None


def read_as_raw(picture: ImageFile) -> None:
    """Let Pillow read a PPM of 16-bit colours as they are in the file, and not scaled to 8 bits.

    Raises:
        PictureError: where they are written as text.
    """
    if picture.tile[0].codec_name != "ppm":
        raise PictureError("16-bit colours as text, of which Pillow gives 8 bits: the range cannot be chosen")
    picture.tile = [tile._replace(codec_name="raw", args=("RGB;16B", 0, 1)) for tile in picture.tile]
