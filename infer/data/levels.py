"""Pixel values of any depth, range and polarity as levels from black (0) to white (255)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

from infer.core.images import PictureError, open_image
from infer.core.progress import counted

_BITS, _POLARITY, _SAMPLE_FORMAT = 258, 262, 339
_LARGEST = (341, 281)
_SMALLEST = 340
"""Tags of TIFF: BitsPerSample, PhotometricInterpretation, SampleFormat, S- and MaxSampleValue, SMinSampleValue."""

_SOURCES = ("depth", "file", "container", "folder")
_WHITE_IS_ZERO, _SIGNED = 0, 2
_GREY_OR_RGB = (0, 1, 2)
_DEEP_COLOUR = re.compile("(RGB[AX]?);16([BLN])")
_FLOATS = "floating-point values without a stated range; give dataset.depth, 1 for 0 to 1 or 8 for 0 to 255"


class Levels(NamedTuple):
    """The range of the values of a picture.

    Args:
        maximum: the largest value.
        low: the value that is black.
        full: the value that is white.
        source: what says so: ``depth``, the ``file``, its ``container``, or the ``folder``.
    """

    maximum: float
    low: float
    full: float
    source: str


class UnstatedRangeError(PictureError):
    """32-bit whole numbers in a file that does not say which one is white; ``maximum`` is the largest."""

    def __init__(self, maximum: int) -> None:
        super().__init__(
            f"32-bit values up to {maximum:,} without a stated range; give dataset.depth={bits_of(maximum)}"
        )
        self.maximum = maximum


def bits_of(maximum: float) -> int:
    """Return the number of bits that values up to ``maximum`` take."""
    return max(1, int(maximum).bit_length())


def to_eight_bits(picture: ImageFile, file: Path, depth: int | None) -> tuple[Image.Image, Levels | None]:
    """Turn a picture upright, and scale its values to 8 bits where they have another range.

    White is, in this order: 2^depth - 1; the largest value that the file states, where its values keep to it; the
    largest value of its type. PNG's sBIT chunk is no such statement: samples with fewer bits fill the range there.

    Args:
        picture: opened from ``file``, not loaded yet.
        file: is opened again for the low bytes of 16-bit colours, which Pillow leaves out.
        depth: bits that the values use; more than the type has are ignored; None: by the file.

    Returns:
        The picture, with 8 bits per channel, and the range of its values; None where the range is plainly used.

    Raises:
        UnstatedRangeError: for 32-bit whole numbers without a stated range.
        PictureError: for floating-point or negative values without one.
    """
    raw = _raw_mode(picture)
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode[0] in "IF" or (picture.mode == "L" and _tag(tags, _SAMPLE_FORMAT, 1) == _SIGNED):
        return _from_numbers(picture, raw, tags, depth)
    if match := _DEEP_COLOUR.fullmatch(raw):
        return _from_deep_colour(picture, file, match, tags, depth)
    return _from_bytes(picture, raw, tags, depth)


def range_notes(found: Iterable[Levels | None], depth: int | None) -> list[str]:
    """Say, once for all pictures, where the range of their values was guessed, is hardly used, or differs."""
    known = list(found)
    by_source = {source: [each for each in known if each and each.source == source] for source in _SOURCES}
    notes = []
    for full in sorted({each.full for each in by_source["container"]}):
        own = [each for each in by_source["container"] if each.full == full]
        bits = bits_of(top := _top(own))
        if bits < bits_of(full) and (full > 255 or None not in known):
            of = f"{counted(len(own), 'picture')} of {bits_of(full)}-bit values without a stated range"
            cure = f"if they have fewer bits, dataset.depth={bits} takes {2**bits - 1:,} as white"
            notes.append(f"{of}, which reach {top:,.0f} of {full:,.0f}; {cure}")
    if own := by_source["folder"]:
        notes.append(
            f"{counted(len(own), 'picture')} of 32-bit values without a stated range, which reach {_top(own):,.0f}; "
            f"{own[0].full:,.0f} is read as white, and dataset.depth decides otherwise"
        )
    if over := [each for each in by_source["depth"] if each.maximum > each.full]:
        notes.append(f"values up to {_top(over):,.0f} are more than dataset.depth={depth} has; they are read as white")
    if len(stated := sorted({(each.low, each.full) for each in by_source["file"]})) > 1:
        examples = " and ".join(f"{low:,g} to {full:,g}" for low, full in (stated[0], stated[-1]))
        notes.append(f"pictures state different ranges of values, such as {examples}; dataset.depth gives all the same")
    return notes


def _top(found: Iterable[Levels]) -> float:
    return max(each.maximum for each in found)


def _raw_mode(picture: ImageFile) -> str:
    """Return Pillow's name for the layout of the samples in the file, such as ``I;16B``; empty if it has none."""
    args = picture.tile[0].args if picture.tile else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _tag(tags: Mapping[int, Any], tag: int, default: float | None = None) -> Any:
    """Return the value of a tag; of one value per channel, the first."""
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value


def _stated(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Return the smallest and largest value that a TIFF states.

    MinSampleValue is left out: it tells what was found, not what is black.
    """
    full = next((value for tag in _LARGEST if (value := _tag(tags, tag)) is not None), None)
    low = _tag(tags, _SMALLEST, 0)
    if full is None or low is None or not low < full < float("inf"):
        return None
    return float(low), float(full)


def _levels(values: np.ndarray, bits: int, tags: Mapping[int, Any], depth: int | None) -> Levels:
    """Decide which of ``values`` is black and which is white; ``bits`` are those of their type."""
    lowest, highest = values.min().item(), values.max().item()
    if not np.isfinite([lowest, highest]).all():
        raise PictureError("values that are not finite")
    stated = _stated(tags)
    if depth is not None and depth <= bits:
        levels = Levels(highest, 0, 2**depth - 1, "depth")
    elif stated and stated[0] <= lowest and highest <= stated[1]:
        return Levels(highest, *stated, "file")
    elif values.dtype.kind == "f":
        raise PictureError(_FLOATS)
    elif bits == 32 and lowest >= 0:
        raise UnstatedRangeError(highest)
    else:
        levels = Levels(highest, 0, 2 ** (bits - (values.dtype.kind == "i" and lowest < 0)) - 1, "container")
    if lowest < -levels.full / 510:  # more than half a level below black
        raise PictureError(f"negative values, to {lowest:,g}, without a stated range")
    return levels


def _scaled(values: np.ndarray, levels: Levels, tags: Mapping[int, Any]) -> np.ndarray:
    """Scale ``values`` to uint8, in which white is 255."""
    scaled = (values.astype(np.float32) - np.float32(levels.low)) * np.float32(255 / (levels.full - levels.low))
    scaled = scaled.round().clip(0, 255).astype(np.uint8)
    return 255 - scaled if _tag(tags, _POLARITY, 1) == _WHITE_IS_ZERO else scaled


def _from_numbers(
    picture: Image.Image, raw: str, tags: Mapping[int, Any], depth: int | None
) -> tuple[Image.Image, Levels]:
    """Scale grey pictures of 16 or 32 bits, whose numbers and polarity Pillow keeps, and signed ones."""
    values = np.asarray(picture)
    bits = 12 if raw == "I;12" else 16 if picture.mode.startswith("I;") or "16" in raw or not tags else 32
    if picture.mode == "L":
        values, bits = values.view(np.int8), 8
    elif picture.mode == "I" and bits == 32 and _tag(tags, _SAMPLE_FORMAT, 1) != _SIGNED:
        values = values.view(np.uint32)
    levels = _levels(values, 32 if picture.mode == "F" else bits, tags, depth)
    grey = Image.fromarray(_scaled(values, levels, tags))
    if (key := picture.info.get("transparency")) is not None:
        grey = Image.merge("LA", (grey, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
    return grey, levels


def _from_deep_colour(
    picture: Image.Image, file: Path, raw: re.Match[str], tags: Mapping[int, Any], depth: int | None
) -> tuple[Image.Image, Levels]:
    """Scale colours of 16 bits, of which Pillow keeps the high bytes; those suffice where the range is used."""
    high, key = np.asarray(picture), picture.info.get("transparency")
    colours, alpha = high[..., :3], high[..., 3:]
    in_full = Levels(2**16 - 1, 0, 2**16 - 1, "container")
    if key is None and depth in (None, 16) and not _stated(tags) and colours.max() > 127:
        return picture, in_full
    mode, order = raw.groups()
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    with open_image(file) as again:  # the same bytes read in the other order: the low ones come as the high ones
        other = f"{mode};16{'B' if little else 'L'}"
        again.tile = [
            tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
            for tile in again.tile
        ]
        ImageOps.exif_transpose(again, in_place=True)
        values = colours.astype(np.uint16) << 8 | np.asarray(again)[..., :3]
    levels = _levels(values, 16, tags, depth)
    if levels.source != "container":
        colours = _scaled(values, levels, tags)
    if key is not None:
        alpha = np.where((values == key).all(axis=-1, keepdims=True), 0, 255).astype(np.uint8)
    return Image.fromarray(np.concatenate([colours, alpha], axis=-1)), levels


def _from_bytes(
    picture: Image.Image, raw: str, tags: Mapping[int, Any], depth: int | None
) -> tuple[Image.Image, Levels | None]:
    """Scale grey or coloured pictures of 8 bits whose range is smaller; Pillow scales fewer bits and inverts."""
    bits = _tag(tags, _BITS, int(raw[2:]) if raw in ("L;2", "L;4") else 8)
    if bits < 8 and isinstance(key := picture.info.get("transparency"), int) and picture.mode == "L" and not tags:
        picture.info["transparency"] = key * 255 // (2**bits - 1)  # the pixels are scaled, but not their key
    if bits != 8 or picture.mode not in ("L", "LA", "RGB", "RGBA") or _tag(tags, _POLARITY, 1) not in _GREY_OR_RGB:
        return picture, None
    extrema = picture.getextrema()
    bands = [extrema] if isinstance(extrema[0], int | float) else extrema[: 3 if "RGB" in picture.mode else 1]
    inverted = _tag(tags, _POLARITY, 1) == _WHITE_IS_ZERO
    ends = np.array([255 - each if inverted else each for band in bands for each in band], np.uint8)
    levels = _levels(ends, 8, tags, depth)
    if levels.source == "container" or (levels.low, levels.full) == (0, 255):
        return picture, levels if levels.maximum < 128 else None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    values = np.arange(256, dtype=np.uint8)
    table = _scaled(255 - values if inverted else values, levels, tags).tolist()
    alpha = list(range(256)) if picture.mode in ("LA", "RGBA") else []
    return picture.point(table * (len(picture.getbands()) - bool(alpha)) + alpha), levels
