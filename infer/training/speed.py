"""The speed of networks on this machine, measured by a second of training of each."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F

from infer.core.mixing import student_batch
from infer.core.progress import reporting
from infer.data import Pictures
from infer.data.batches import Indices, loader
from infer.models.classifier import Classifier
from infer.models.options import OptimiserOptions
from infer.models.pretrained import is_frozen
from infer.models.teacher import TeacherModule
from infer.models.weights import features
from infer.training.context import Context
from infer.training.fit import fit, own_generators
from infer.training.jobs import with_threads

FORWARD = 1 / 3
"""Time of a forward pass, against forward and backward."""

_SECONDS = 1.0
"""Of a measurement."""

_MOST_STEPS = 100


class Speed(NamedTuple):
    """The speed of a network.

    Attributes:
        images: Per second, forward and backward.
        setup: Seconds of a training, and of testing the network, beside those of the images.
    """

    images: float
    setup: float


def at_size(context: Context, side: int, count: int) -> Context:
    """Return a context of the first ``count`` train pictures, resized to ``side`` pixels: for measuring alone."""
    images, targets = context.data.train[torch.arange(min(count, len(context.data.train)))]
    few = Pictures(F.interpolate(images.float(), (side, side)).to(torch.uint8), targets)
    data = replace(context.data, train=few, test=few, validation=None, given_moments=context.data.moments)
    return replace(context, data=data, loggers=[], report=None)


def speed_of(context: Context, name: str, optimiser: OptimiserOptions, threads: int) -> Speed:
    """Measure a network. Of a frozen one the forward pass is measured, and counted as the third that it is.

    Args:
        context: of some pictures; see :func:`at_size`.
        name: of the network.
        optimiser: of its training.
        threads: of its arithmetic.
    """
    with reporting(False), own_generators(), with_threads(threads):
        _trained_and_tested(context, name, optimiser)  # the first time takes longer than those after it
        began = time.perf_counter()
        module = _trained_and_tested(context, name, optimiser)
        whole = time.perf_counter() - began
        first = _seconds(context, module, 1)
        steps = min(_MOST_STEPS, math.ceil(_SECONDS / first))
        more = _seconds(context, module, 1 + steps) - first  # without what a training takes beside its steps
    each = more / steps if more > 0 else first
    share, batch = FORWARD if is_frozen(module.network) else 1.0, _batch(context, optimiser)
    images = share * batch / each
    tested = FORWARD * len(context.data.test) / images
    return Speed(images, max(0.0, whole - each - tested))


def _batch(context: Context, optimiser: OptimiserOptions) -> int:
    return min(optimiser.batch, len(context.data.train))


def _trained_and_tested(context: Context, name: str, optimiser: OptimiserOptions) -> Classifier:
    """Train a new network for one step, and test it."""
    module = TeacherModule(name, context.network(name), context.task(optimiser, 1))
    _seconds(context, module, 1)
    context.scores(module)
    return module


def _seconds(context: Context, module: Classifier, steps: int) -> float:
    """Return the seconds of ``steps`` steps of training, or of their forward passes where the network is frozen."""
    train, batch, device = context.data.train, _batch(context, module.task.optimiser), context.trainer.device
    if is_frozen(module.network):
        images = train[torch.arange(batch)][0].to(device)
        module.to(device).eval()
        began = time.perf_counter()
        features(module.network, (module.inputs(images) for _ in range(steps)))
        return time.perf_counter() - began
    module.task = replace(module.task, steps=steps)
    module.resident = train
    module.train()
    draw = partial(student_batch, len(train), 0, batch, None, 0)
    return fit(module, loader(Indices(), draw, steps), 0, None, "speed", context.trainer)
