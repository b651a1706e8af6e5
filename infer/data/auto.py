"""The size and the channels of a folder's pictures, where ``auto`` leaves them to the data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from infer.core.images import PictureError, open_image
from infer.data.decoder import Decoder
from infer.data.layout import find_layout
from infer.data.options import DatasetOptions

log = logging.getLogger("infer")

_SIZES = (32, 64, 128)
"""Sizes that are chosen: at 224 pixels, a run takes three times as long as at 128."""

_LARGER = 224
"""A size that is offered where there is time for it."""

_SAMPLE = 500
"""Files whose size is looked at."""


def resolved(options: DatasetOptions) -> DatasetOptions:
    """Return ``options`` with numbers for the ``auto`` of image_size and channels, and log them with their reasons.

    Pictures become grey where every one of them is: three equal channels hold nothing that one does not. Their size is
    the largest of 32, 64 and 128 pixels that the shorter side of half of the pictures reaches.

    Raises:
        UserError: for what is no folder of pictures, as reading it does.
    """
    if options.root is None or "auto" not in (options.image_size, options.channels):
        return options
    files = [file for part in find_layout(Path(options.root)).parts.values() for file in part.files]
    if options.image_size == "auto":
        side = _usual_side(files)
        size = max((size for size in _SIZES if size <= side), default=_SIZES[0])
        log.info("dataset.image_size=auto: %d pixels; the shorter side of the pictures is %d (median)", size, side)
        options = replace(options, image_size=size)
    if options.channels == "auto":
        grey = _are_grey(files)
        reason = "every picture is grey: a third of the bytes" if grey else "there are pictures in colour"
        log.info("dataset.channels=auto: %d; %s", 1 if grey else 3, reason)
        options = replace(options, channels=1 if grey else 3)
    return options


def offered_sizes(root: str) -> list[int]:
    """Return the sizes in pixels that the shorter side of half of the pictures reaches, the largest first."""
    side = _usual_side([file for part in find_layout(Path(root)).parts.values() for file in part.files])
    return [size for size in (_LARGER, *reversed(_SIZES)) if size <= side] or [_SIZES[0]]


def _usual_side(files: Sequence[Path]) -> float:
    """Return the median of the shorter sides of some of the files."""
    return median(_shorter_sides(files[:: max(1, len(files) // _SAMPLE)]) or [0])


def _shorter_sides(files: Sequence[Path]) -> list[int]:
    """Return the shorter side of each readable file."""
    sides = []
    for file in files:
        try:
            with open_image(file) as picture:
                sides.append(min(picture.size))
        except PictureError:  # reading the data set tells of it
            continue
    return sides


def _are_grey(files: Sequence[Path]) -> bool:
    """Return whether the channels of every readable picture are equal, found on small copies."""
    decoder = Decoder(8, 3)
    for at in range(0, len(files), _SAMPLE):
        images = torch.zeros(len(files[at : at + _SAMPLE]), *decoder.shape, dtype=torch.uint8)
        decoder.decode_all(files[at : at + _SAMPLE], images)
        if (images != images[:, :1]).any():
            return False
    return True
