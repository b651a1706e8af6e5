"""Training the proxy model of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from infer.distilled import DistilledSet
from infer.methods.proxy import ProxyModel
from infer.pipeline.set_options import SetOptions
from infer.training.context import Context
from infer.training.fit import delete_checkpoint
from infer.training.students import Student, fit_student
from infer.training.training_set import TrainingSet

_SEED = 10**6
"""Seeds of proxy models start here; the students of a table have smaller ones."""


def train_proxy(
    context: Context, options: SetOptions, random: DistilledSet, teachers: Sequence[nn.Module], folder: Path | None
) -> ProxyModel:
    """Train the proxy model on ``random`` pictures in the budget of the set, with the same kind of labels.

    Args:
        context: of the run.
        options: of the set.
        random: the proxy model's training set.
        teachers: of the run.
        folder: the run's, for checkpoints; None writes nothing.
    """
    steps, seed = options.labels.proxy_steps, _SEED + options.seed
    name = f"{options.proxy_backbone}-proxy"
    student = Student(name, options.proxy_backbone, options.student, options.mixing, steps, seed)
    place = folder / "proxy" if folder else None
    silent = replace(context, report=None)  # which reports the students of the set itself
    module = fit_student(silent, student, TrainingSet.of_set(random, teachers), place).module
    if place:
        delete_checkpoint(place, "student")  # the next set of this folder has its own proxy model
    moments, device = context.data.moments, context.trainer.device
    return ProxyModel(module.trained, teachers, moments, options.student.temperature, device)
