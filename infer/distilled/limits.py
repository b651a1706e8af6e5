"""The memory that a distilled file takes, estimated from its header and shapes before anything is decoded.

A small file can stand for very much: compressed sheets of one colour, composed images that take no byte, mixed views of
which only labels are stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from infer.core.errors import UserError
from infer.distilled.header import Header
from infer.distilled.tensors import Layout

MAX_BYTES = 4 * 2**30
"""Bytes of memory that a file may take by default."""
MAX_RATIO = 32
"""A file may also take this many times its own size by default: large sets of compressed photographs do."""

_BYTES_PER_IMAGE = 96  # positions of natural image and compensator, class, and what computing them takes
_BYTES_PER_VIEW = 128  # random numbers and choice, and what sorting them takes
_BYTES_PER_DRAWN_IMAGE = 256  # of a pool that mixed views are drawn from
_BATCH = 256  # items of a batch
_BYTES_PER_PROBABILITY = 12  # of a batch of labels: the class as one-hot int64, and the label float32
_BYTES_OF_DRAWING = 2**27  # a block of candidates
_BYTES_PER_SHEET_BYTE = 10  # of the pixels of one sheet, while it is decoded
_BYTES_OF_UNPACKING = 10  # of an entry of the labels: int64 while it is unpacked, and uint8
_BYTES_OF_DECOMPRESSING = 3  # of an entry: as bytes, as a copy that may be written, and uint8
_DICTIONARY = 2**23  # of compressed labels
_SIZES = {"U8": 1, "I8": 1, "U16": 2, "F16": 2}


def memory_needed(header: Header, layouts: Mapping[str, Layout], composed: int) -> int:
    """Return the bytes that loading a set and composing its first batch take, in round figures.

    Args:
        header: the checked header.
        layouts: the checked layouts of the tensors.
        composed: number of composed images P.
    """
    stored = {name: math.prod(layout.sizes) * _SIZES[layout.dtype] for name, layout in layouts.items()}
    (images,), (_, *image) = layouts["targets"].sizes, layouts["compensators"].sizes
    pixels, pool = math.prod(image), images + composed
    needed = sum(stored.values()) + stored["compensators"] + pool * _BYTES_PER_IMAGE
    if "sheets" in stored:
        needed += stored["sheets"] + images * pixels
        needed += _BYTES_PER_SHEET_BYTE * math.ceil(images / len(header.sheets)) * pixels
    items = pool
    if views := header.mixed_views:
        items = views.count
        needed += _BYTES_OF_DRAWING + views.count * _BYTES_PER_VIEW + pool * _BYTES_PER_DRAWN_IMAGE
        needed += 2 * (views.smooth_noise + 1) * pixels if views.smooth_noise else 0
        if header.label_code.coding != "none":
            needed += views.count * len(header.classes) * _BYTES_OF_DECOMPRESSING + _DICTIONARY
        elif views.label_bits != 8:
            needed += views.count * len(header.classes) * _BYTES_OF_UNPACKING
    return needed + min(items, _BATCH) * len(header.classes) * _BYTES_PER_PROBABILITY


def check_memory(path: Path, needed: int, max_bytes: int | None) -> None:
    """Refuse a file that needs more than ``max_bytes``.

    Args:
        path: the file.
        needed: result of :func:`memory_needed`.
        max_bytes: the limit; None is :data:`MAX_BYTES`, or :data:`MAX_RATIO` times the file where that is more.

    Raises:
        UserError: names the file, what it needs, and the limit.
    """
    limit = max(MAX_BYTES, MAX_RATIO * path.stat().st_size) if max_bytes is None else max_bytes
    if needed > limit:
        raise UserError(
            f"{path}: takes {needed:,} bytes of memory, more than max_bytes={limit:,}; "
            f"raise it where you trust the file, as in infer.load(path, max_bytes={needed})"
        )
