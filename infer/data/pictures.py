"""A labelled set of pictures: in memory as uint8, or streamed from disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.data import duplicates as near
from infer.data.layout import Layout

Buffer = bytes | memoryview
_SAMPLE = 2000


@dataclass(frozen=True)
class Pictures:
    """``images`` uint8 [N, ch, H, W] and ``targets`` int64 [N]."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.targets[indices]

    def part(self, positions: Tensor) -> Pictures:
        """Some of them."""
        return Pictures(self.images[positions], self.targets[positions])

    def to(self, device: torch.device) -> Pictures:
        """The same, on ``device``."""
        return Pictures(self.images.to(device), self.targets.to(device))

    @property
    def device(self) -> torch.device:
        """Where they lie, and indices have to."""
        return self.images.device

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.images.nbytes

    @property
    def streams(self) -> bool:
        """Whether a batch has to be read from disk."""
        return False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def identity(self) -> Iterator[Buffer]:
        """Bytes that tell these pictures from others."""
        yield self.images.numpy().data
        yield self.targets.numpy().data


@dataclass(frozen=True)
class Streamed:
    """Pictures that stay on disk: ``files`` and ``targets`` int64 [N]; a batch is decoded when it is asked for."""

    files: Sequence[Path]
    targets: Tensor
    layout: Layout

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = torch.empty(len(indices), *self.shape, dtype=torch.uint8)
        for image, index in zip(images, indices.tolist(), strict=True):
            if not self.layout.decode(self.files[index], image):
                raise UserError(f"{self.files[index]}: cannot be read as a picture; mend it or take it away")
        return images, self.targets[indices]

    def part(self, positions: Tensor) -> Streamed:
        """Some of them."""
        return Streamed([self.files[index] for index in positions.tolist()], self.targets[positions], self.layout)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        return self.layout.shape

    @property
    def streams(self) -> bool:
        """Whether a batch has to be read from disk."""
        return True

    @property
    def identity(self) -> Iterator[Buffer]:
        """Names and sizes of the files: reading them all to tell them from others would take hours."""
        yield repr(self.layout).encode()
        for file, target in zip(self.files, self.targets.tolist(), strict=True):
            yield f"{file.parent.name}/{file.name} {file.stat().st_size} {target}\n".encode()


@dataclass(frozen=True)
class Splits:
    """The train and test pictures of a data set of ``classes``, and those to choose by, where it has such
    (``validation``); ``notes`` say what reading them met."""

    name: str
    classes: list[str]
    train: Pictures | Streamed
    test: Pictures | Streamed
    notes: tuple[str, ...] = ()
    given_moments: tuple[Tensor, Tensor] | None = None
    validation: Pictures | Streamed | None = None

    @property
    def channels(self) -> int:
        """Channels of an image, 1 or 3."""
        return self.train.shape[0]

    @property
    def side(self) -> int:
        """Height and width of an image in pixels."""
        return self.train.shape[1]

    @property
    def train_bytes(self) -> int:
        """Bytes of the train pictures at 8 bits a pixel and channel."""
        return len(self.train) * math.prod(self.train.shape)

    @property
    def chance(self) -> float:
        """Accuracy of always answering the test split's commonest class."""
        return float(self.test.targets.bincount().max()) / len(self.test)

    @property
    def class_shares(self) -> Tensor:
        """Of the train pictures, in 0 to 1: float32 [C]."""
        return shares(self.train.targets, len(self.classes))

    def long_tailed(self, factor: float, seed: int) -> Splits:
        """With fewer train pictures from class to class: of equal classes the last keeps ``factor`` times fewer than
        the first (Cui et al. 2019); the seed says which."""
        last = max(1, len(self.classes) - 1)
        kept = [
            members[: max(1, round(len(members) * factor ** (-number / last)))]
            for number, members in enumerate(self.picks(seed))
        ]
        return replace(self, train=self.train.part(torch.cat(kept).sort().values))

    def held_out(self, share: float, seed: int) -> Splits:
        """The same data with its validation pictures, or else that share of each class's train pictures, for test
        pictures: for choosing. The test pictures are not in it.
        """
        if self.validation is not None:
            return replace(self, test=self.validation, validation=None, given_moments=self.moments)
        groups = near.groups(self.train.images) if isinstance(self.train, Pictures) else None
        kept, held = stratified(self.train.targets, share, seed, groups)
        return replace(self, train=self.train.part(kept), test=self.train.part(held), given_moments=self.moments)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and std of the train pixels in 0 to 1, float32 [ch] each, from the histogram of the levels.

        Exact for pictures in memory; of streamed ones some are read, evenly spread; given ones are kept.
        """
        if self.given_moments:
            return self.given_moments
        if isinstance(self.train, Pictures):
            images = self.train.images
        else:
            images = self.train[torch.linspace(0, len(self.train) - 1, min(len(self.train), _SAMPLE)).long()][0]
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in range(self.channels):
            histogram = images[:, channel].flatten().bincount(minlength=256).double()
            share = histogram / histogram.sum()
            mean.append(share @ levels)
            std.append(((share @ levels**2) - mean[-1] ** 2).clamp(min=1e-6).sqrt())
        return torch.stack(mean).float(), torch.stack(std).float()

    @cached_property
    def fingerprint(self) -> str:
        """Names this very data: a digest of every pixel (of streamed pictures: every file), target and class name."""
        found = hashlib.sha256("\n".join(self.classes).encode())
        for part in (self.train, self.test, self.validation):
            for content in part.identity if part is not None else ():
                found.update(content)
        return found.hexdigest()[:16]

    def picks(self, seed: int) -> list[Tensor]:
        """The train pictures of each class in the order that ``seed`` picks them: C tensors int64.

        Every method and baseline of one seed picks from the front of the same lists.
        """
        generator = torch.Generator().manual_seed(seed)
        return [
            (members := (self.train.targets == number).nonzero().flatten())[
                torch.randperm(len(members), generator=generator)
            ]
            for number in range(len(self.classes))
        ]


def shares(targets: Tensor, classes: int) -> Tensor:
    """Of the classes among ``targets`` int64 [N], in 0 to 1: float32 [C]."""
    return targets.bincount(minlength=classes).clamp(min=1) / len(targets)


def stratified(targets: Tensor, share: float, seed: int, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Positions of a train and a test part, that ``share`` of each class in the second: int64, ascending.

    Pictures of one of the ``groups`` int64 [N] stay together, in the train part where a group is too large for the
    test part; a class that is all one group is divided.
    """
    generator = torch.Generator().manual_seed(seed)
    test = torch.zeros(len(targets), dtype=torch.bool)
    for number in targets.unique():
        members = (targets == number).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        if len(members) < 2:
            raise UserError(f"dataset: class number {int(number)} has one picture; a split needs two, so add one")
        wanted = max(1, round(share * len(members)))
        if groups is None:
            test[members[:wanted]] = True
            continue
        for member in members:
            if test[members].sum() == wanted:
                break
            whole = test | (groups == groups[member])
            left = targets[~whole].bincount(minlength=int(targets.max()) + 1)
            if whole[members].sum() <= wanted and left[targets[whole]].all():
                test = whole
        if not test[members].any():
            test[members[:wanted]] = True
    return (~test).nonzero().flatten(), test.nonzero().flatten()
