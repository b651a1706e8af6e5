"""Students: one recipe for every training set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from infer.core.checks import argument, check, check_value
from infer.core.errors import UserError
from infer.core.mixing import student_batch
from infer.core.options import AugmentOptions, MixingOptions
from infer.core.progress import reporting
from infer.data import Pictures, Splits
from infer.distilled import DistilledSet, load
from infer.models.options import BackboneOptions
from infer.models.pretrained import is_frozen
from infer.models.student import StudentModule
from infer.training.callbacks import AccuracyCurve
from infer.training.context import Context, context_of_call
from infer.training.fit import delete_checkpoint, own_generators
from infer.training.options import InputOptions, Seed, StudentOptions, TrainerOptions
from infer.training.records import StudentRecord, read_trained, write_trained
from infer.training.student_file import WEIGHTS, save_student
from infer.training.training_set import TrainingSet

log = logging.getLogger("infer")

_CURVE_POINTS = 10
"""Measurements of a student in its training for loggers and for pruning."""


def train_student(
    small: DistilledSet | str | Path,
    backbone: str | BackboneOptions,
    steps: int | None = None,
    seed: int = 0,
    options: StudentOptions | None = None,
    inputs: InputOptions | None = None,
    trainer: TrainerOptions | None = None,
    progress: bool = False,
) -> nn.Module:
    """Train a student on a distilled set.

    Args:
        small: the distilled set, or its file; its labels are static, hard, or of mixed views.
        backbone: a name of ours or of timm's, or :class:`BackboneOptions`.
        steps: in place of the epochs of ``options``.
        seed: of the initial weights and of the batches.
        options: of the training; the paper's if None. The temperature is that of the set.
        inputs: augmentation and mixing; the paper's if None. Not of mixed views; pretrained networks mix nothing.
        trainer: devices and precision; a GPU if there is one, else the CPU.
        progress: show a bar and log lines.

    Returns:
        A module in eval mode, on the CPU, that takes uint8 images [B, ch, H, W] and returns logits float32 [B, C].

    Raises:
        UserError: for unknown names, values out of range, and a set with dynamic labels, which needs its teachers.

    Reference:
        Zhang et al., ICLR 2025, arXiv 2408.06927, section 4.1: the evaluation.

    Example:
        >>> import infer
        >>> small = infer.load("distilled.safetensors")  # doctest: +SKIP
        >>> student = infer.train_student(small, "resnet18", steps=2000)  # doctest: +SKIP
    """
    small = small if isinstance(small, DistilledSet) else load(small)
    chosen, varied = argument("options", options, StudentOptions), argument("inputs", inputs, InputOptions)
    chosen = chosen if steps is None else replace(chosen, epochs=None, steps=steps)
    check(chosen)
    check(varied, "inputs.")
    seed = check_value("seed", seed, Seed)
    context = _context(small, varied.augment, trainer)
    name = context.backbone(backbone).name
    total = chosen.steps_of(len(small), 0, dynamic=False)
    student = Student(name, backbone, chosen, varied.mixing, total, seed)
    with reporting(progress), own_generators():
        trained = fit_student(context, student, TrainingSet.of_set(small, []), folder=None)[0].trained
    trained.classes, trained.image_size = small.classes, context.data.side
    return trained


def _context(small: DistilledSet, augment: AugmentOptions, trainer: TrainerOptions | None) -> Context:
    """Return the context of a student that has only the distilled set."""
    if small.header.labels == "dynamic":
        raise UserError("labels=dynamic: the teachers label the set; train on it with train.py source=distilled")
    pictures = Pictures(small.naturals, small.natural_targets)
    data = Splits("distilled", small.classes, pictures, pictures, given_moments=(small.mean, small.std))
    return context_of_call(data, augment, trainer)


@dataclass(frozen=True)
class Student:
    """A student to be trained.

    Args:
        name: in logs.
        backbone: its network.
        options: of the training.
        mixing: of a batch.
        steps: of the training.
        seed: of the initial weights and of the batches.
        points: how often its accuracy is measured in the training, for the record.
    """

    name: str
    backbone: str | BackboneOptions
    options: StudentOptions
    mixing: MixingOptions
    steps: int
    seed: int
    points: int = 0


class FittedStudent(NamedTuple):
    """A trained student, the seconds of its training, and the measurements of its accuracy in it."""

    module: StudentModule
    seconds: float
    timeline: list[dict[str, float]]


def learns_from_classes(context: Context, backbone: str, distilled: DistilledSet) -> bool:
    """Return whether students of ``distilled`` learn from its images' classes alone, as pretrained ones may."""
    unmixed = distilled.mixed_views is not None and context.backbone(backbone).is_pretrained
    return distilled.header.labels == "hard" or unmixed


def fit_student(context: Context, student: Student, training_set: TrainingSet, folder: Path | None) -> FittedStudent:
    """Train a student. Checkpoints lie in ``folder``."""
    torch.manual_seed(student.seed)
    network = context.network(student.backbone, training_set.moments)
    mixing = student.mixing
    if context.backbone(student.backbone).is_pretrained:  # in few steps, mixed images take it away from what it knows
        training_set, mixing = training_set.unmixed, replace(mixing, kind="none")
    if training_set.final:  # mixed views, or rows without augmentation
        flipped = student.options.flip_views and training_set.of_views and context.augmentation.flip
        context = replace(context, augmentation=AugmentOptions(crop=0, flip=flipped))
        mixing = replace(mixing, kind="none")
    task = replace(
        context.task(student.options, student.steps),
        moments=training_set.moments,
        shares=training_set.class_shares if context.balanced else None,
    )
    label = (training_set.space, training_set.temperature, training_set.ensemble)
    module = StudentModule(student.name, network, task, mixing, *label)
    images = (training_set.naturals, training_set.composed)
    draw = partial(student_batch, *images, student.options.batch, mixing.natural_ratio, student.seed)
    count = _CURVE_POINTS if context.loggers or context.report else student.points
    curve = AccuracyCurve(*context.held_out, context.report, count) if count else None
    seconds = context.fit(module, training_set, draw, student.seed, folder, "student", curve)
    return FittedStudent(module, seconds, curve.timeline if curve else [])


def student_in_folder(
    context: Context, student: Student, training_set: TrainingSet, folder: Path, trained_on: str | None = None
) -> Mapping[str, Any]:
    """Return the result of one student in ``folder``, trained if missing: its Scores by name, seconds, steps, digests.

    Where its accuracy was measured in the training, and one process trained it, ``timeline`` has the measurements.

    Args:
        context: of the run.
        student: to be trained.
        training_set: that it is trained on.
        folder: of its weights, checkpoints and result.
        trained_on: digest of the training set; a student of another one is trained again. None where the settings in
            ``folder`` say what the training set is.
    """
    result = context.from_first(f"student {student.name}", lambda: read_trained(folder, WEIGHTS, StudentRecord))
    if result is not None and result.get("trained_on") == trained_on:
        return result
    if result is not None:
        log.warning("%s: a student of another set; it is trained again", folder / WEIGHTS)
    module, seconds, timeline = fit_student(context, student, training_set, folder)
    steps = 0 if is_frozen(module.network) else student.steps
    result = {**context.scores(module)._asdict(), "seconds": round(seconds, 2), "steps": steps}
    if student.points and not context.trainer.several:
        result["timeline"] = timeline
    save_student(context, student.backbone, module, folder / WEIGHTS)
    result = write_trained(folder, WEIGHTS, {**result, **({"trained_on": trained_on} if trained_on else {})})
    delete_checkpoint(folder, "student")
    return result
