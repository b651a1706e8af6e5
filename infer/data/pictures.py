"""A labelled set of pictures, in memory as uint8."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """``images`` uint8 [N, ch, H, W] and ``targets`` int64 [N]."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.targets[indices]


@dataclass(frozen=True)
class Splits:
    """The train and test pictures of a data set of ``classes``; ``notes`` say what reading them met."""

    name: str
    classes: list[str]
    train: Pictures
    test: Pictures
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of an image, 1 or 3."""
        return self.train.images.shape[1]

    @property
    def side(self) -> int:
        """Height and width of an image in pixels."""
        return self.train.images.shape[2]

    @property
    def chance(self) -> float:
        """Accuracy of always answering the test split's commonest class."""
        return float(self.test.targets.bincount().max()) / len(self.test)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and std of the train pixels in 0 to 1, float32 [ch] each; exact, from the histogram of the levels."""
        levels = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in range(self.channels):
            histogram = self.train.images[:, channel].flatten().bincount(minlength=256).double()
            share = histogram / histogram.sum()
            mean.append(share @ levels)
            std.append(((share @ levels**2) - mean[-1] ** 2).clamp(min=1e-6).sqrt())
        return torch.stack(mean).float(), torch.stack(std).float()

    @cached_property
    def fingerprint(self) -> str:
        """Names this very data: a digest of every pixel, target and class name."""
        found = hashlib.sha256("\n".join(self.classes).encode())
        for part in (self.train, self.test):
            found.update(part.images.numpy().data)
            found.update(part.targets.numpy().data)
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
