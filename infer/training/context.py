"""What every training of a run shares: the data, the networks, the devices, the loggers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from infer.core.checks import argument, check
from infer.core.errors import UserError, shown
from infer.core.files import exclusive_lock
from infer.core.options import AugmentOptions
from infer.data import Splits
from infer.data.batches import Indices, in_order, loader
from infer.metrics.scores import Scores
from infer.models.classifier import Classifier, Task
from infer.models.networks import build
from infer.models.options import BackboneOptions, OptimiserOptions, backbone
from infer.models.pretrained import is_frozen
from infer.models.whitened import WhitenedConvNet
from infer.training.callbacks import AccuracyCurve
from infer.training.fit import fit, measure
from infer.training.linear import fit_last_layer
from infer.training.options import TrainerOptions
from infer.training.processes import job
from infer.training.source import Source

Answer = TypeVar("Answer")

_EVALUATION_BATCH = 500
_CURVE_PICTURES = 1000


@dataclass(frozen=True)
class Context:
    """What every training of a run shares.

    Args:
        data: the real pictures.
        augmentation: of training pictures.
        balance: adjust losses on real pictures for classes of different sizes.
        trainer: devices and precision.
        backbones: options of networks that are not known by their name.
        loggers: that get each metric.
        report: called with the step and the accuracy of students in training.
    """

    data: Splits
    augmentation: AugmentOptions = field(default_factory=AugmentOptions)
    balance: bool = False
    trainer: TrainerOptions = field(default_factory=TrainerOptions)
    backbones: Mapping[str, BackboneOptions] = field(default_factory=dict)
    loggers: Sequence[Logger] = ()
    report: Callable[[int, float], None] | None = None

    def lock(self, path: Path, title: str) -> AbstractContextManager[None]:
        """Hold the lock ``path`` between concurrent jobs; the processes of one job hold it together."""
        return job(self.trainer).lock(path, title) if self.trainer.launched else exclusive_lock(path, title)

    def from_first(self, what: str, compute: Callable[[], Answer]) -> Answer:
        """Return what ``compute`` returns on the first process of this job; see :meth:`infer.training.processes.Job`.

        All processes call this for what may differ between them and decides what they do next: times, measurements,
        files, and numbers whose last bits differ.

        Args:
            what: the name of the decision.
            compute: returns what can be pickled.
        """
        return job(self.trainer).from_first(what, compute) if self.trainer.launched else compute()

    def backbone(self, network: str | BackboneOptions) -> BackboneOptions:
        """Return the options of a network, by its name or as they are given."""
        known = self.backbones.get(network) if isinstance(network, str) else None
        return known or backbone(network)

    def network(self, network: str | BackboneOptions, moments: tuple[Tensor, Tensor] | None = None) -> nn.Module:
        """Build a new network for this data, of images normalised by ``moments``, the data's unless given."""
        shape = len(self.data.classes), self.data.channels, self.data.side
        return build(self.backbone(network), *shape, moments or self.data.moments)

    def task(self, optimiser: OptimiserOptions, steps: int) -> Task:
        """Describe a training on this data; its loss is adjusted where classes are unbalanced."""
        shares = self.data.class_shares if self.balanced else None
        return Task(len(self.data.classes), self.data.moments, self.augmentation, optimiser, steps, shares)

    def scores(self, module: Classifier) -> Scores:
        """Measure ``module`` on the test pictures."""
        size = len(self.data.test)
        draw = partial(in_order, size, _EVALUATION_BATCH)
        batches = loader(self.data.test, draw, math.ceil(size / _EVALUATION_BATCH), self.data.test.streams)
        found = measure(module, batches, self.trainer)  # by all: the metric is synchronised
        return self.from_first("scores", lambda: found)

    @property
    def balanced(self) -> bool:
        """Whether losses on real pictures are adjusted for classes of different sizes."""
        return self.balance and len(self.data.train.targets.bincount().unique()) > 1

    def fit(
        self,
        module: Classifier,
        source: Source,
        draw: Callable[[int], Tensor],
        seed: int,
        folder: Path | None,
        name: str,
        curve: AccuracyCurve | None = None,
    ) -> float:
        """Train ``module`` on the batches ``source[draw(step)]``; return the seconds.

        Batches are created on the device unless they are read from disk. Of a pretrained network the last layer is
        fitted first, of a frozen one alone; a ``curve`` of the accuracy has that of this layer first.
        """
        steps, title = module.task.steps, f"{name.partition('-')[0]} {module.name}"
        before = fit_last_layer(module, source, draw, seed, self.trainer.device, title, self.from_first)
        if curve and before:
            curve.start(module.to(self.trainer.device), before)
        if is_frozen(module.network):
            return before
        if isinstance(module.network, WhitenedConvNet):
            module.network.whiten(module.inputs(source[draw(0)][0]))
        module.compile_mode = self.trainer.compile
        if not source.streams:
            module.resident = source
        batches = loader(source if source.streams else Indices(), draw, steps, source.streams)
        return before + fit(module, batches, seed, folder, name, self.trainer, self.loggers, curve)

    @cached_property
    def held_out(self) -> tuple[Tensor, Tensor]:
        """Some validation pictures, or test pictures where there are none, for accuracy curves, and their classes."""
        held_out = self.data.test if self.data.validation is None else self.data.validation
        return held_out[torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))[:_CURVE_PICTURES]]

    @property
    def given_moments(self) -> dict[str, Any]:
        """The mean and std that were given, as part of an identity; empty where they are measured on the data."""
        given = self.data.given_moments
        return {"moments": [moment.tolist() for moment in given]} if given else {}

    def identity(self, **more: Any) -> dict[str, Any]:
        """Return what makes a result on this data the same result, with ``more``."""
        chosen = self.augmentation
        return {
            "data": self.data.fingerprint,
            "crop": chosen.crop,
            "flip": chosen.flip,
            "resized_crop": chosen.resized_crop,
            "precision": self.trainer.precision,
            **self.given_moments,
            **({"balanced": True} if self.balanced else {}),
            **more,
        }


def context_of_call(data: Splits, augment: AugmentOptions | None, trainer: TrainerOptions | None) -> Context:
    """Return the context of a call from Python, whose arguments are checked; None stands for the defaults.

    Raises:
        UserError: for arguments of other types, values out of range, and devices that this machine lacks.
    """
    if not isinstance(data, Splits):
        raise UserError(f"data={shown(data)}: must be an infer.Splits, as infer.read_folder returns it")
    chosen, devices = argument("augment", augment, AugmentOptions), argument("trainer", trainer, TrainerOptions)
    check(chosen, "augment.")
    check(devices, "trainer.")
    devices.require()
    return Context(data, chosen, trainer=devices)
