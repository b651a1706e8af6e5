"""Decoding of picture files: every picture gets the same channels and size."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile
from torch import Tensor
from torch.utils.data import get_worker_info

from infer.core.images import MAX_BYTES, PictureError, decoded_bytes, open_image
from infer.data.levels import Levels, to_eight_bits

_TINY_FILE = 8192
"""Bytes below which threads slow decoding down: passing a picture between them takes longer than decoding it."""


class _BytesAtOnce:
    """Bounds the memory of threads that decode at once: a picture waits while others fill the bound.

    Args:
        most: bytes, at least those of any one picture.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._changed = threading.Condition()

    @contextmanager
    def take(self, share: int) -> Iterator[None]:
        """Hold a ``share`` of the bytes within the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()


_decoded = _BytesAtOnce(MAX_BYTES)


def _share(picture: ImageFile) -> int:
    """Return the bytes that a picture counts among those decoded at once."""
    frames = 4 if picture.format == "WEBP" else 1  # libwebp decodes films: it holds two frames, Pillow two copies
    return min(MAX_BYTES, frames * decoded_bytes(picture))


@dataclass(frozen=True)
class Decoder:
    """Decodes picture files, turned upright, into uint8 [channels, side, side].

    Colours are taken as sRGB: colour profiles (ICC) of a file are ignored.

    Args:
        side: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        centre: keep the proportions and cut the middle square of 7/8 of the shorter side, as is usual on ImageNet;
            otherwise a picture is resized to a square and may be distorted.
        stream: keep pictures on disk and decode each batch on request; None does so where they would take more than
            half of the machine's memory.
        background: colour behind transparent pixels, by a name or number that Pillow's ImageColor knows.
        depth: bits that the pixel values use; None: what each file states.
    """

    side: int
    channels: int
    centre: bool = False
    stream: bool | None = None
    background: str = "white"
    depth: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a decoded picture."""
        return self.channels, self.side, self.side

    @property
    def identity(self) -> bytes:
        """Bytes that differ between decoders; the fingerprint of streamed pictures includes them."""
        # Stored results depend on these bytes: they keep the class name of version 0.1, and its defaults.
        fields = f"side={self.side}, channels={self.channels}, centre={self.centre}, stream={self.stream}"
        if (self.background, self.depth) != ("white", None):
            fields += f", background={self.background}, depth={self.depth}"
        return f"Layout({fields})".encode()

    def streams(self, count: int) -> bool:
        """Return whether ``count`` pictures are streamed from disk."""
        if self.stream is not None:
            return self.stream
        import psutil

        return count * self.channels * self.side**2 > psutil.virtual_memory().total / 2

    def decode(self, file: Path, out: Tensor) -> Levels | None:
        """Decode ``file`` into ``out``, uint8 [channels, side, side].

        Returns:
            The range of the pixel values; None where there is nothing to tell about it.

        Raises:
            PictureError: where the file cannot be read; ``out`` is then unchanged.
        """
        enough = 2 * self.side, 2 * self.side
        with open_image(file, draft=enough) as picture, _decoded.take(_share(picture)):
            upright, levels = to_eight_bits(picture, file, self.depth)
            pixels = torch.from_numpy(np.array(self._shaped(_opaque(upright, self.background))))
        out.copy_(pixels.unsqueeze(0) if self.channels == 1 else pixels.permute(2, 0, 1))
        return levels

    def decode_all(self, files: Sequence[Path], out: Tensor) -> list[Levels | PictureError | None]:
        """Decode ``files`` into ``out``, uint8 [N, channels, side, side], in threads where that is faster.

        Returns:
            What :meth:`decode` returns for each file, or the error where it cannot be read.
        """

        def decode(index: int) -> Levels | PictureError | None:
            try:
                return self.decode(files[index], out[index])
            except PictureError as error:
                return error

        tiny = not files or (files[0].is_file() and files[0].stat().st_size < _TINY_FILE)
        if tiny or get_worker_info():  # the worker processes of a loader are parallel already
            return [decode(index) for index in range(len(files))]
        with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it decodes
            return list(pool.map(decode, range(len(files))))

    def _shaped(self, picture: Image.Image) -> Image.Image:
        """Convert the mode and the size of a picture."""
        if picture.mode == "LAB":
            profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            picture = ImageCms.profileToProfile(picture, *profiles, outputMode="RGB") or picture
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if self.centre:
            picture = _middle_square(picture)
        if picture.size != (self.side, self.side):
            picture = picture.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return picture


def _opaque(picture: Image.Image, background: str) -> Image.Image:
    """Lay a picture with transparent pixels over a ``background``."""
    if not picture.has_transparency_data:
        return picture
    picture = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
    below = Image.new("RGB", picture.size, background)
    below.paste(picture, mask=picture)
    return below


def _middle_square(picture: Image.Image) -> Image.Image:
    """Cut the middle square of 7/8 of the shorter side (224 of 256 pixels)."""
    edge = max(1, round(min(picture.size) * 7 / 8))
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    return picture.crop((left, top, left + edge, top + edge))
