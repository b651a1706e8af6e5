"""Teachers: trained when missing, resumed when unfinished, and reused when there."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infer.core.checks import Range, check
from infer.core.errors import UserError
from infer.core.files import read_json, reserve_folder, write_json
from infer.core.mixing import student_batch
from infer.core.options import AugmentOptions
from infer.core.progress import reporting
from infer.data import Splits
from infer.models.networks import require_batch_norm
from infer.models.options import BackboneOptions
from infer.models.teacher import TeacherModule
from infer.models.weights import frozen, load_weights, save_weights
from infer.training.context import Context
from infer.training.fit import delete_checkpoint, own_generators
from infer.training.options import TeacherOptions, TrainerOptions

log = logging.getLogger("infer")


@dataclass(frozen=True)
class Teacher:
    """A trained, frozen network of normalised images.

    Args:
        name: of its backbone.
        network: in eval mode, on the CPU.
        accuracy: on the test pictures, in 0 to 1.
        balanced_accuracy: the mean of the accuracies of the classes.
        seconds: of its training.
        file: of its weights; None where nothing was written.
    """

    name: str
    network: nn.Module
    accuracy: float
    balanced_accuracy: float
    seconds: float
    file: Path | None


def train_teachers(
    data: Splits,
    backbones: Sequence[str | BackboneOptions],
    epochs: int | None = None,
    seed: int = 0,
    options: TeacherOptions | None = None,
    augment: AugmentOptions | None = None,
    trainer: TrainerOptions | None = None,
    progress: bool = False,
) -> list[nn.Module]:
    """Train one teacher of each backbone on the real training pictures.

    Args:
        data: the pictures; :attr:`Splits.train` is used.
        backbones: names of ours (``convnet_narrow``, ...) or of timm's, or :class:`BackboneOptions`.
        epochs: in place of those of ``options``.
        seed: of the initial weights and of the batches.
        options: of the training; the paper's if None.
        augment: of the training pictures; crops and flips if None.
        trainer: devices and precision; a GPU if there is one, else the CPU.
        progress: show bars and log lines.

    Returns:
        Modules in eval mode, without gradients, that take uint8 images [B, ch, H, W] and return logits float32 [B, C].

    Raises:
        UserError: for unknown names and values out of range.

    Reference: Zhang et al., ICLR 2025, arXiv 2408.06927, section 4.1 and appendix.

    Example:
        >>> import numpy as np, infer
        >>> images, labels = np.random.randint(256, size=(64, 1, 8, 8), dtype=np.uint8), np.arange(64) % 4
        >>> data = infer.Splits.from_arrays(images, labels, images, labels)
        >>> teachers = infer.train_teachers(data, ["convnet_narrow"], epochs=1)
        >>> teachers[0](data.test.images[:2]).shape
        torch.Size([2, 4])
    """
    chosen = options or TeacherOptions()
    chosen = chosen if epochs is None else replace(chosen, epochs=epochs)
    context = Context(data, augment or AugmentOptions(), trainer=trainer or TrainerOptions())
    for each in (chosen, context.augmentation, context.trainer):
        check(each)
    context.trainer.require()
    Range(0, 2**31).check("seed", seed)
    names = [backbones] if isinstance(backbones, str | BackboneOptions) else list(backbones)
    with reporting(progress), own_generators():
        for backbone in names:
            require_network(context, backbone)
        return [_trained(context, backbone, chosen, seed) for backbone in names]


def _trained(context: Context, backbone: str | BackboneOptions, options: TeacherOptions, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    name = backbone if isinstance(backbone, str) else backbone.name
    module, _ = fit_teacher(context, name, context.network(backbone), options, seed, None)
    return frozen(module.trained)


def fit_teacher(
    context: Context, name: str, network: nn.Module, options: TeacherOptions, seed: int, folder: Path | None
) -> tuple[TeacherModule, float]:
    """Train ``network`` on the real pictures; return its module and the seconds."""
    train = context.data.train
    batch = min(options.batch, len(train))
    length = len(train) // batch
    epochs = max(options.epochs, math.ceil(options.min_steps / length)) if options.epochs else 0
    why = f", for min_steps={options.min_steps}" if epochs > options.epochs else ""
    log.info("Training teacher %s (%d epochs of %d steps%s)", name, epochs, length, why)
    module = TeacherModule(name, network, context.task(options, epochs * length))
    draw = partial(student_batch, len(train), 0, batch, None, seed)
    return module, context.fit(module, train, draw, seed, folder, "teacher") if epochs else 0.0


def teacher_in_folder(context: Context, name: str, options: TeacherOptions, seed: int, output: str) -> Teacher:
    """Return the teacher of that backbone and seed in <output>/train/<dataset>/<name>/seed<k>, trained if missing."""
    torch.manual_seed(seed)
    network = context.network(name)
    folder = teacher_folder(context, name, options, seed, output)
    file = folder / "teacher.safetensors"
    with context.lock(folder / ".lock", f"teacher {name}"):
        result = read_json(folder / "result.json")
        if result is None:
            module, seconds = fit_teacher(context, name, network, options, seed, folder)
            result = {"dataset": context.data.name, "backbone": name, "seed": seed}
            result |= {**context.scores(module)._asdict(), "seconds": round(seconds, 2)}
            save_weights(network, file)
            write_json(folder / "result.json", result)
            delete_checkpoint(folder, "teacher")
        else:
            load_weights(network, file)
    log.info("Teacher %s: test accuracy %.2f %% (%s)", name, 100 * result["accuracy"], folder)
    balanced = result.get("balanced_accuracy", result["accuracy"])
    return Teacher(name, frozen(network.cpu()), result["accuracy"], balanced, result["seconds"], file)


def teacher_folder(context: Context, name: str, options: TeacherOptions, seed: int, output: str) -> Path:
    """Reserve the folder of the teacher of that backbone and seed."""
    identity: dict[str, Any] = {"backbone": asdict(context.backbone(name)), "recipe": asdict(options), "seed": seed}
    return reserve_folder(Path(output, "train", context.data.name, name, f"seed{seed}"), context.identity(**identity))


def require_teachers(context: Context, teachers: Sequence[str], students: Sequence[str]) -> None:
    """Raise :class:`UserError` for unknown networks and teachers without BatchNorm, before anything is trained."""
    for name in teachers:
        require_batch_norm(f"teachers.backbones={name}", require_network(context, name))
    for name in students:
        require_network(context, name)


def require_network(context: Context, backbone: str | BackboneOptions) -> nn.Module:
    """Build the network and pass it a batch of this data; raise :class:`UserError` where it fails."""
    network = frozen(context.network(backbone))
    data, name = context.data, backbone if isinstance(backbone, str) else backbone.name
    try:
        network(torch.zeros(2, data.channels, data.side, data.side))
    except Exception as error:  # a foreign forward pass raises errors of many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"backbone={name}: does not take images of {data.channels} x {data.side} x {data.side} ({reason}); "
            "choose another backbone or dataset.image_size"
        ) from error
    return network


def require_above_chance(context: Context, teachers: Sequence[Teacher], margin: float) -> None:
    """Raise :class:`UserError` where a teacher's accuracy is below chance + ``margin`` * (1 - chance)."""
    chance = 1 / len(context.data.classes) if context.balanced else context.data.chance
    least = chance + margin * (1 - chance)
    for teacher in teachers:
        reached = teacher.balanced_accuracy if context.balanced else teacher.accuracy
        if reached < least:
            raise UserError(
                f"teachers.backbones={teacher.name}: its test accuracy {reached:.1%} is near chance "
                f"({chance:.1%}; teachers.margin asks for {least:.1%}); train it longer "
                "(recipe.teacher.epochs), change recipe.teacher.lr, or leave it out"
            )
