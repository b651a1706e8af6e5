"""The door for pictures: every file or sheet is opened here, by a listed format and within a limit of pixels.

A picture may come from anywhere. What Pillow could do with it beyond decoding pixels, such as running Ghostscript on a
PostScript file that is called ``x.png``, is out of reach: the first bytes decide the format, and it must be listed.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile, TiffImagePlugin

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
"""Most pixels of a picture, 67 million: 8,192 x 8,192. Pillow takes some 256 MB for them, and conversions as much."""

_TILE_WIDTH, _TILE_HEIGHT = 322, 323


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
            size, and this size counts for ``max_pixels`` (unless it is progressive, which needs its whole size).

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
            if draft and not picture.info.get("progressive"):
                picture.draft(None, draft)
            _require_size(picture, max_pixels)
            yield picture
    except (PictureError, UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many types for a broken file, struct.error and SystemError among them
        raise PictureError(_reason(error)) from error


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
