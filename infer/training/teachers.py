"""Teachers: trained when missing, resumed when unfinished, and reused when there."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infer.core import codec
from infer.core.checks import argument, check, check_value
from infer.core.errors import UserError, shown
from infer.core.files import reserve_folder
from infer.core.folder_names import folder_name
from infer.core.identity import as_identity
from infer.core.mixing import student_batch
from infer.core.options import AugmentOptions
from infer.core.paths import user_path
from infer.core.progress import counted, reporting
from infer.data import Pictures, Splits, Streamed
from infer.models.networks import require_batch_norm
from infer.models.options import BackboneOptions
from infer.models.pretrained import is_frozen
from infer.models.teacher import TeacherModule
from infer.models.weights import frozen, load_weights, save_weights
from infer.training.context import Context, context_of_call
from infer.training.fit import delete_checkpoint, own_generators
from infer.training.mirrored import Mirrored, mirrored_batch
from infer.training.options import Seed, TeacherOptions, TrainerOptions
from infer.training.records import TeacherRecord, read_trained, write_trained
from infer.training.source import Source

log = logging.getLogger("infer")

WEIGHTS = "teacher.safetensors"


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
    chosen = argument("options", options, TeacherOptions)
    chosen = chosen if epochs is None else replace(chosen, epochs=epochs)
    check(chosen)
    seed = check_value("seed", seed, Seed)
    context = context_of_call(data, augment, trainer)
    named = _listed(backbones)
    with reporting(progress), own_generators():
        for backbone in named:
            require_network(context, backbone)
        return [_trained(context, backbone, chosen, seed) for backbone in named]


def _listed(backbones: Any) -> list[str | BackboneOptions]:
    """Return the backbones as a list; raise :class:`UserError` where there is none."""
    one = isinstance(backbones, str | BackboneOptions)
    listed = [backbones] if one else list(backbones) if isinstance(backbones, Iterable) else []
    if not listed:
        raise UserError(f"backbones={shown(backbones)}: give one or more names, such as ['resnet18']")
    return listed


def _trained(context: Context, backbone: str | BackboneOptions, options: TeacherOptions, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    name = context.backbone(backbone).name
    module, _ = fit_teacher(context, name, context.network(backbone), options, seed, None)
    return frozen(module.trained)


def fit_teacher(
    context: Context, name: str, network: nn.Module, options: TeacherOptions, seed: int, folder: Path | None
) -> tuple[TeacherModule, float]:
    """Train ``network`` on the real pictures; return its module and the seconds."""
    train = context.data.train if options.compressed is None else _with_copies(context.data.train, options.compressed)
    batch = min(options.batch, len(train))
    length = len(train) // batch
    epochs = max(options.epochs, math.ceil(options.min_steps / length)) if options.epochs else 0
    why = f", for min_steps={options.min_steps}" if epochs > options.epochs else ""
    work = "its last layer" if is_frozen(network) else f"{counted(epochs, 'epoch')} of {counted(length, 'step')}{why}"
    log.info("Training teacher %s (%s)", name, work)
    source: Source = train
    draw = partial(student_batch, len(train), 0, batch, None, seed)
    if options.flips == "alternating" and context.augmentation.flip:
        context = replace(context, augmentation=replace(context.augmentation, flip=False))
        source, draw = Mirrored(train), partial(mirrored_batch, len(train), batch, seed)
    module = TeacherModule(name, network, context.task(options, epochs * length), options.label_smoothing)
    return module, context.fit(module, source, draw, seed, folder, "teacher") if epochs else 0.0


def _with_copies(pictures: Pictures | Streamed, quality: int) -> Pictures:
    """Return pictures followed by copies of them, as AVIF of that quality stores them."""
    if isinstance(pictures, Streamed):
        raise UserError(
            f"recipe.teacher.compressed={quality}: the pictures are streamed from disk; choose dataset.stream=false"
        )
    copies = codec.decode(codec.encode(pictures.images, "avif", quality), len(pictures), pictures.shape)
    return Pictures(torch.cat([pictures.images, copies]), pictures.targets.repeat(2))


def teacher_in_folder(context: Context, name: str, options: TeacherOptions, seed: int, output: str) -> Teacher:
    """Return the teacher of that backbone and seed in <output>/train/<dataset>/<name>/seed<k>, trained if missing."""
    folder = teacher_folder(context, name, options, seed, output)
    with context.lock(folder / ".lock", f"teacher {name}"):
        kept = _kept(context, name, options, folder)
        network, result = kept or _created(context, name, options, seed, folder)
    scores = (result["accuracy"], result["balanced_accuracy"])
    return Teacher(name, frozen(network.cpu()), *scores, result["seconds"], folder / WEIGHTS)


def _created(
    context: Context, name: str, options: TeacherOptions, seed: int, folder: Path
) -> tuple[nn.Module, dict[str, Any]]:
    """Train a teacher, and write its weights and then its result."""
    torch.manual_seed(seed)
    network = context.network(name)
    module, seconds = fit_teacher(context, name, network, options, seed, folder)
    scores = context.scores(module)._asdict()
    save_weights(network, folder / WEIGHTS)
    result = {"dataset": context.data.name, "backbone": name, "seed": seed, **scores, "seconds": round(seconds, 2)}
    result = write_trained(folder, WEIGHTS, result)
    delete_checkpoint(folder, "teacher")
    return network, result


def _kept(
    context: Context, name: str, options: TeacherOptions, folder: Path
) -> tuple[nn.Module, dict[str, Any]] | None:
    """Return the teacher that lies in ``folder`` as it was recorded; None where it has to be trained.

    Earlier versions recorded no digest: weights that reach the recorded accuracy are taken for those of the result.
    """
    result = context.from_first(f"teacher {name}", lambda: read_trained(folder, WEIGHTS, TeacherRecord))
    if result is None:
        return None
    network = context.network(name)
    if result.get("digests"):
        load_weights(network, folder / WEIGHTS)
        return network, result
    try:
        load_weights(network, folder / WEIGHTS)
        found = context.scores(TeacherModule(name, network, context.task(options, 1)))
    except UserError as error:
        log.warning("%s; it is trained again", error)
        return None
    if not math.isclose(found.accuracy, result["accuracy"], abs_tol=1e-6):
        told = (folder / WEIGHTS, 100 * found.accuracy, 100 * result["accuracy"])
        log.warning("%s: reaches %.2f %% where its result says %.2f %%; it is trained again", *told)
        return None
    return network, write_trained(folder, WEIGHTS, {**result, **found._asdict()})


def teacher_folder(context: Context, name: str, options: TeacherOptions, seed: int, output: str) -> Path:
    """Reserve the folder of the teacher of that backbone and seed."""
    identity: dict[str, Any] = {
        "backbone": as_identity(context.backbone(name)),
        "recipe": as_identity(options),
        "seed": seed,
    }
    return reserve_folder(training_folder(context, name, output) / f"seed{seed}", context.identity(**identity))


def training_folder(context: Context, name: str, output: str) -> Path:
    """Return the folder of everything that is trained of the backbone ``name`` on these data."""
    data, backbone = folder_name("dataset.name", context.data.name), folder_name("backbone.name", name)
    return user_path(output) / "train" / data / backbone


def require_teachers(context: Context, teachers: Sequence[str], students: Sequence[str]) -> None:
    """Raise :class:`UserError` for unknown networks and teachers without BatchNorm, before anything is trained."""
    for name in teachers:
        require_batch_norm(f"teachers.backbones={name}", require_network(context, name))
    for name in students:
        require_network(context, name)
    for name in {*teachers, *students}:
        training_folder(context, name, "")  # whose name must be one


def require_network(context: Context, backbone: str | BackboneOptions) -> nn.Module:
    """Build the network and pass it a batch of this data; raise :class:`UserError` where it fails."""
    network = frozen(context.network(backbone))
    data, name = context.data, context.backbone(backbone).name
    try:
        logits_of(network, data)
    except ValueError as error:
        raise UserError(
            f"backbone={name}: does not take images of {data.channels} x {data.side} x {data.side} ({error}); "
            "choose another backbone or dataset.image_size"
        ) from error
    return network


@torch.no_grad()
def logits_of(network: nn.Module, data: Splits, device: torch.device | None = None) -> int:
    """Pass a batch of blank images of ``data``; return the number of logits of each.

    Raises:
        ValueError: with a short reason, for whatever goes wrong in the network.
    """
    try:
        return network(torch.zeros(2, *data.train.shape, device=device)).shape[1]
    except Exception as error:  # a foreign forward pass raises errors of many types
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def require_above_chance(context: Context, teachers: Sequence[Teacher], margin: float) -> None:
    """Raise :class:`UserError` where a teacher's accuracy is below chance + ``margin`` * (1 - chance)."""
    data = context.data
    untested = len(data.test.targets.unique()) < len(data.classes)  # to predict the tested ones alone is no skill
    chance = 1 / len(data.classes) if context.balanced or untested else data.chance
    least = chance + margin * (1 - chance)
    for teacher in teachers:
        reached = teacher.balanced_accuracy if context.balanced else teacher.accuracy
        if reached < least:
            raise UserError(
                f"teachers.backbones={teacher.name}: its test accuracy {reached:.1%} is near chance "
                f"({chance:.1%}; teachers.margin asks for {least:.1%}); train it longer "
                "(recipe.teacher.epochs), change recipe.teacher.lr, or leave it out"
            )
