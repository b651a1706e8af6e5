"""Train, test and validation pictures of a data set, and how pictures are divided between them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.data.arrays import Array, pictures_from_arrays
from infer.data.decoder import Decoder
from infer.data.duplicates import duplicate_groups
from infer.data.pictures import Pictures, Streamed
from infer.data.stratified import members_of_each, stratified

_MOMENTS_SAMPLE = 2000
"""Streamed pictures that the moments are measured on."""

_ROWS = 1000
"""Pictures whose levels are counted at once."""


@dataclass(frozen=True)
class Splits:
    """The train and test pictures of a data set.

    Args:
        name: of the data set.
        classes: class names, in the order of the class numbers.
        train, test: pictures to learn from, and to measure on.
        notes: one line for each problem found in reading, such as skipped files.
        given_moments: mean and std float32 [ch] of pixels in 0 to 1; None measures them on the train pictures.
        validation: pictures to choose settings by, where the data set has a split of its own for that.
        decoder: reads further files as those of the data set were read; None: they came as arrays.
    """

    name: str
    classes: list[str]
    train: Pictures | Streamed
    test: Pictures | Streamed
    notes: tuple[str, ...] = ()
    given_moments: tuple[Tensor, Tensor] | None = None
    validation: Pictures | Streamed | None = None
    decoder: Decoder | None = None

    @classmethod
    def from_arrays(
        cls,
        train_images: Array,
        train_labels: Array,
        test_images: Array,
        test_labels: Array,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> Splits:
        """Build a data set from NumPy arrays or torch tensors, which are not copied where that can be avoided.

        Args:
            train_images, test_images: square pictures, uint8 [N, ch, H, H], with 1 or 3 channels.
            train_labels, test_labels: class numbers, int64 [N].
            classes: C class names; None names each class by its number.
            name: of the data set.

        Returns:
            The data set. Every class has a train and a test picture.

        Raises:
            UserError: if dtypes, shapes or labels are others than these.

        >>> import numpy as np
        >>> images, labels = np.zeros((6, 1, 8, 8), np.uint8), np.array([0, 1, 2, 0, 1, 2])
        >>> data = Splits.from_arrays(images, labels, images[:3], labels[:3], classes=["cat", "dog", "owl"])
        >>> len(data.train), len(data.test), data.channels, data.side
        (6, 3, 1, 8)
        """
        given = {"train": (train_images, train_labels), "test": (test_images, test_labels)}
        names, parts = pictures_from_arrays(given, classes)
        return cls(name, names, parts["train"], parts["test"])

    def __repr__(self) -> str:
        return f"Splits({self.name!r}: {len(self.train)} train, {len(self.test)} test, {len(self.classes)} classes)"

    @property
    def channels(self) -> int:
        """Channels of a picture, 1 or 3."""
        return self.train.shape[0]

    @property
    def side(self) -> int:
        """Height and width of a picture in pixels."""
        return self.train.shape[1]

    @property
    def train_bytes(self) -> int:
        """Bytes of the train pictures at 8 bits per pixel and channel."""
        return len(self.train) * math.prod(self.train.shape)

    @property
    def chance(self) -> float:
        """Accuracy of always predicting the most frequent class of the test pictures."""
        return float(self.test.targets.bincount().max()) / len(self.test)

    @property
    def class_shares(self) -> Tensor:
        """Share of each class among the train pictures, float32 [C] in 0 to 1."""
        return class_shares(self.train.targets, len(self.classes))

    def long_tailed(self, factor: float, seed: int) -> Splits:
        """Return the data set with a long-tailed train split (Cui et al. 2019); see :func:`long_tail`."""
        return replace(self, train=self.train.part(long_tail(self.picks(seed), factor)))

    def held_out(self, share: float, seed: int) -> Splits:
        """Return the data set for choosing settings, with other test pictures.

        They are the validation pictures or, without any, ``share`` of each class, taken from the train pictures.
        """
        if self.validation is not None:
            return replace(self, test=self.validation, validation=None, given_moments=self.moments)
        train, test = stratified(self.train.targets, share, seed, known_duplicates(self.train), self.classes)
        return replace(self, train=self.train.part(train), test=self.train.part(test), given_moments=self.moments)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and std of the train pixels in 0 to 1, float32 [ch] each; exact unless the pictures are streamed."""
        return self.given_moments or pixel_moments(_sample(self.train))

    @cached_property
    def fingerprint(self) -> str:
        """Digest of every pixel (of streamed pictures: every file's name, size and time), target and class name."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for part in (self.train, self.test, self.validation):
            for content in part.identity if part is not None else ():
                digest.update(content)
        return digest.hexdigest()[:16]

    def picks(self, seed: int) -> list[Tensor]:
        """Return the positions of the train pictures of each class in random order: C tensors int64.

        Every method and baseline takes the pictures from the front of these lists.
        """
        generator = torch.Generator().manual_seed(seed)
        members = members_of_each(self.train.targets, len(self.classes))
        return [own[torch.randperm(len(own), generator=generator)] for own in members]


def class_shares(targets: Tensor, classes: int) -> Tensor:
    """Compute the share of each class among ``targets`` int64 [N]: float32 [C] in 0 to 1; an absent class counts 1."""
    return targets.bincount(minlength=classes).clamp(min=1) / len(targets)


def rarest_class(data: Splits) -> int:
    """Return the number of the class with the fewest train pictures among those that have test pictures."""
    tested = data.test.targets.bincount(minlength=len(data.classes)) > 0
    return int(data.class_shares.masked_fill(~tested, torch.inf).argmin())


def long_tail(picks: Sequence[Tensor], factor: float) -> Tensor:
    """Select fewer pictures from class to class, as in Cui et al. 2019.

    Args:
        picks: positions of the pictures of each class, C tensors int64; the first ones are kept.
        factor: of classes of equal size, the last keeps so many times fewer pictures than the first; at least 1.

    Returns:
        Positions int64 [M], ascending. Every class keeps a picture.
    """
    last = max(1, len(picks) - 1)
    kept = [own[: max(1, round(len(own) * factor ** (-number / last)))] for number, own in enumerate(picks)]
    return torch.cat(kept).sort().values


def known_duplicates(pictures: Pictures | Streamed) -> Tensor | None:
    """Group near-duplicates, as :func:`duplicate_groups` does; None for streamed pictures, which are not compared."""
    return duplicate_groups(pictures.images) if isinstance(pictures, Pictures) else None


def required_fraction(name: str, test_fraction: float | None) -> float:
    """Return ``test_fraction``; raise :class:`UserError` if it is missing for data without a test split."""
    if test_fraction is None:
        raise UserError(
            f"test_fraction=null: {name} has no test split of its own; give the share of each class to hold "
            "out, such as 0.2"
        )
    return test_fraction


def pixel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and std of pixels in 0 to 1 from the histogram of the levels.

    Args:
        images: uint8 [N, ch, H, W].

    Returns:
        Mean and std, float32 [ch] each; the std is at least 0.001.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = [some.flatten().bincount(minlength=256) for some in images[:, channel].split(_ROWS)]  # a copy each
        histogram = torch.stack(counts).sum(dim=0).double()
        share = histogram / histogram.sum()
        mean.append(share @ levels)
        std.append(((share @ levels**2) - mean[-1] ** 2).clamp(min=1e-6).sqrt())
    return torch.stack(mean).float(), torch.stack(std).float()


def _sample(pictures: Pictures | Streamed) -> Tensor:
    """Return all images in memory, or some evenly spaced ones of those on disk."""
    if isinstance(pictures, Pictures):
        return pictures.images
    return pictures[torch.linspace(0, len(pictures) - 1, min(len(pictures), _MOMENTS_SAMPLE)).long()][0]
