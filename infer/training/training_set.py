"""What a student trains on: a distilled set, or all real pictures, as indexed batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from infer.core.labels import Ensemble
from infer.data import Pictures, Splits, Streamed
from infer.data.splits import class_shares
from infer.distilled import DistilledSet


@dataclass(frozen=True)
class TrainingSet:
    """Batches of (images uint8 [B, ch, H, W], labels float32 [B, C]).

    Args:
        source: a distilled set, or real pictures.
        moments: mean and std float32 [ch] of pixels in 0 to 1.
        classes: number of classes C.
        space, temperature: of the labels, as in :func:`infer.core.labels.distribution`.
        ensemble: labels each batch in place of the labels (dynamic labels).
        final: the images are neither augmented nor mixed: mixed views, or rows of a table without augmentation.
        composed_images: all images of a distilled set, uint8 [N, ch, H, W], where a GPU has room for them.
    """

    source: DistilledSet | Pictures | Streamed
    moments: tuple[Tensor, Tensor]
    classes: int
    space: str = "probabilities"
    temperature: float = 1.0
    ensemble: Ensemble | None = None
    final: bool = False
    composed_images: Tensor | None = None

    @classmethod
    def of_set(cls, distilled: DistilledSet, teachers: Sequence[nn.Module]) -> TrainingSet:
        """Train on a distilled set; its ``teachers`` label where its labels are dynamic."""
        header, mixed = distilled.header, distilled.mixed_views is not None
        ensemble = Ensemble(teachers, header.space, header.temperature) if header.labels == "dynamic" else None
        moments = (distilled.mean, distilled.std)
        distilled = distilled.with_transform(None)  # which is for the caller's own loop
        return cls(distilled, moments, len(distilled.classes), header.space, header.temperature, ensemble, mixed)

    @classmethod
    def of_real(cls, data: Splits) -> TrainingSet:
        """Train on all real pictures, labelled by their classes."""
        return cls(data.train, data.moments, len(data.classes))

    @property
    def unmixed(self) -> TrainingSet:
        """The natural images with their classes where this set is of mixed views, and else the set itself."""
        source = self.source
        if not isinstance(source, DistilledSet) or source.mixed_views is None:
            return self
        return TrainingSet(Pictures(source.naturals, source.natural_targets), self.moments, self.classes)

    @property
    def of_views(self) -> bool:
        """Whether the images are mixed views."""
        return isinstance(self.source, DistilledSet) and self.source.mixed_views is not None

    @property
    def composed(self) -> int:
        """Number of composed images; they come after the natural ones."""
        source = self.source
        return len(source.pairs) if isinstance(source, DistilledSet) and source.mixed_views is None else 0

    @property
    def naturals(self) -> int:
        """Number of images that are not composed: natural images, mixed views, real pictures."""
        return len(self.source) - self.composed

    @property
    def streams(self) -> bool:
        """Whether a batch is read from disk."""
        return isinstance(self.source, Streamed)

    @property
    def device(self) -> torch.device:
        """The device of the images, and of indices."""
        return self.source.device

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.source.nbytes

    def to(self, device: torch.device) -> TrainingSet:
        """Move images and labels to ``device``; streamed pictures stay on disk.

        A GPU composes the images of a distilled set once where they take an eighth of its free memory at most: a step
        then launches one kernel for them in place of fifty.
        """
        moved = replace(self, source=self.source.to(device))
        source = moved.source
        if device.type != "cuda" or not isinstance(source, DistilledSet):
            return moved
        if len(source) * source.naturals[0].nbytes > torch.cuda.mem_get_info(device)[0] / 8:
            return moved
        return replace(moved, composed_images=_all_images(source))

    @property
    def class_shares(self) -> Tensor | None:
        """Share of each class, float32 [C], where labels are classes; None for soft labels, which contain it."""
        source = self.source
        if isinstance(source, DistilledSet):
            return class_shares(source.natural_targets, self.classes) if source.header.labels == "hard" else None
        return class_shares(source.targets, self.classes)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.source, DistilledSet):
            ready = self.composed_images
            images = self.source.images(indices) if ready is None else ready[indices]
            return images, self.source.raw_labels(indices)
        images, targets = self.source[indices]
        return images, nn.functional.one_hot(targets, self.classes).float()


def _all_images(source: DistilledSet) -> Tensor:
    """Compose the images of a set, uint8 [N, ch, H, W]."""
    return torch.cat([source.images(part) for part in torch.arange(len(source), device=source.device).split(1000)])
