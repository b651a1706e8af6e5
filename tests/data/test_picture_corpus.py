"""A corpus of picture files: each has the right pixels, or the right reason why it cannot be read."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from conftest import ROOT
from picture_files import deep_png, flat, huge_png, jpeg_in_scans, picture, png, saved, tiff
from PIL import Image

from infer.core.images import PictureError
from infer.data import deep_colour
from infer.data.decoder import Decoder
from infer.data.levels import range_notes

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, INKS = 0, 1, 2, 5
MAX, SMIN, SMAX, TILE_WIDTH, TILE_HEIGHT = 281, 340, 341, 322, 323
SHORT, LONG, INT16, FLOAT = 3, 4, 8, 11
TWELVE = [(MAX, SHORT, [4095] * 3)]
DEEP = Image.fromarray(flat(257 * 100, dtype="<u2"))
GREEN = (0, 200, 0)


def with_palette(*transparency):
    """A picture of colour 1 of a palette of black and green; ``transparency``, if any, is PNG's."""
    made = Image.new("P", (8, 8), 1)
    made.putpalette([0, 0, 0, *GREEN])
    return saved(made, "PNG", **({"transparency": transparency[0]} if transparency else {}))


def film(kind, **options):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def bits12(level):
    """Rows of 8 samples of 12 bits, packed."""
    pair = bytes([level >> 4, (level & 15) << 4 | level >> 8, level & 255])
    return np.frombuffer(pair * 32, np.uint8)


READABLE = {
    # PNG: every colour type and depth, with and without transparency; half of black on white is 127 or 128
    "grey.png": (saved(picture("L", 90), "PNG"), 90),
    "colour.png": (saved(picture("RGB", 10, 20, 30), "PNG"), (10, 20, 30)),
    "palette.png": (with_palette(), GREEN),
    "one-bit.png": (saved(picture("1", 1), "PNG"), 255),
    "two-bit.png": (png([b"\x55\x55"] * 8, 8, 2, 0), 85),
    "four-bit.png": (png([b"\x33" * 4] * 8, 8, 4, 0), 51),
    "alpha.png": (saved(picture("RGBA", 0, 0, 0, 128), "PNG"), 127),
    "clear.png": (saved(picture("RGBA", 0, 0, 0, 0), "PNG"), 255),
    "opaque.png": (saved(picture("RGBA", 1, 2, 3, 255), "PNG"), (1, 2, 3)),
    "grey-alpha.png": (saved(picture("LA", 100, 0), "PNG"), 255),
    "grey-half-alpha.png": (saved(picture("LA", 100, 128), "PNG"), 177),
    "palette-index.png": (with_palette(1), 255),
    "palette-alphas.png": (with_palette(bytes([255, 0])), 255),
    "palette-of-others.png": (with_palette(0), GREEN),
    "grey-key.png": (saved(picture("L", 7), "PNG", transparency=7), 255),
    "grey-other-key.png": (saved(picture("L", 7), "PNG", transparency=8), 7),
    "colour-key.png": (saved(picture("RGB", 1, 2, 3), "PNG", transparency=(1, 2, 3)), 255),
    "one-bit-key.png": (saved(picture("1", 0), "PNG", transparency=0), 255),
    "two-bit-key.png": (png([b"\x55\x55"] * 8, 8, 2, 0, b"\0\1"), 255),
    "four-bit-key.png": (png([b"\x33" * 4] * 8, 8, 4, 0, b"\0\3"), 255),
    "four-bit-other-key.png": (png([b"\x33" * 4] * 8, 8, 4, 0, b"\0\x33"), 51),
    "deep.png": (deep_png(flat(257 * 100, dtype=">u2"), 0), 100),
    "deep-key.png": (deep_png(flat(300, dtype=">u2"), 0, [300]), 255),
    "deep-other-key.png": (deep_png(flat(257 * 9, dtype=">u2"), 0, [257 * 8]), 9),
    "deep-colour.png": (deep_png(flat(257 * 1, 257 * 200, 257 * 3, dtype=">u2"), 2), (1, 200, 3)),
    "deep-dark-colour.png": (deep_png(flat(257 * 1, 257 * 2, 257 * 3, dtype=">u2"), 2), (1, 2, 3)),
    "deep-colour-key.png": (deep_png(flat(300, 40000, 20, dtype=">u2"), 2, [300, 40000, 20]), 255),
    "deep-colour-other-key.png": (deep_png(flat(256, 51200, 0, dtype=">u2"), 2, [257, 51200, 0]), (1, 200, 0)),
    "deep-grey-alpha.png": (deep_png(flat(0, 0, dtype=">u2"), 4), 255),
    "junk-exif.png": (png([b"\x5a" * 8] * 8, 8, 8, 0, more=[(b"eXIf", b"junk")]), 90),
    "short-exif.png": (png([b"\x5a" * 8] * 8, 8, 8, 0, more=[(b"eXIf", b"II*\0\x08\0\0\0")]), 90),
    "junk-exif-text.png": (
        png([b"\x5a" * 8] * 8, 8, 8, 0, more=[(b"tEXt", b"Raw profile type exif\0\nexif\n 4\nxyz")]),
        90,
    ),
    "deep-alpha.png": (deep_png(flat(0, 65535, 0, 65535, dtype=">u2"), 6), (0, 255, 0)),
    # JPEG and its relatives; some levels are lost in them
    "grey.jpg": (saved(picture("L", 90), "JPEG"), 90),
    "colour.jfif": (saved(picture("RGB", 200, 20, 30), "JPEG", quality=98), (200, 20, 30)),
    "progressive.jpg": (saved(picture("L", 90), "JPEG", progressive=True), 90),
    "scans.jpg": (jpeg_in_scans(16, 3), 128),
    "scans-of-inks.jpg": (jpeg_in_scans(16, 4), 64),
    "inks.jpg": (saved(picture("CMYK", 0, 255, 255, 0), "JPEG", quality=100), (255, 0, 0)),
    "pair.mpo": (film("MPO", quality=98), (255, 0, 0)),
    # other formats
    "frames.gif": (film("GIF"), (255, 0, 0)),
    "clear.gif": (saved(picture("P", 0), "GIF", transparency=0), 255),
    "colour.webp": (saved(picture("RGB", 9, 99, 199), "WEBP", lossless=True), (9, 99, 199)),
    "clear.webp": (saved(picture("RGBA", 0, 0, 0, 0), "WEBP", lossless=True), 255),
    "frames.webp": (film("WEBP", lossless=True), (255, 0, 0)),
    "frames.png": (film("PNG"), (255, 0, 0)),
    "colour.avif": (saved(picture("RGB", 200, 20, 30), "AVIF", quality=100, subsampling="4:4:4"), (200, 20, 30)),
    "clear.avif": (saved(picture("RGBA", 0, 0, 0, 0), "AVIF", quality=100), 255),
    "colour.bmp": (saved(picture("RGB", 1, 2, 3), "BMP"), (1, 2, 3)),
    "palette.bmp": (saved(picture("P", 0), "BMP"), 0),
    "one-bit.bmp": (saved(picture("1", 1), "BMP"), 255),
    "text.pgm": (b"P2 2 2 9\n9 9 9 9\n", 255),
    "one-bit.pbm": (b"P1 # ink is black\n2 2\n1 1 1 1\n", 0),
    "grey.pgm": (b"P5 2 2 15 " + bytes([15] * 4), 255),
    "deep.pgm": (b"P5 2 2 4095 " + struct.pack(">4H", *[4095] * 4), 255),
    "colour.ppm": (b"P6 2 2 255 " + bytes([1, 2, 3] * 4), (1, 2, 3)),
    "deep-colour.ppm": (b"P6 2 2 1023 " + struct.pack(">12H", *[1023, 0, 0] * 4), (255, 0, 0)),
    "no-suffix": (saved(picture("L", 90), "PNG"), 90),
    "wrong-suffix.png": (saved(picture("L", 90), "BMP"), 90),
    # TIFF: depth, range and polarity by its tags
    "grey.tif": (tiff(flat(90)), 90),
    "inverted.tif": (tiff(flat(90), WHITE_IS_ZERO), 165),
    "small-range.tif": (tiff(flat(31), tags=[(MAX, SHORT, [62])]), 128),
    "small-range-inverted.tif": (tiff(flat(63), WHITE_IS_ZERO, [(MAX, SHORT, [63])]), 0),
    "wrong-range.tif": (tiff(flat(90), tags=[(MAX, SHORT, [1])]), 90),
    "one-bit.tif": (saved(picture("1", 1), "TIFF"), 255),
    "one-bit-inverted.tif": (tiff(np.zeros((8, 1), np.uint8), WHITE_IS_ZERO, bits=1, size=(8, 8)), 255),
    "four-bit-inverted.tif": (tiff(np.zeros((8, 4), np.uint8), WHITE_IS_ZERO, bits=4, size=(8, 8)), 255),
    "deep.tif": (tiff(flat(257 * 100, dtype="<u2")), 100),
    "deep-big-endian.tif": (tiff(flat(257 * 100, dtype=">u2")), 100),
    "deep-inverted.tif": (tiff(flat(257 * 100, dtype="<u2"), WHITE_IS_ZERO), 155),
    "deep-packed-inverted.tif": (saved(DEEP, "TIFF", tiffinfo={262: 0}, compression="tiff_lzw"), 155),
    "twelve-of-sixteen.tif": (tiff(flat(4095, dtype="<u2"), tags=[(MAX, SHORT, [4095])]), 255),
    "half-of-twelve.tif": (tiff(flat(2048, dtype="<u2"), tags=[(MAX, SHORT, [4095])]), 128),
    "twelve-inverted.tif": (tiff(flat(4095, dtype="<u2"), WHITE_IS_ZERO, [(MAX, SHORT, [4095])]), 0),
    "twelve-packed.tif": (tiff(bits12(4095), bits=12, size=(8, 8)), 255),
    "signed.tif": (tiff(flat(-1000, dtype="<i2"), tags=[(SMIN, INT16, [-1000]), (SMAX, INT16, [1000])]), 0),
    "signed-top.tif": (tiff(flat(1000, dtype="<i2"), tags=[(SMIN, INT16, [-1000]), (SMAX, INT16, [1000])]), 255),
    "int32-stated.tif": (tiff(flat(90, dtype="<u4"), tags=[(SMAX, LONG, [255])]), 90),
    "float.tif": (tiff(flat(0.5, dtype="<f4"), tags=[(SMIN, FLOAT, [0.0]), (SMAX, FLOAT, [1.0])]), 128),
    "float-inverted.tif": (tiff(flat(1.0, dtype="<f4"), WHITE_IS_ZERO, [(SMAX, FLOAT, [1.0])]), 0),
    "deep-colour.tif": (tiff(flat(257 * 1, 257 * 200, 257 * 3, dtype="<u2"), RGB), (1, 200, 3)),
    "twelve-colour.tif": (tiff(flat(4095, 2048, 0, dtype="<u2"), RGB, TWELVE), (255, 128, 0)),
    "twelve-colour-big-endian.tif": (tiff(flat(4095, 2048, 0, dtype=">u2"), RGB, TWELVE), (255, 128, 0)),
    "deep-planes.tif": (tiff(flat(300, 51455, 3, dtype="<u2"), RGB, planes="raw"), (1, 200, 0)),
    "deep-planes-big-endian.tif": (tiff(flat(300, 51455, 3, dtype=">u2"), RGB, planes="raw"), (1, 200, 0)),
    "deep-planes-packed.tif": (tiff(flat(300, 51455, 3, dtype="<u2"), RGB, planes="deflate"), (1, 200, 0)),
    "deep-planes-alpha.tif": (tiff(flat(300, 51455, 3, 0, dtype="<u2"), RGB, extra=2, planes="raw"), 255),
    "twelve-planes.tif": (tiff(flat(4095, 2048, 0, dtype="<u2"), RGB, TWELVE, planes="raw"), (255, 128, 0)),
    "twelve-planes-big-endian.tif": (tiff(flat(4095, 2048, 0, dtype=">u2"), RGB, TWELVE, planes="raw"), (255, 128, 0)),
    "planes.tif": (tiff(flat(1, 2, 3), RGB, planes="raw"), (1, 2, 3)),
    "one-plane.tif": (tiff(flat(90), planes="raw"), 90),
    "one-plane-inverted-packed.tif": (tiff(flat(90), WHITE_IS_ZERO, planes="deflate"), 165),
    "one-plane-one-bit.tif": (tiff(np.full((8, 1), 255, np.uint8), bits=1, size=(8, 8), planes="raw"), 255),
    "deep-inks.tif": (tiff(flat(300, 65535, 65535, 3, dtype="<u2"), INKS), (254, 0, 0)),
    "twelve-inks.tif": (tiff(flat(0, 4095, 4095, 0, dtype="<u2"), INKS, [(MAX, SHORT, [4095] * 4)]), (255, 0, 0)),
    "inks.tif": (saved(picture("CMYK", 0, 255, 255, 0), "TIFF"), (255, 0, 0)),
    "ink-and-black.tif": (saved(picture("CMYK", 0, 0, 0, 155), "TIFF"), 100),
    "video.tif": (saved(picture("RGB", 200, 20, 30).convert("YCbCr"), "TIFF"), (200, 20, 30)),
    "lab.tif": (saved(picture("LAB", 255, 128, 128), "TIFF"), 255),
    "lab-red.tif": (saved(picture("LAB", 136, 208, 195), "TIFF"), (255, 0, 0)),
    "palette-alpha.tif": (saved(picture("PA", 0, 0), "TIFF"), 255),
    "alpha.tif": (tiff(flat(0, 0, 0, 0), RGB, extra=2), 255),
    "premultiplied.tif": (tiff(flat(0, 0, 0, 128), RGB, extra=1), 127),
    "grey-premultiplied.tif": (tiff(flat(0, 0), extra=1), 255),
    "grey-alpha.tif": (tiff(flat(0, 0), extra=2), 255),
    "not-alpha.tif": (tiff(flat(1, 2, 3, 0), RGB, extra=0), (1, 2, 3)),
}  # fmt: skip

UNREADABLE = {
    "empty.png": (b"", "empty"),
    "text.png": (b"not a picture", "not a picture of a known format"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n", "not a picture of a known"),
    "page.jpg": (b"%PDF-1.7\n", "not a picture of a known format"),
    "vector.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture of a known format"),
    "icon.png": (saved(picture("RGB", 1, 2, 3), "ICO"), "not a picture of a known format"),
    "zeros.png": (bytes(5000), "not a picture of a known format"),
    "head.png": (b"\x89PNG\r\n\x1a\n", "its header is damaged"),
    "cut.png": (saved(Image.effect_noise((64, 64), 90), "PNG")[:2000], "truncated"),
    "cut.jpg": (saved(Image.effect_noise((64, 64), 90), "JPEG")[:1500], "truncated"),
    "cut.tif": (tiff(flat(9, side=64))[:2000], "truncated|damaged"),
    "cut.webp": (saved(Image.effect_noise((64, 64), 90), "WEBP")[:1500], "truncated|damaged"),
    "cut.avif": (saved(Image.effect_noise((64, 64), 90), "AVIF")[:1500], "truncated|damaged|its header"),
    "cut.gif": (saved(Image.effect_noise((64, 64), 90), "GIF")[:1500], "truncated"),
    "cut.bmp": (saved(Image.effect_noise((64, 64), 90), "BMP")[:1500], "truncated"),
    "cut.ppm": (b"P6 8 8 255 \1\2\3", "truncated"),
    "float.tif": (tiff(flat(0.5, dtype="<f4")), "floating-point values without a stated range; give dataset.depth, 1"),
    "nan.tif": (tiff(flat(np.nan, dtype="<f4"), tags=[(SMAX, FLOAT, [1.0])]), "values that are not finite"),
    "int32.tif": (tiff(flat(255, dtype="<i4")), "32-bit values up to 255 without a stated range; give dataset.depth=8"),
    "negative.tif": (tiff(flat(-1000, dtype="<i2")), "negative values, to -1,000, without a stated range"),
    "negative-byte.tif": (tiff(flat(-100, dtype=np.int8)), "negative values, to -100, without a stated range"),
    "huge.png": (huge_png(8200), "8200 x 8200 pixels, more than 67,108,864"),
    "deep-huge.png": (huge_png(6700, 16, 2), "6700 x 6700 pixels, which take 269,340,000 bytes, more than 268,435,456"),
    "scans.jpg": (jpeg_in_scans(6700, 3), "6700 x 6700 pixels, which take 272,148,976 bytes, more than 268,435,456"),
    "many-scans.jpg": (jpeg_in_scans(16, 3, more=98), "101 scans, more than 100"),
    "planes-inverted.tif": (
        tiff(flat(90), WHITE_IS_ZERO, planes="raw"),
        "8-bit values in a plane for each channel, of",
    ),
    "planes-deep.tif": (tiff(flat(900, dtype="<u2"), planes="raw"), "16-bit values in a plane for each channel, of a"),
    "planes-inks.tif": (
        tiff(flat(1, 2, 3, 4, dtype="<u2"), INKS, planes="raw"),
        "16-bit values in a plane for each ch",
    ),
    "planes-reversed.tif": (tiff(flat(1, 2, 3), RGB, [(266, SHORT, [2])], planes="raw"), "8-bit values in a plane for"),
    "planes-packed.tif": (
        tiff(flat(4095, 2048, 0, dtype="<u2"), RGB, TWELVE, planes="deflate"),
        "16-bit colours in compressed planes, of which Pillow gives 8 bits: the range cannot be chosen",
    ),
    "deep-premultiplied.tif": (
        tiff(flat(4095, 2048, 0, 65535, dtype="<u2"), RGB, [(MAX, SHORT, [4095] * 4)], extra=1),
        "16-bit colours multiplied by their alpha, of which Pillow gives 8 bits: the range cannot be chosen",
    ),
    "tiles.tif": (tiff(flat(1), tags=[(TILE_WIDTH, LONG, [65520]), (TILE_HEIGHT, LONG, [65520])]), "65520 x 65520 pix"),
}

DEPTHS = {
    "deep.tif": (12, tiff(flat(4095, dtype="<u2")), 255),
    "deep-ten.png": (10, deep_png(flat(341, dtype=">u2"), 0), 85),
    "colour.png": (12, deep_png(flat(4095, 2048, 0, dtype=">u2"), 2), (255, 128, 0)),
    "alpha.png": (12, deep_png(flat(4095, 2048, 0, 65535, dtype=">u2"), 6), (255, 128, 0)),
    "clear.png": (12, deep_png(flat(4095, 2048, 0, 0, dtype=">u2"), 6), 255),
    "grey-alpha.png": (12, deep_png(flat(2048, 65535, dtype=">u2"), 4), 128),
    "grey-clear.png": (12, deep_png(flat(2048, 0, dtype=">u2"), 4), 255),
    "planes.tif": (12, tiff(flat(4095, 2048, 0, dtype="<u2"), RGB, planes="raw"), (255, 128, 0)),
    "inks.tif": (12, tiff(flat(0, 4095, 4095, 0, dtype="<u2"), INKS), (255, 0, 0)),
    "inks-big-endian.tif": (12, tiff(flat(0, 4095, 4095, 0, dtype=">u2"), INKS), (255, 0, 0)),
    "twelve.ppm": (12, b"P6 2 2 65535 " + struct.pack(">12H", *[4095, 2048, 0] * 4), (255, 128, 0)),
    "stated.ppm": (12, b"P6 2 2 4095 " + struct.pack(">12H", *[4095, 2048, 0] * 4), (255, 128, 0)),
    "ten.ppm": (12, b"P6 2 2 1023 " + struct.pack(">12H", *[1023, 0, 0] * 4), (255, 0, 0)),  # has no 12 bits
    "twelve.pgm": (12, b"P5 2 2 65535 " + struct.pack(">4H", *[2048] * 4), 128),
    "stated.pgm": (12, b"P5 2 2 4095 " + struct.pack(">4H", *[2048] * 4), 128),
    "ten.pgm": (10, b"P5 2 2 4095 " + struct.pack(">4H", *[341] * 4), 85),
    "four.pgm": (4, b"P5 2 2 15 " + bytes([7] * 4), 119),
    "three.pgm": (3, b"P5 2 2 15 " + bytes([7] * 4), 255),
    "four-text.ppm": (4, b"P3 1 1 63\n15 3 0\n", (255, 51, 0)),
    "inverted.tif": (12, tiff(flat(4095, dtype="<u2"), WHITE_IS_ZERO), 0),
    "int32.tif": (8, tiff(flat(90, dtype="<i4")), 90),
    "int32-high.tif": (32, tiff(flat(2**31 + 2**30, dtype="<u4")), 191),
    "float-one.tif": (1, tiff(flat(0.5, dtype="<f4")), 128),
    "float-byte.tif": (8, tiff(flat(90.0, dtype="<f4")), 90),
    "over-stated.tif": (12, tiff(flat(4095, dtype="<u2"), tags=[(MAX, SHORT, [65535])]), 255),
    "four.png": (4, saved(picture("L", 3), "PNG"), 51),
    "four-colour.png": (4, saved(picture("RGB", 15, 3, 0), "PNG"), (255, 51, 0)),
    "four-alpha.png": (4, saved(picture("RGBA", 15, 3, 0, 0), "PNG"), 255),
    "four-key.png": (4, saved(picture("L", 3), "PNG", transparency=3), 255),
    "true-four.png": (4, png([b"\x33" * 4] * 8, 8, 4, 0), 51),
    "byte.png": (12, saved(picture("L", 90), "PNG"), 90),  # has no 12 bits
    "beyond.tif": (8, tiff(flat(256, dtype="<u2")), 255),
}


def decoded(path, content, side=8, channels=3, **options):
    path.write_bytes(content)
    out = torch.full((channels, side, side), 7, dtype=torch.uint8)
    Decoder(side, channels, **options).decode(path, out)
    return out


def pixel(image):
    """The one colour of a flat picture, or its level where it is grey."""
    assert (image == image[:, :1, :1]).all()
    levels = tuple(image[:, 0, 0].tolist())
    return levels[0] if len(set(levels)) == 1 else levels


def assert_level(found, expected, loss=0):
    for one, other in zip(np.broadcast_to(found, 3), np.broadcast_to(expected, 3), strict=True):
        assert abs(int(one) - int(other)) <= loss, (found, expected)


@pytest.mark.parametrize("name", READABLE)
def test_a_picture_has_the_right_pixels(name, tmp_path):
    content, expected = READABLE[name]
    lossy = name.endswith((".jpg", ".jfif", ".mpo", ".avif"))
    loss = {"video.tif": 3, "lab.tif": 2, "lab-red.tif": 11}.get(name, 2 if lossy else 0)
    assert_level(pixel(decoded(tmp_path / name, content)), expected, loss)
    grey = pixel(decoded(tmp_path / name, content, channels=1))
    assert_level(
        grey, Image.new("RGB", (1, 1), tuple(np.broadcast_to(expected, 3))).convert("L").getpixel((0, 0)), loss=2
    )


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_says_why(name, tmp_path):
    content, reason = UNREADABLE[name]
    with pytest.raises(PictureError, match=f"^({reason})"):
        decoded(tmp_path / name, content)


@pytest.mark.parametrize("name", DEPTHS)
def test_a_given_depth_decides_what_is_white(name, tmp_path):
    depth, content, expected = DEPTHS[name]
    assert pixel(decoded(tmp_path / name, content, depth=depth)) == expected


def test_the_corpus_is_large():
    assert len(READABLE) + len(UNREADABLE) + len(DEPTHS) > 100


@pytest.mark.parametrize("background", ["white", "black", "#0a141e", "hsl(0, 100%, 50%)"])
def test_transparent_pixels_have_the_background(background, tmp_path):
    drawn = Image.new("RGBA", (8, 8))  # a black square on transparent black
    drawn.paste((0, 0, 0, 255), (2, 2, 6, 6))
    image = decoded(tmp_path / "square.png", saved(drawn, "PNG"), background=background)
    assert tuple(image[:, 0, 0].tolist()) == Image.new("RGB", (1, 1), background).getpixel((0, 0))
    assert image[:, 2:6, 2:6].max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_is_turned_upright_once(kind, orientation, tmp_path):
    upright = np.zeros((16, 16), np.uint8)
    upright[:8, :8], upright[:8, 8:], upright[8:, :8], upright[8:, 8:] = 240, 160, 80, 0
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF's number: the transpose that the camera did
    stored = Image.fromarray(upright)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decoded(tmp_path / "turned", saved(stored.convert("RGB"), kind, exif=exif), side=16)
    found = image[0, 4::8, 4::8].flatten().tolist()
    assert np.abs(np.array(found) - [240, 160, 80, 0]).max() <= 12


def test_a_deep_colour_picture_is_turned_with_its_low_bytes(tmp_path):
    values = np.zeros((8, 8, 3), ">u2")
    values[:4] = 4095
    exif = Image.Exif()
    exif[0x0112] = 3
    content = deep_png(values, 2)
    chunk = exif.tobytes()[6:]
    extra = struct.pack(">I", len(chunk)) + b"eXIf" + chunk + struct.pack(">I", zlib.crc32(b"eXIf" + chunk))
    image = decoded(tmp_path / "deep.png", content[:33] + extra + content[33:], depth=12)
    assert image[:, :4].max() == 0
    assert image[:, 4:].min() == 255


def test_special_files_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "null.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone")
    out = torch.zeros(3, 8, 8, dtype=torch.uint8)
    reasons = {"pipe": "not a regular", "folder": "not a regular", "null": "not a regular", "nowhere": "No such file"}
    for name, reason in reasons.items():
        with pytest.raises(PictureError, match=reason):
            Decoder(8, 3).decode(tmp_path / f"{name}.png", out)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_large_jpeg_is_shrunk_while_it_is_decoded(tmp_path):
    content = saved(Image.new("L", (8200, 8200), 90), "JPEG")
    assert pixel(decoded(tmp_path / "large.jpg", content)) == 90
    progressive = saved(Image.new("L", (8200, 8200), 90), "JPEG", progressive=True)
    assert pixel(decoded(tmp_path / "large.jpg", progressive)) == 90  # its coefficients take 135 MB
    progressive = saved(Image.new("RGB", (8200, 8200)), "JPEG", progressive=True, subsampling="4:4:4")
    with pytest.raises(
        PictureError, match=r"^8200 x 8200 pixels, which take 407,642,500 bytes, more than 268,435,456$"
    ):
        decoded(tmp_path / "large.jpg", progressive)


@pytest.mark.parametrize("options", [{"depth": 12}, {}])
def test_a_range_that_needs_what_pillow_does_not_give_is_refused(options, tmp_path):
    files = {
        "text.ppm": b"P3 1 1 65535\n4095 2048 0\n",
        "planes.tif": tiff(flat(4095, 2048, 0, dtype="<u2"), RGB, planes="deflate"),
        "premultiplied.tif": tiff(flat(4095, 2048, 0, 65535, dtype="<u2"), RGB, extra=1),
    }
    for name, content in files.items():
        if options:
            with pytest.raises(PictureError, match=r"^16-bit colours .* gives 8 bits: the range cannot be chosen$"):
                decoded(tmp_path / name, content, **options)
        else:
            assert_level(pixel(decoded(tmp_path / name, content)), (15, 8, 0), loss=1)


@pytest.mark.parametrize(
    "content",
    [
        deep_png(flat(4000, 65535, dtype=">u2"), 4),
        deep_png(flat(0, 4000, 1, 65535, dtype=">u2"), 6),
        tiff(flat(4000, 3, 0, 0, dtype="<u2"), INKS),
        tiff(flat(4000, 3, 0, dtype="<u2"), RGB, planes="raw"),
        tiff(flat(4000, 3, 0, dtype="<u2"), RGB, planes="deflate"),
    ],
)
def test_dark_colours_of_16_bits_are_told_with_their_bits(content, tmp_path):
    (tmp_path / "picture").write_bytes(content)
    levels = Decoder(8, 3).decode(tmp_path / "picture", torch.zeros(3, 8, 8, dtype=torch.uint8))
    assert range_notes([levels], None) == [
        "1 picture of 16-bit values without a stated range, none above 4,095 of 65,535; if they have fewer bits, "
        "dataset.depth=12 takes 4,095 as white"
    ]


@pytest.mark.parametrize("dtype", ["<u2", "<i4", "<f4"])
def test_a_picture_wider_and_higher_than_a_strip_is_whole(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(deep_colour, "_STRIP", 20)
    values = np.arange(64 * 64).reshape(64, 64)
    content = tiff(values.astype(dtype), tags=[(SMAX, FLOAT, [4095.0])])
    image = decoded(tmp_path / "grey.tif", content, side=64, channels=1)
    assert np.array_equal(image[0].numpy(), np.rint(values.astype(np.float32) * np.float32(255 / 4095)))
    if dtype == "<u2":
        content = tiff(np.stack([values, values.T, values[::-1]], -1).astype(dtype), RGB, TWELVE)
        image = decoded(tmp_path / "colour.tif", content, side=64)
        expected = np.rint(np.stack([values, values.T, values[::-1]]).astype(np.float32) * np.float32(255 / 4095))
        assert np.array_equal(image.numpy(), expected)


BOMBS = """
import resource, sys, torch
from pathlib import Path
from infer import UserError, read_folder
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_folder(sys.argv[1], 16, depth=int(sys.argv[2]) if len(sys.argv) > 2 else None)
except UserError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_threads_share_a_bound_of_memory(tmp_path):
    """Ten pictures of 8,000 x 8,000 pixels take 64 MB each, and two copies of that while one is converted."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        content = huge_png(8000)
        for index in range(5):
            (tmp_path / name / f"{index}.png").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 500
    (tmp_path / "b" / "bomb.png").write_bytes(huge_png(13_000))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BOMBS, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bomb.png (13000 x 13000 pixels, more than 67,108,864)" in done.stdout
    assert int(done.stdout.split()[-1]) < 500


@pytest.mark.parametrize(
    ("content", "depth", "most"),
    [(huge_png(6600, 16, 2), 12, 540), (huge_png(6600, 16, 2), 16, 460), (huge_png(8000, 16), 12, 560),
     (jpeg_in_scans(6600, 3), 8, 380)],
    ids=["deep-colour-with-low-bytes", "deep-colour", "deep-grey", "scans"],
)  # fmt: skip
def test_the_largest_pictures_take_memory_by_their_bytes_and_not_by_threads(content, depth, most, tmp_path):
    """Of 6,600 x 6,600 pixels: 174 MB in Pillow, as much for low bytes, and 261 MB of coefficients."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, str(tmp_path), str(depth)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < most
