"""The distilled set as a PyTorch dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from infer.core import ufc
from infer.distilled.composing import ComposedSet
from infer.distilled.export import export_set


@dataclass(frozen=True, eq=False, repr=False)
class DistilledSet(ComposedSet, Dataset[tuple[Tensor, Tensor]]):
    """A map-style dataset of distilled images and soft labels.

    The items are the mixed views of the set, or, where it has none, the natural images and then the composed ones. An
    item is (image, label): the image uint8 [ch, H, W], or what ``transform`` returns for it, and the label float32 [C],
    the probabilities that a student matches at :attr:`temperature`; one-hot where no labels are stored. An int gives
    an item; a slice, a list or an int64 tensor gives a batch (images [B, ch, H, W], labels [B, C]).

    A batch is composed at once, which takes a tenth of the time of its items one by one or less. A
    ``DataLoader(dataset, batch_size=64)`` reads batches so; one with ``batch_size=None`` reads single items.

    Args:
        naturals: natural images, uint8 [N, ch, H, W].
        natural_targets: class numbers of the natural images, int64 [N].
        compensators: int8 [U, ch, H, W], in steps of ``header.step`` pixel levels.
        labels: float16 [N + P, C] of images, uint8 [V, C] of mixed views, or None where labels are hard or dynamic.
        header: the meaning of the tensors.
        coded: the compressed files of the natural images; empty where they are stored raw.
        choices: chosen candidate of each mixed view, int64 [V], where there are several.
        transform: function applied to each image, uint8 [ch, H, W], by indexing.

    Example:
        >>> import torch
        >>> from infer.distilled import DistilledSet, Header
        >>> header = Header(["cat", "dog"], [0.5], [0.25], "hard", "probabilities", 1.0, compensators_per_round=1)
        >>> naturals = torch.full((2, 1, 4, 4), 100, dtype=torch.uint8)
        >>> compensators = torch.full((1, 1, 4, 4), 5, dtype=torch.int8)
        >>> dataset = DistilledSet(naturals, torch.tensor([0, 1]), compensators, None, header)
        >>> dataset
        DistilledSet(2 natural and 2 composed images, 2 classes, 1 x 4 x 4, 50 bytes)
        >>> image, label = dataset[3]
        >>> int(image[0, 0, 0]), label.tolist()
        (110, [0.0, 1.0])
    """

    transform: Callable[[Tensor], Any] | None = None

    @property
    def classes(self) -> list[str]:
        """Class names; the position is the class number."""
        return self.header.classes

    @property
    def mean(self) -> Tensor:
        """Mean of each channel for pixels in 0 to 1, float32 [ch]."""
        return torch.tensor(self.header.mean, dtype=torch.float32)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each channel for pixels in 0 to 1, float32 [ch]."""
        return torch.tensor(self.header.std, dtype=torch.float32)

    @property
    def temperature(self) -> float:
        """Softmax temperature at which a student matches the labels."""
        return float(self.header.temperature)

    @cached_property
    def targets(self) -> Tensor:
        """Class number of every item, int64 [len(self)]; a mixed view has the class of its first image."""
        return self.classes_of(torch.arange(len(self), device=self.device))

    def normalise(self, images: Tensor) -> Tensor:
        """Return ``images``, pixel levels 0 to 255 [..., ch, H, W], as float32 network input of the same shape."""
        return ufc.normalise(images, self.mean.to(images.device), self.std.to(images.device))

    def with_transform(self, transform: Callable[[Tensor], Any] | None) -> DistilledSet:
        """Return the same set with another ``transform``; None removes it."""
        return replace(self, transform=transform)

    def __getitem__(self, index: Any) -> tuple[Any, Tensor]:
        indices = self._indices(index)
        if not indices.ndim:
            return self.__getitems__([int(indices)])[0]
        images, labels = self.images(indices), self.soft_labels(indices)
        if self.transform is None:
            return images, labels
        changed = [self.transform(image) for image in images]
        tensors = all(isinstance(image, Tensor) for image in changed)
        return torch.stack(changed) if tensors else changed, labels

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Tensor]]:
        """Return several items, composed as one batch; :class:`torch.utils.data.DataLoader` calls it."""
        numbers = self._indices(list(indices))
        images = self.images(numbers)
        transformed = images if self.transform is None else map(self.transform, images)
        return list(zip(transformed, self.soft_labels(numbers), strict=True))

    def _indices(self, index: Any) -> Tensor:
        """Positions int64, without a dimension for an int; negative ones count from the end."""
        indices = torch.as_tensor(list(range(len(self))[index]) if isinstance(index, slice) else index)
        fractional = indices.is_floating_point() or indices.dtype == torch.bool
        if indices.ndim > 1 or (fractional and indices.numel()):
            raise TypeError(f"index {index!r}: expected an int, a slice, a list of ints or an int64 tensor [B]")
        indices = indices.to(self.device, torch.int64)
        outside = (indices < -len(self)) | (indices >= len(self))
        if outside.any():
            raise IndexError(f"index {int(indices[outside][0])} is out of range for {len(self)} items")
        return indices % len(self)

    def __repr__(self) -> str:
        pool = f"{len(self.naturals)} natural and {len(self.pairs)} composed images"
        if self.mixed_views:
            pool = f"{len(self)} mixed views of {self.pool} images"
        shape = " x ".join(map(str, self.naturals.shape[1:]))
        return f"DistilledSet({pool}, {len(self.classes)} classes, {shape}, {self.payload:,} bytes)"

    def export(self, folder: str | Path, format: str = "imagefolder", overwrite: bool = False) -> None:
        """Write all images and labels for other programs; :func:`infer.distilled.export.export_set` has the layouts.

        Args:
            folder: folder to write to; it is created, and has to be empty.
            format: ``"imagefolder"``, ``"huggingface"`` or ``"parquet"``.
            overwrite: delete everything that the folder holds; links are not followed.

        Raises:
            UserError: if the format is unknown, needs a package that is missing, or the folder holds something or
                cannot be written.
        """
        export_set(self, folder, format, overwrite)
