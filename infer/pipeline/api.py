"""The public function that distils."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from infer.core.checks import check
from infer.core.errors import UserError, shown
from infer.core.identity import as_identity
from infer.core.progress import reporting
from infer.data import Splits
from infer.distilled import DistilledSet
from infer.methods.options import METHODS
from infer.models.networks import require_batch_norm
from infer.models.weights import PixelClassifier, frozen
from infer.pipeline.assemble import Assembler
from infer.pipeline.set_options import SetOptions
from infer.training.compensators import Compensators
from infer.training.context import Context, context_of_call
from infer.training.evaluation import evaluate
from infer.training.fit import own_generators
from infer.training.options import TrainerOptions
from infer.training.teachers import Teacher, logits_of


def distill(
    data: Splits,
    teachers: Sequence[nn.Module],
    ipc: int | None = None,
    method: str | None = None,
    seed: int | None = None,
    options: SetOptions | None = None,
    trainer: TrainerOptions | None = None,
    progress: bool = False,
) -> DistilledSet:
    """Distil the training pictures into a small set of images and soft labels.

    Args:
        data: the pictures; the test pictures only measure the teachers, for the record.
        teachers: modules of :func:`infer.train_teachers`, or networks of images normalised by ``data.moments``.
        ipc: images per class that may be stored; 10 if None.
        method: ``infer`` (the paper) if None, ``infer_plus`` (ours, which trains a proxy model first), ``random``,
            ``herding``, ``k_center``, ``rded`` or ``sre2l``.
        seed: of the pictures, the compensators and the mixed views; 0 if None.
        options: everything else; :meth:`SetOptions.of_method` has a method's defaults. ``ipc`` and ``seed`` go first.
        trainer: devices and precision; a GPU if there is one, else the CPU.
        progress: show bars and log lines.

    Returns:
        The set: images uint8 [ch, H, W] with soft labels float32 [C]; save it with :meth:`DistilledSet.save`.

    Raises:
        UserError: for values out of range, a budget too small, and teachers that do not fit the data or the method.

    Reference:
        Zhang et al., ICLR 2025, arXiv 2408.06927.

    Example:
        >>> import numpy as np, infer
        >>> images, labels = np.random.randint(256, size=(64, 1, 8, 8), dtype=np.uint8), np.arange(64) % 4
        >>> data = infer.Splits.from_arrays(images, labels, images, labels)
        >>> teachers = infer.train_teachers(data, ["convnet_narrow"], epochs=1)
        >>> len(infer.distill(data, teachers, ipc=3, method="random"))
        12
    """
    chosen = _options(ipc, method, seed, options)
    context = context_of_call(data, chosen.augment, trainer)
    named = _named(context, teachers, chosen)
    with reporting(progress), own_generators():
        order, compensators = data.picks(chosen.seed), Compensators(named, chosen.ufc)
        return Assembler(context, chosen, order, named, compensators, settings=as_identity(chosen)).create()


def _options(ipc: int | None, method: str | None, seed: int | None, options: SetOptions | None) -> SetOptions:
    """Return the options, with the arguments that are not None in place of their values, checked."""
    chosen = SetOptions.of_method("infer" if method is None else method) if options is None else options
    if not isinstance(chosen, SetOptions):
        raise UserError(f"options={shown(options)}: must be an infer.SetOptions, as SetOptions.of_method returns it")
    given: dict[str, Any] = {"ipc": ipc, "seed": seed}
    chosen = replace(chosen, **{name: value for name, value in given.items() if value is not None})
    check(chosen)
    if method is not None and chosen.method.name != method:
        raise UserError(
            f"method={shown(method)}: the options are those of method={chosen.method.name}; give one of them"
        )
    if chosen.labels.kind == "dynamic":
        raise UserError("labels.kind=dynamic: needs the files of its teachers; use the command infer-distill")
    return chosen


def _named(context: Context, teachers: Sequence[nn.Module], options: SetOptions) -> list[Teacher]:
    """Describe the teachers; raise :class:`UserError` where there is none, or one that the method cannot use."""
    single = isinstance(teachers, nn.Module) and not isinstance(teachers, nn.ModuleList)
    modules: list[Any] = [teachers] if single or not isinstance(teachers, Iterable) else list(teachers)
    if not modules or not all(isinstance(module, nn.Module) for module in modules):
        raise UserError(
            f"teachers={shown(teachers)}: give one or more networks, such as infer.train_teachers(data, ['resnet18'])"
        )
    named = [_teacher(context, module, f"teachers[{number}]") for number, module in enumerate(modules)]
    for number, teacher in (
        enumerate(named) if options.method.has_compensators or METHODS[options.method.name].needs_batch_norm else ()
    ):
        require_batch_norm(f"teachers[{number}]", teacher.network)
    return named


def _teacher(context: Context, module: nn.Module, at: str) -> Teacher:
    """Describe a copy of a module as a teacher, with its accuracy on the test pictures."""
    data, device = context.data, context.trainer.device
    mean, std = (moment.to(device) for moment in data.moments)
    network = module
    if isinstance(module, PixelClassifier):
        network = module.network
        if not (torch.allclose(module.mean.to(device), mean) and torch.allclose(module.std.to(device), std)):
            raise UserError(f"{at}: normalises images by another mean and std than the data's; train it on these data")
    network = frozen(copy.deepcopy(network).to(device))
    try:
        classes = logits_of(network, data, device)
    except ValueError as error:
        shape = " x ".join(map(str, data.train.shape))
        raise UserError(f"{at}: does not classify images of {shape} ({error})") from error
    if classes != len(data.classes):
        raise UserError(f"{at}: has {classes} classes, the data has {len(data.classes)}; train it on them")
    try:
        scores = evaluate(network, data.test, mean, std)
    except UserError as error:  # of logits that are not finite
        raise UserError(f"{at}: {error}") from error
    name = f"{type(network).__name__}-{at[9:-1]}"
    return Teacher(name, network.cpu(), scores.accuracy, scores.balanced_accuracy, 0.0, None)
