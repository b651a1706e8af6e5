"""The distilled set as a Lightning data module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from infer.core.checks import Range, check_value
from infer.core.errors import UserError
from infer.core.extras import needed_by
from infer.distilled.dataset import DistilledSet
from infer.distilled.reading import load

with needed_by("infer.DistilledDataModule"):
    import pytorch_lightning as pl


class DistilledDataModule(pl.LightningDataModule):
    """Training batches of a distilled set for any Lightning Trainer.

    A batch is (images float32 [B, ch, H, W], normalised; labels float32 [B, C], probabilities at :attr:`temperature`),
    as ``infer.distillation_loss(logits, labels, temperature)`` takes it. The order is shuffled in each epoch.
    Images are neither augmented nor mixed: mixed views are already, and for other sets the caller chooses.

    Args:
        path_or_set: a distilled file, by a name that :func:`infer.load` takes, or a :class:`infer.DistilledSet`.
        batch_size: images per batch.
        num_workers: worker processes of the DataLoader.
        transform: function from an image uint8 [ch, H, W] to another one, applied before normalisation.

    Attributes:
        dataset: the distilled set.
        classes: class names.
        num_classes: number of classes C.
        temperature: softmax temperature of the labels.

    Raises:
        UserError: if the file cannot be read, and for values out of range.

    Example:
        >>> import torch
        >>> from infer.distilled import DistilledDataModule, DistilledSet, Header
        >>> header = Header(["cat", "dog"], [0.5], [0.25], "hard", "probabilities", 1.0, compensators_per_round=0)
        >>> naturals, none = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.empty(0, 1, 4, 4, dtype=torch.int8)
        >>> data = DistilledDataModule(DistilledSet(naturals, torch.tensor([0, 1]), none, None, header), batch_size=2)
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, float(images.max()), labels.shape
        (torch.Size([2, 1, 4, 4]), -2.0, torch.Size([2, 2]))
    """

    def __init__(
        self,
        path_or_set: str | Path | DistilledSet,
        batch_size: int = 64,
        num_workers: int = 0,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        batch_size = check_value("batch_size", batch_size, Annotated[int, Range(1, 2**24)])
        num_workers = check_value("num_workers", num_workers, Annotated[int, Range(0, 4096)])
        dataset = path_or_set if isinstance(path_or_set, DistilledSet) else load(path_or_set)
        if dataset.header.labels == "dynamic":
            raise UserError("labels=dynamic: the set has no labels of its own; its teachers label each batch")
        self.dataset = dataset.with_transform(transform) if transform is not None else dataset
        self.batch_size, self.num_workers = batch_size, num_workers
        self.classes = dataset.classes
        self.num_classes = len(dataset.classes)
        self.temperature = dataset.temperature

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Return the shuffled DataLoader; the set composes each batch at once."""
        return DataLoader(
            self.dataset,
            self.batch_size,
            shuffle=True,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=partial(_collate, self.dataset.normalise),
        )


def _collate(normalise: Callable[[Tensor], Tensor], items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack items into a batch and normalise its images."""
    images, labels = zip(*items, strict=True)
    return normalise(torch.stack(images)), torch.stack(labels)
