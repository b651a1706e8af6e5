"""What becomes of a picture on disk: its pixels, in one shape for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Every picture is turned upright, and has ``channels`` (1 grey, 3 colour) and ``side`` x ``side`` pixels.

    ``centre`` keeps its proportions and cuts the middle square of 7/8 of its shorter side, as is the custom on
    ImageNet; else it is resized to a square as it is. ``stream`` leaves pictures on disk until they are asked for; None
    does so where they would fill more than half the memory at hand.
    """

    side: int
    channels: int
    centre: bool = False
    stream: bool | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.side, self.side

    def streams(self, pictures: int) -> bool:
        """Whether so many pictures are streamed."""
        if self.stream is not None:
            return self.stream
        return pictures * self.channels * self.side**2 > psutil.virtual_memory().total / 2

    def decode(self, file: Path, into: Tensor) -> bool:
        """Write one picture into ``into`` uint8 [ch, side, side]; False where it cannot be read."""
        side = self.side
        try:
            with Image.open(file) as opened:
                picture: Image.Image = opened
                picture.draft(None, (2 * side, 2 * side))  # a JPEG many times too large is decoded smaller
                ImageOps.exif_transpose(picture, in_place=True)
                if picture.mode == "F":
                    return False  # of what range, nobody says
                if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip and not scale
                    picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
                picture = picture.convert("L" if self.channels == 1 else "RGB")
                if self.centre:
                    picture = _centre(picture)
                if picture.size != (side, side):
                    picture = picture.resize((side, side), Image.Resampling.BILINEAR)
        except MemoryError:
            raise
        except Exception:  # Pillow has many ways to say that a file is broken, struct.error among them
            return False
        pixels = torch.from_numpy(np.array(picture))
        into.copy_(pixels.unsqueeze(0) if self.channels == 1 else pixels.permute(2, 0, 1))
        return True


def _centre(picture: Image.Image) -> Image.Image:
    """The middle square, of 7/8 of the shorter side (224 of 256)."""
    edge = max(1, round(min(picture.size) * 7 / 8))
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    return picture.crop((left, top, left + edge, top + edge))
