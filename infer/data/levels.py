"""Pixel values of any depth, range and polarity as levels from black (0) to white (255)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from infer.core.images import PictureError, raw_mode, turn_upright
from infer.core.progress import counted
from infer.data.deep_colour import Box, is_deep, low_bytes, mend_planes, read_as_raw, stated_by_netpbm, strips

_LARGEST = (341, 281)
_SMALLEST = 340
"""Tags of TIFF that Pillow has no name for: S- and MaxSampleValue, SMinSampleValue."""

_SOURCES = ("depth", "file", "container", "folder")
_WHITE_IS_ZERO, _SIGNED = 0, 2
_GREY_OR_RGB = (0, 1, 2)
_FLOATS = "floating-point values without a stated range; give dataset.depth, 1 for 0 to 1 or 8 for 0 to 255"


class Levels(NamedTuple):
    """The range of the values of a picture.

    Args:
        maximum: the largest value, or up to 255 more than it where it is one of 16-bit colours that use their range.
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
        PictureError: for floating-point or negative values without one, and where a range would need values that
            Pillow does not give.
    """
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    mend_planes(picture)
    maximum = stated_by_netpbm(picture)
    if maximum and depth and maximum > max(255, 2**depth - 1) and picture.mode == "RGB":
        read_as_raw(picture)
    raw = raw_mode(picture)
    turn_upright(picture)
    if is_deep(raw):
        stated = (0.0, float(maximum)) if maximum is not None else _stated(tags)
        return _from_deep_colour(picture, file, tags, stated, depth)
    if maximum is not None:
        return _from_netpbm(picture, maximum, depth)
    if picture.mode[0] in "IF" or (picture.mode == "L" and _tag(tags, SAMPLEFORMAT, 1) == _SIGNED):
        return _from_numbers(picture, raw, tags, depth)
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
            notes.append(f"{of}, none above {top:,.0f} of {full:,.0f}; {cure}")
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


def _levels(
    ends: tuple[float, float], kind: str, bits: int, stated: tuple[float, float] | None, depth: int | None
) -> Levels:
    """Decide which value is black and which is white.

    Args:
        ends: the smallest and the largest value.
        kind: of the type of the values, as numpy has it: ``u``, ``i`` or ``f``.
        bits: of the type.
        stated: the smallest and the largest value that the file states.
        depth: bits that the values use.
    """
    lowest, highest = ends
    if not np.isfinite(ends).all():
        raise PictureError("values that are not finite")
    if depth is not None and depth <= bits:
        levels = Levels(highest, 0, 2**depth - 1, "depth")
    elif stated and stated[0] <= lowest and highest <= stated[1]:
        return Levels(highest, *stated, "file")
    elif kind == "f":
        raise PictureError(_FLOATS)
    elif bits == 32 and lowest >= 0:
        raise UnstatedRangeError(int(highest))
    else:
        levels = Levels(highest, 0, 2 ** (bits - (kind == "i" and lowest < 0)) - 1, "container")
    if lowest < -levels.full / 510:  # more than half a level below black
        raise PictureError(f"negative values, to {lowest:,g}, without a stated range")
    return levels


def _scaled(values: np.ndarray, levels: Levels, tags: Mapping[int, Any]) -> np.ndarray:
    """Scale ``values`` to uint8, in which white is 255."""
    scaled = (values.astype(np.float32) - np.float32(levels.low)) * np.float32(255 / (levels.full - levels.low))
    scaled = scaled.round().clip(0, 255).astype(np.uint8)
    return 255 - scaled if _tag(tags, PHOTOMETRIC_INTERPRETATION, 1) == _WHITE_IS_ZERO else scaled


def _ends(parts: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the smallest and the largest value; both are NaN where one is."""
    ends = np.array([(part.min(), part.max()) for part in parts])
    return ends[:, 0].min().item(), ends[:, 1].max().item()


def _from_numbers(
    picture: Image.Image, raw: str, tags: Mapping[int, Any], depth: int | None
) -> tuple[Image.Image, Levels]:
    """Scale grey pictures of 16 or 32 bits, whose numbers and polarity Pillow keeps, and signed ones."""
    bits = 12 if raw == "I;12" else 16 if picture.mode.startswith("I;") or "16" in raw or not tags else 32
    kept = np.asarray(picture.crop((0, 0, 1, 1))).dtype
    if picture.mode == "L":
        kept, bits = np.dtype(np.int8), 8
    elif picture.mode == "I" and bits == 32 and _tag(tags, SAMPLEFORMAT, 1) != _SIGNED:
        kept = np.dtype(np.uint32)
    ends = _ends(values.view(kept) for _, (values,) in strips(picture))
    levels = _levels(ends, kept.kind, 32 if picture.mode == "F" else bits, _stated(tags), depth)
    key = picture.info.get("transparency")
    grey = Image.new("L" if key is None else "LA", picture.size)
    for box, (values,) in strips(picture):
        strip = Image.fromarray(_scaled(values.view(kept), levels, tags))
        if key is not None:
            strip = Image.merge("LA", (strip, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))))
        grey.paste(strip, box)
    return grey, levels


def _from_deep_colour(
    picture: Image.Image, file: Path, tags: Mapping[int, Any], stated: tuple[float, float] | None, depth: int | None
) -> tuple[Image.Image, Levels]:
    """Scale colours of 16 bits, of which Pillow keeps the high bytes; those suffice where the range is used."""
    key, bands = picture.info.get("transparency"), picture.getbands()
    colours = len(bands) - (bands[-1] == "A")
    if key is None and (depth is None or depth >= 16) and not stated:
        extrema = cast(tuple[tuple[int, int], ...], picture.getextrema())
        top = max(highest for _, highest in extrema[:colours])
        return picture, Levels(256 * top + 255, 0, 2**16 - 1, "container")
    low = low_bytes(file, tags, as_raw=picture.format == "PPM")

    def parts() -> Iterator[tuple[Box, np.ndarray, np.ndarray]]:
        for box, (high, below) in strips(picture, low):
            below = below[..., None] if below.ndim == 2 else below[..., :colours]
            yield box, high[..., :colours].astype(np.uint16) << 8 | below, high

    levels = _levels(_ends(values for _, values, _ in parts()), "u", 16, stated, depth)
    out = picture if key is None else Image.new("RGBA", picture.size)
    for box, values, high in parts():
        channels = list(np.moveaxis(high, -1, 0))
        if levels.source != "container":
            channels[:colours] = np.moveaxis(_scaled(values, levels, {}), -1, 0)
        if key is not None:
            channels.append(np.where((values == key).all(axis=-1), 0, 255).astype(np.uint8))
        out.paste(Image.merge(out.mode, [Image.fromarray(np.ascontiguousarray(each)) for each in channels]), box)
    return out, levels


def _from_netpbm(picture: Image.Image, maximum: int, depth: int | None) -> tuple[Image.Image, Levels | None]:
    """Scale a PPM, whose values Pillow has scaled up from the ``maximum`` that it states."""
    top = 2**16 - 1 if picture.mode == "I" else 255  # what Pillow makes of the maximum
    full = maximum if depth is None else min(maximum, 2**depth - 1)
    if full == maximum and top == 255:
        return picture, None
    scaled, highest = Image.new("L" if picture.mode == "I" else picture.mode, picture.size), 0
    for box, (values,) in strips(picture):
        stated = np.rint(values * (maximum / top))  # as they are in the file
        scaled.paste(Image.fromarray(_scaled(stated, Levels(0, 0, full, "depth"), {})), box)
        highest = max(highest, int(stated.max()))
    return scaled, Levels(highest, 0, full, "depth") if full < maximum else None


def _from_bytes(
    picture: Image.Image, raw: str, tags: Mapping[int, Any], depth: int | None
) -> tuple[Image.Image, Levels | None]:
    """Scale grey or coloured pictures of 8 bits whose range is smaller; Pillow scales fewer bits and inverts."""
    bits = _tag(tags, BITSPERSAMPLE, int(raw[2:]) if raw in ("L;2", "L;4") else 8)
    if bits < 8 and isinstance(key := picture.info.get("transparency"), int) and picture.mode == "L" and not tags:
        picture.info["transparency"] = key * 255 // (2**bits - 1)  # the pixels are scaled, but not their key
    if (
        bits != 8
        or picture.mode not in ("L", "LA", "RGB", "RGBA")
        or _tag(tags, PHOTOMETRIC_INTERPRETATION, 1) not in _GREY_OR_RGB
    ):
        return picture, None
    extrema = picture.getextrema()
    bands = [extrema] if isinstance(extrema[0], int | float) else extrema[: 3 if "RGB" in picture.mode else 1]
    inverted = _tag(tags, PHOTOMETRIC_INTERPRETATION, 1) == _WHITE_IS_ZERO
    ends = np.array([255 - each if inverted else each for band in bands for each in band], np.uint8)
    levels = _levels((int(ends.min()), int(ends.max())), "u", 8, _stated(tags), depth)
    if levels.source == "container" or (levels.low, levels.full) == (0, 255):
        return picture, levels if levels.maximum < 128 else None
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
    values = np.arange(256, dtype=np.uint8)
    table = _scaled(255 - values if inverted else values, levels, tags).tolist()
    alpha = list(range(256)) if picture.mode in ("LA", "RGBA") else []
    return picture.point(table * (len(picture.getbands()) - bool(alpha)) + alpha), levels
