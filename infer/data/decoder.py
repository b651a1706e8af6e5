"""Decoding of picture files: every picture gets the same channels and size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


@dataclass(frozen=True)
class Decoder:
    """Decodes picture files, turned upright, into uint8 [channels, side, side].

    Args:
        side: height and width in pixels.
        channels: 1 for grey, 3 for colour.
        centre: keep the proportions and cut the middle square of 7/8 of the shorter side, as is usual on ImageNet;
            otherwise a picture is resized to a square and may be distorted.
        stream: keep pictures on disk and decode each batch on request; None does so where they would take more than
            half of the machine's memory.
    """

    side: int
    channels: int
    centre: bool = False
    stream: bool | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a decoded picture."""
        return self.channels, self.side, self.side

    @property
    def identity(self) -> bytes:
        """Bytes that differ between decoders; the fingerprint of streamed pictures includes them."""
        # Stored results depend on these bytes: they keep the class name of version 0.1.
        fields = f"side={self.side}, channels={self.channels}, centre={self.centre}, stream={self.stream}"
        return f"Layout({fields})".encode()

    def streams(self, count: int) -> bool:
        """Return whether ``count`` pictures are streamed from disk."""
        if self.stream is not None:
            return self.stream
        import psutil

        return count * self.channels * self.side**2 > psutil.virtual_memory().total / 2

    def decode(self, file: Path, out: Tensor) -> bool:
        """Decode ``file`` into ``out``, uint8 [channels, side, side].

        Returns:
            Whether the file could be read. Where it could not, ``out`` is unchanged.
        """
        try:
            with Image.open(file) as picture:
                picture.draft(None, (2 * self.side, 2 * self.side))  # decodes a much larger JPEG at a smaller scale
                ImageOps.exif_transpose(picture, in_place=True)
                pixels = torch.from_numpy(np.array(self._converted(picture)))
        except MemoryError:
            raise
        except Exception:  # Pillow raises many types for a broken file, struct.error among them
            return False
        out.copy_(pixels.unsqueeze(0) if self.channels == 1 else pixels.permute(2, 0, 1))
        return True

    def _converted(self, picture: Image.Image) -> Image.Image:
        """Convert the mode and the size of an upright picture."""
        if picture.mode == "F":
            raise ValueError("the range of floating-point pixels is unknown")
        if picture.mode.startswith("I"):  # Pillow clips 16-bit levels to 255 instead of scaling them
            picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if self.centre:
            picture = _middle_square(picture)
        if picture.size != (self.side, self.side):
            picture = picture.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return picture


def _middle_square(picture: Image.Image) -> Image.Image:
    """Cut the middle square of 7/8 of the shorter side (224 of 256 pixels)."""
    edge = max(1, round(min(picture.size) * 7 / 8))
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    return picture.crop((left, top, left + edge, top + edge))
