"""The door for pictures: every file or sheet is opened here, by a listed format and within limits of size.

A picture may come from anywhere. What Pillow could do with it beyond decoding pixels, such as running Ghostscript on a
PostScript file that is called ``x.png``, is out of reach: the first bytes decide the format, and it must be listed.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, ImageOps, JpegImagePlugin, TiffImagePlugin

from infer.core.errors import UserError

_SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",  # with the length of a known header: "BM" is text too
    "TIFF": rb"II\*\0|MM\0\*|II\+\0|MM\0\+",
    "WEBP": rb"RIFF.{4}WEBP",
    "GIF": rb"GIF8[79]a",
    "PPM": rb"P[1-6]\s+[#\d]|Pf\s",
    "AVIF": rb".{4}ftyp(avi[fs]|m[is]f1.{4,}avi[fs])",
}
"""The first bytes of each format, as regular expressions."""

_HEAD = 64
"""Bytes that the signatures look at."""

PICTURE_FORMATS = tuple(_SIGNATURES)
"""Formats that folders are read in, by Pillow's names. JPEG includes MPO; of an animation, the first frame is read."""

MAX_PIXELS = 2**26
"""Most pixels of a picture, 67 million: 8,192 x 8,192."""

MAX_BYTES = 4 * MAX_PIXELS
"""Most bytes of a picture by :func:`decoded_bytes`, 268 million. Conversions take about as much again."""

_BITS, _TILE_WIDTH, _TILE_HEIGHT = 258, 322, 323
"""Tags of TIFF: BitsPerSample, TileWidth, TileLength."""

_MOST_SCANS = 100
"""Most scans of a JPEG. Encoders write some ten; each takes time by the size of the picture, and almost no bytes."""

_SCAN, _PROGRESSIVE = 0xDA, (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0, 1, *range(0xD0, 0xD8)})
"""Codes of JPEG: the start of a scan, of frames in several passes, of all frames, and those without content."""


class PictureError(ValueError):
    """A picture that cannot be read; the text is the reason, without the name of the file."""


def picture_format(head: bytes) -> str | None:
    """Return the format of a file that begins with ``head``, 64 bytes or more; None if it is not a known picture."""
    return next((name for name, first in _SIGNATURES.items() if re.match(first, head[:_HEAD], re.DOTALL)), None)


def file_format(path: Path | str) -> str | None:
    """Return the format of a regular file by its first bytes; None if it is not a known picture."""
    with open(path, "rb", buffering=0) as file:
        return picture_format(file.read(_HEAD))


@contextmanager
def open_image(
    source: Path | bytes,
    formats: Sequence[str] = PICTURE_FORMATS,
    max_pixels: int = MAX_PIXELS,
    draft: tuple[int, int] | None = None,
) -> Iterator[ImageFile.ImageFile]:
    """Open a picture; its pixels are not decoded before they are asked for.

    Args:
        source: a regular file, or its content.
        formats: the formats that it may have, out of :data:`PICTURE_FORMATS`.
        max_pixels: most pixels that are decoded.
        draft: width and height that are enough: a much larger JPEG is decoded at a half, a quarter or an eighth of its
            size, and this size counts for ``max_pixels``. One with several scans, such as a progressive one, is so
            decoded only where its whole size would pass the limit of :data:`MAX_BYTES`.

    Yields:
        The picture, within the ``with`` block.

    Raises:
        PictureError: with the reason, for whatever goes wrong with the file here or within the block. A
            :class:`MemoryError` and a :class:`UserError` pass as they are.
    """
    try:
        head = source[:_HEAD] if isinstance(source, bytes) else _head(source)
        name = picture_format(head)
        if name is None or name not in formats:
            raise PictureError("not a picture of a known format" if head else "empty")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=[name]) as picture:
            width, height = picture.size
            if draft and not (_coefficient_bytes(picture) and decoded_bytes(picture) <= MAX_BYTES):
                picture.draft(None, draft)
            _require_size(picture, max_pixels)
            _require_scans(picture)
            if (taken := decoded_bytes(picture)) > MAX_BYTES:
                raise PictureError(f"{width} x {height} pixels, which take {taken:,} bytes, more than {MAX_BYTES:,}")
            yield picture
    except (PictureError, UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many types for a broken file, struct.error and SystemError among them
        raise PictureError(_reason(error)) from error


def raw_mode(picture: ImageFile.ImageFile, tile: int = 0) -> str:
    """Return Pillow's name for the layout of the samples in a tile of the file, such as ``I;16B``; empty if none."""
    args = picture.tile[tile].args if picture.tile else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def decoded_bytes(picture: ImageFile.ImageFile) -> int:
    """Return how many bytes the decoder holds of a picture that is not loaded yet, at the size that is decoded.

    Pillow takes up to 4 a pixel. Colours of 16 bits count 2 a channel. Of a JPEG with several scans, libjpeg also holds
    the coefficients of the whole picture, 2 bytes each.
    """
    bits = picture.tag_v2.get(_BITS, (8,)) if isinstance(picture, TiffImagePlugin.TiffImageFile) else (8,)
    deep = ";16" in raw_mode(picture) or (isinstance(bits, tuple) and max(bits) > 8)
    each = max(4, 2 * len(picture.getbands())) if deep else 4
    return picture.width * picture.height * each + _coefficient_bytes(picture)


def turn_upright(picture: ImageFile.ImageFile) -> None:
    """Load a picture and turn it by its EXIF orientation; where EXIF is damaged, the picture stays as it is."""
    picture.load()
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except MemoryError:
        raise
    except Exception:  # Pillow raises many types for it; of a JPEG, it ignores such an orientation itself
        return


def _coefficient_bytes(picture: ImageFile.ImageFile) -> int:
    """Return the bytes of all coefficients of a JPEG with several scans; 0 for any other picture.

    By libjpeg's rule, a file has several scans if it is progressive, or its first scan lacks a component.
    """
    if not isinstance(picture, JpegImagePlugin.JpegImageFile) or picture.fp is None:
        return 0
    position = picture.fp.tell()
    code, frame, scan = 0, b"", b""
    for segment, content in _segments(picture.fp):
        if segment in _FRAMES:
            code, frame = segment, content
        elif segment == _SCAN:
            scan = content
    picture.fp.seek(position)
    components = frame[5]
    if code not in _PROGRESSIVE and scan[:1] == frame[5:6]:
        return 0
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    across, down = zip(*((factor >> 4, factor & 15) for factor in frame[7 : 6 + 3 * components : 3]), strict=True)
    share = sum(one * other for one, other in zip(across, down, strict=True)) / (max(across) * max(down))
    return 2 * math.ceil(width * height * share)


def _require_scans(picture: ImageFile.ImageFile) -> None:
    """Refuse a JPEG of several scans with too many of them."""
    if picture.fp is None or not _coefficient_bytes(picture):
        return
    position, scans, last = picture.fp.tell(), 0, b""
    picture.fp.seek(0)
    while part := picture.fp.read(2**20):
        scans += (last + part).count(bytes([0xFF, _SCAN]))
        last = part[-1:]
    picture.fp.seek(position)
    if scans > _MOST_SCANS:
        raise PictureError(f"{scans:,} scans, more than {_MOST_SCANS}")


def _segments(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the code and the content of each segment of a JPEG, to the start of its first scan."""
    file.seek(2)
    while byte := file.read(1):
        if byte != b"\xff":
            continue
        while (code := file.read(1)) == b"\xff":
            pass
        if code and code[0] not in _BARE:
            length = int.from_bytes(file.read(2), "big")
            yield code[0], file.read(max(0, length - 2))
            if code[0] == _SCAN:
                return


def _head(path: Path) -> bytes:
    """Read the first bytes of a file, unless opening it could block or act, as with a pipe or a device."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise PictureError("not a regular file")
    with open(path, "rb", buffering=0) as file:
        return file.read(_HEAD)


def _require_size(picture: ImageFile.ImageFile, max_pixels: int) -> None:
    """Refuse a picture, and tiles of a TIFF, of more pixels than ``max_pixels``."""
    sizes = [picture.size]
    if isinstance(picture, TiffImagePlugin.TiffImageFile):  # a tile is decoded whole, however little of it is shown
        sizes.append((picture.tag_v2.get(_TILE_WIDTH, 1), picture.tag_v2.get(_TILE_HEIGHT, 1)))
    for width, height in sizes:
        if width * height > max_pixels:
            raise PictureError(f"{width} x {height} pixels, more than {max_pixels:,}")


def _reason(error: Exception) -> str:
    """Say in a few words what is wrong with a file."""
    text = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return text.partition(",")[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, EOFError) or re.search("truncated|unexpected end|not enough", text, re.IGNORECASE):
        return "truncated"
    if isinstance(error, Image.UnidentifiedImageError):
        return "its header is damaged, or of a kind that Pillow cannot read"
    return f"damaged: {text[:100] or type(error).__name__}"
