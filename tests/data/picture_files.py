"""Content of picture files that Pillow does not write: TIFF with any tags, PNG of any depth."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_CODES = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"}


def saved(picture, kind, **options):
    """The content of a file that Pillow writes."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(pixels, photometric=1, tags=(), bits=None, extra=None, size=None, planes=None):
    """A TIFF of ``pixels`` [H, W] or [H, W, ch], of their type; ``tags`` are (tag, type, values).

    It is uncompressed, unless ``planes`` is "deflate"; that or "raw" gives each channel a plane of its own.
    """
    pixels = np.asarray(pixels)
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    height, width = size or pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    layers = np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, 0) if planes else [pixels]
    parts = [zlib.compress(part.tobytes()) if planes == "deflate" else part.tobytes() for part in layers]
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    own = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits or pixels.dtype.itemsize * 8] * channels),
        259: (3, [8 if planes == "deflate" else 1]),
        262: (3, [photometric]),
        273: (4, [0] * len(parts)),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [len(part) for part in parts]),
        284: (3, [2 if planes else 1]),
        339: (3, [kind] * channels),
        **({338: (3, [extra])} if extra is not None else {}),
        **{tag: (code, values) for tag, code, values in tags},
    }
    entries, long = b"", b""
    start = 8 + 2 + 12 * len(own) + 4
    packed = {tag: struct.pack(order + _CODES[code] * len(values), *values) for tag, (code, values) in own.items()}
    at = start + sum(len(value) for value in packed.values() if len(value) > 4)
    offsets = [at + sum(len(part) for part in parts[:number]) for number in range(len(parts))]
    packed[273] = struct.pack(order + "I" * len(parts), *offsets)
    for tag, (code, values) in sorted(own.items()):
        value = packed[tag]
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", start + len(long))
        long += value if len(value) > 4 else b""
        entries += struct.pack(order + "HHI", tag, code, len(values)) + place
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(own)) + entries + b"\0" * 4 + long + b"".join(parts)


def png(rows, width, bits, colour, key=None, more=()):
    """A PNG of packed ``rows`` of bytes, of the colour type ``colour``; ``key`` is the content of tRNS.

    ``more`` are (name, content) of further chunks.
    """
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *([(b"tRNS", key)] if key else []), *more]
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_png(values, colour, key=None):
    """A PNG of 16 bits; ``values`` [8, 8] or [8, 8, ch], ``key`` the transparent value."""
    values = np.asarray(values, ">u2")
    key = struct.pack(f">{len(key)}H", *key) if key else None
    return png([row.tobytes() for row in values], values.shape[1], 16, colour, key)


def huge_png(side, bits=8, colour=0):
    """A black PNG of ``side`` x ``side`` pixels, of some kilobytes; ``colour`` 0 is grey, 2 is RGB."""
    row = b"\0" * (1 + side * bits // 8 * (3 if colour == 2 else 1))
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", content), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg_in_scans(side, components, more=0):
    """A flat grey JPEG of ``side`` x ``side`` pixels that is not progressive, with a scan for each component.

    ``more`` scans of the first component follow. It takes 2 bits for 64 pixels of a component.
    """

    def segment(code, content):
        return b"\xff" + bytes([code]) + struct.pack(">H", len(content) + 2) + content

    numbers, blocks = range(1, components + 1), (-(-side // 8)) ** 2
    frame = struct.pack(">BHHB", 8, side, side, components) + b"".join(bytes([own, 0x11, 0]) for own in numbers)
    tables = [segment(0xC4, bytes([kind, 1, *[0] * 15, 0])) for kind in (0x00, 0x10)]
    scans = [
        segment(0xDA, bytes([1, own, 0, 0, 63, 0])) + bytes(-(-2 * blocks // 8)) for own in [*numbers, *[1] * more]
    ]
    head = [b"\xff\xd8", segment(0xDB, b"\0" + b"\1" * 64), segment(0xC0, frame)]
    return b"".join([*head, *tables, *scans, b"\xff\xd9"])


def flat(*levels, dtype=np.uint8, side=8):
    """Flat pixels [8, 8], or [8, 8, ch] of several ``levels``."""
    pixels = np.empty((side, side, len(levels)), dtype)
    pixels[:] = levels
    return pixels[..., 0] if len(levels) == 1 else pixels


def picture(mode, *levels):
    """A flat picture of 8 x 8 pixels."""
    return Image.new(mode, (8, 8), levels[0] if len(levels) == 1 else levels)
