"""What every stage of a run works with, and how any of them trains and measures a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from infer.cli.schema import BackboneConfig, BaseConfig
from infer.core.files import locked
from infer.data import Splits
from infer.data.batches import Indices, in_order, loader
from infer.metrics.scores import Scores
from infer.models.modules import Classifier
from infer.models.networks import build
from infer.training.fit import Hardware, Watch, fit, measure

_EVALUATION_BATCH = 500
_WATCHED = 1000


class Source(Protocol):
    """Batches by their indices: pictures, or what a student trains on."""

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]: ...

    @property
    def streams(self) -> bool:
        """Whether a batch has to be read from disk."""
        ...


@dataclass(frozen=True)
class Bench:
    """What every stage works with: the data, the configuration, the machine and the loggers."""

    data: Splits
    config: BaseConfig
    hardware: Hardware
    loggers: Sequence[Logger] = ()
    report: Callable[[int, float], None] | None = None  # told the step and the accuracy of a student on its way

    def alone(self, path: Path, what: str) -> AbstractContextManager[None]:
        """The lock ``path``: of jobs side by side one makes ``what``. Processes of one run go together, without."""
        return nullcontext() if self.hardware.strategy == "ddp" else locked(path, what)

    def network(self, options: BackboneConfig) -> nn.Module:
        """A new network of that backbone for this data."""
        data = self.data
        return build(options.model, options.options, options.stem, len(data.classes), data.channels, data.side)

    def scores(self, module: Classifier) -> Scores:
        """On the test pictures."""
        size = len(self.data.test)
        draw = partial(in_order, size, _EVALUATION_BATCH)
        batches = loader(self.data.test, draw, math.ceil(size / _EVALUATION_BATCH), self.data.test.streams)
        return measure(module, batches, self.hardware)

    @property
    def balanced(self) -> bool:
        """Whether the loss on real pictures has to make up for classes of different sizes."""
        return self.config.dataset.balanced and len(self.data.train.targets.bincount().unique()) > 1

    @property
    def module_options(self) -> dict[str, Any]:
        """How a classifier of this data sees its pictures."""
        return {"classes": len(self.data.classes), **self.augmentation}

    @property
    def augmentation(self) -> dict[str, Any]:
        """What is done to a training picture."""
        dataset = self.config.dataset
        return {"crop": dataset.crop, "flip": dataset.flip, "resized_crop": dataset.resized_crop}

    def fit(
        self,
        module: Classifier,
        source: Source,
        draw: Callable[[int], Tensor],
        steps: int,
        seed: int,
        folder: Path,
        name: str,
        watched: bool = False,
    ) -> float:
        """Train ``module`` on the batches ``source[draw(step)]``, made on the device unless they stream from disk.

        A ``watched`` one is measured on its way, where somebody looks: a logger, or ``report``.
        """
        if source.streams:
            batches = loader(source, draw, steps, streams=True)
        else:
            module.resident = source
            batches = loader(Indices(), draw, steps)
        watch = Watch(*self._sample, self.report) if watched and (self.loggers or self.report) else None
        return fit(module, batches, seed, folder, name, self.hardware, self.loggers, watch)

    @cached_property
    def _sample(self) -> tuple[Tensor, Tensor]:
        """Test pictures enough for a curve, and their classes."""
        test = self.data.test
        return test[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:_WATCHED]]

    @property
    def given_moments(self) -> dict[str, Any]:
        """The mean and std that were given, for an identity; nothing where they are the data's own."""
        given = self.data.given_moments
        return {"moments": [moment.tolist() for moment in given]} if given else {}

    def identity(self, **more: Any) -> dict[str, Any]:
        """What makes a result on this data the same result, besides ``more``."""
        return {
            "data": self.data.fingerprint,
            **self.augmentation,
            "precision": self.hardware.precision,
            **self.given_moments,
            **({"balanced": True} if self.balanced else {}),
            **more,
        }
