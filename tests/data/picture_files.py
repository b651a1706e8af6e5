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


def tiff(pixels, photometric=1, tags=(), bits=None, extra=None, size=None):
    """An uncompressed TIFF of ``pixels`` [H, W] or [H, W, ch], of their type; ``tags`` are (tag, type, values)."""
    pixels = np.asarray(pixels)
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    height, width = size or pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    content = pixels.tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    own = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits or pixels.dtype.itemsize * 8] * channels),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [0]),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [len(content)]),
        339: (3, [kind] * channels),
        **({338: (3, [extra])} if extra is not None else {}),
        **{tag: (code, values) for tag, code, values in tags},
    }
    entries, long = b"", b""
    start = 8 + 2 + 12 * len(own) + 4
    packed = {tag: struct.pack(order + _CODES[code] * len(values), *values) for tag, (code, values) in own.items()}
    at = start + sum(len(value) for value in packed.values() if len(value) > 4)
    packed[273] = struct.pack(order + "I", at)
    for tag, (code, values) in sorted(own.items()):
        value = packed[tag]
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", start + len(long))
        long += value if len(value) > 4 else b""
        entries += struct.pack(order + "HHI", tag, code, len(values)) + place
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(own)) + entries + b"\0" * 4 + long + content


def png(rows, width, bits, colour, key=None):
    """A PNG of packed ``rows`` of bytes, of the colour type ``colour``; ``key`` is the content of tRNS."""
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *([(b"tRNS", key)] if key else [])]
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


def huge_png(side):
    """A flat grey PNG of ``side`` x ``side`` pixels, of some kilobytes."""
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(b"\0" * (side + 1)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", content), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def flat(*levels, dtype=np.uint8, side=8):
    """Flat pixels [8, 8], or [8, 8, ch] of several ``levels``."""
    pixels = np.empty((side, side, len(levels)), dtype)
    pixels[:] = levels
    return pixels[..., 0] if len(levels) == 1 else pixels


def picture(mode, *levels):
    """A flat picture of 8 x 8 pixels."""
    return Image.new(mode, (8, 8), levels[0] if len(levels) == 1 else levels)
