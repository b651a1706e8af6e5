"""The inputs of the analysis, and the samples of them that it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infer.core import codec, ufc
from infer.data import Pictures, Splits, Streamed
from infer.distilled import DistilledSet

MOST = 2000
"""Images of a sample: distances between all pairs are computed."""

_BATCH = 500


class Compression(NamedTuple):
    """The codec of the distilled file's stored images, None for raw pixels, with its settings of ``codec.encode``."""

    codec: str | None
    quality: int
    speed: int | None = None
    subsampling: str = "4:4:4"


class Samples(NamedTuple):
    """Images uint8 [N, ch, H, W] and their classes int64 [N]."""

    images: Tensor
    targets: Tensor

    def first(self, count: int) -> Samples:
        """Return the first ``count`` samples."""
        return Samples(self.images[:count], self.targets[:count])


@dataclass(frozen=True)
class AnalysisInputs:
    """The data, the sets and the networks that the analysis compares.

    Attributes:
        data: The real training and test images.
        distilled: The distilled set.
        random: The equal-bytes baseline.
        students: By source (:data:`infer.core.sources.REPORTED`), its trained students: frozen, in eval mode, on
            ``device``. Every source has as many.
        teacher: The best teacher, whose features the images are compared in; frozen, in eval mode.
        device: The device of the networks.
        balanced: Whether every class counts the same in the loss of accuracy.
        compression: The codec and quality of the distilled file's stored images.
    """

    data: Splits
    distilled: DistilledSet
    random: DistilledSet
    students: Mapping[str, Sequence[nn.Module]]
    teacher: nn.Module
    device: torch.device
    balanced: bool
    compression: Compression

    @cached_property
    def test(self) -> Samples:
        """Random sample of the test images."""
        return _sample(self.data.test)

    @cached_property
    def train(self) -> Samples:
        """Random sample of the training images."""
        return _sample(self.data.train)

    @cached_property
    def test_logits(self) -> dict[str, Tensor]:
        """Logits of each source's students for :attr:`test`, by source: float32 [S, N, C]."""
        return {source: self.logits(source, self.test.images) for source in self.students}

    @torch.no_grad()
    def logits(self, source: str, images: Tensor, count: int | None = None) -> Tensor:
        """Compute the logits of the students of a source.

        Args:
            source: The source of the students.
            images: uint8 [N, ch, H, W].
            count: Number of students S; None: all.

        Returns:
            float32 [S, N, C], on the CPU.
        """
        batches = self.batches(images)
        students = self.students[source][:count]
        return torch.stack([torch.cat([student(some).float().cpu() for some in batches]) for student in students])

    def batches(self, images: Tensor) -> list[Tensor]:
        """Split ``images`` uint8 [N, ch, H, W] into normalised batches on the device."""
        mean, std = (moment.to(self.device) for moment in self.data.moments)
        return [ufc.normalise(some.to(self.device), mean, std) for some in images.split(_BATCH)]

    def compressed(self, samples: Samples) -> Samples:
        """Encode and decode ``samples`` as the distilled file's images, so that they have the same artefacts."""
        name, quality, speed, subsampling = self.compression
        if not self.distilled.coded or name is None:
            return samples
        channels, height, width = samples.images.shape[1:]
        sheets = codec.encode(samples.images, name, quality, speed, subsampling)
        return Samples(codec.decode(sheets, len(samples.images), (channels, height, width)), samples.targets)


def _sample(images: Pictures | Streamed) -> Samples:
    """Draw at most 2,000 images in random order, regardless of class."""
    return Samples(*images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:MOST]])


def stored_samples(distilled: DistilledSet, most: int = MOST) -> Samples:
    """Return at most ``most`` stored natural images of a set."""
    return Samples(distilled.naturals, distilled.natural_targets).first(most)


def composed_samples(distilled: DistilledSet, most: int = MOST) -> Samples:
    """Return at most ``most`` of the images that a set composes.

    Args:
        distilled: The set.
        most: Largest number of images.

    Returns:
        Mixed views if the set has them, else a random sample of the composed images; empty for a set of natural images
        only.
    """
    if distilled.mixed_views:
        numbers = torch.arange(min(most, len(distilled)))
        return Samples(distilled.images(numbers), distilled.classes_of(numbers))
    numbers = torch.randperm(len(distilled.pairs), generator=torch.Generator().manual_seed(0))[:most]
    numbers = numbers.sort().values + len(distilled.naturals)
    return Samples(distilled.pool_images(numbers), distilled.classes_of(numbers))
