"""Labelled pictures: in memory as uint8, or streamed from disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.core.images import PictureError
from infer.data.decoder import Decoder
from infer.data.walk import printable

Buffer = bytes | memoryview


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures in memory.

    Args:
        images: uint8 [N, ch, H, W].
        targets: class numbers, int64 [N].
        files: N picture files that they were read from, None for one that has no file; empty where none has one.
    """

    images: Tensor
    targets: Tensor
    files: Sequence[Path | None] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.targets[indices]

    def part(self, positions: Tensor) -> Pictures:
        """Return the pictures at ``positions``, int64 [M] or bool [N]."""
        files = [self.files[at] for at in torch.arange(len(self))[positions].tolist()] if self.files else ()
        return Pictures(self.images[positions], self.targets[positions], files)

    def to(self, device: torch.device) -> Pictures:
        """Return the same pictures on ``device``."""
        return replace(self, images=self.images.to(device), targets=self.targets.to(device))

    @property
    def device(self) -> torch.device:
        """Device of the pictures; indices must be on it too."""
        return self.images.device

    @property
    def nbytes(self) -> int:
        """Bytes of the images in memory."""
        return self.images.nbytes

    @property
    def streams(self) -> bool:
        """Whether a batch is read from disk."""
        return False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def identity(self) -> Iterator[Buffer]:
        """Bytes that differ between sets of pictures: all pixels and targets."""
        yield self.images.numpy().data
        yield self.targets.numpy().data


@dataclass(frozen=True)
class Streamed:
    """Labelled pictures on disk; each batch is decoded on request.

    Args:
        files: N picture files.
        targets: class numbers, int64 [N].
        decoder: turns a file into pixels.
    """

    files: Sequence[Path]
    targets: Tensor
    decoder: Decoder

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        files = [self.files[index] for index in indices.tolist()]
        images = torch.empty(len(files), *self.shape, dtype=torch.uint8)
        for file, found in zip(files, self.decoder.decode_all(files, images), strict=True):
            if isinstance(found, PictureError):
                why = f"cannot be read as a picture ({found}); mend it or take it away"
                raise UserError(f"{printable(file)}: {why}") from found
        return images, self.targets[indices]

    def part(self, positions: Tensor) -> Streamed:
        """Return the pictures at ``positions``, int64 [M]."""
        return Streamed([self.files[index] for index in positions.tolist()], self.targets[positions], self.decoder)

    def to(self, device: torch.device) -> Streamed:
        """Return the pictures themselves: they stay on disk."""
        return self

    @property
    def device(self) -> torch.device:
        """Device of a batch; indices must be on it too."""
        return torch.device("cpu")

    @property
    def nbytes(self) -> int:
        """Bytes of the images in memory: none."""
        return 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return self.decoder.shape

    @property
    def streams(self) -> bool:
        """Whether a batch is read from disk."""
        return True

    @property
    def identity(self) -> Iterator[Buffer]:
        """Bytes that differ between sets of pictures: names, sizes, modification times and targets of their files.

        Reading every file would take hours.
        """
        yield self.decoder.identity
        for file, target in zip(self.files, self.targets.tolist(), strict=True):
            try:
                status = file.stat()
            except OSError as error:
                raise UserError(f"{printable(file)}: cannot be read ({error.strerror})") from error
            name = os.fsencode(f"{file.parent.name}/{file.name}")
            yield name + f" {status.st_size} {status.st_mtime_ns} {target}\n".encode()
