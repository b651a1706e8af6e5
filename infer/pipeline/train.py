"""A run of train.py: a teacher, or a student on random pictures or on a distilled file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from torch import nn

from infer.core.errors import UserError
from infer.core.files import digest, file_digest, reserve_folder
from infer.data import Splits
from infer.distilled import DistilledSet, load
from infer.models.weights import frozen, load_weights
from infer.pipeline.assemble import Assembler, planned
from infer.pipeline.next_steps import after_logging
from infer.pipeline.options import TrainOptions
from infer.pipeline.run_folder import Backbones, context_of, identity
from infer.pipeline.set_options import RANDOM
from infer.pipeline.teachers import trained, trained_teachers
from infer.report import tracking
from infer.training.context import Context
from infer.training.jobs import Training, side_by_side, threads_of_each
from infer.training.records import RESULT
from infer.training.students import Student, student_in_folder
from infer.training.teachers import require_network, require_teachers, teacher_folder, training_folder
from infer.training.training_set import TrainingSet

log = logging.getLogger("infer")


def train(options: TrainOptions, backbones: Backbones) -> dict[str, Any]:
    """Train one classifier as ``options`` say; return its result."""
    name = options.backbone.name
    distilled = load(options.source.path or "") if options.source.kind == "distilled" else None
    context = context_of(options, {**backbones, name: options.backbone})
    require_network(context, name)
    training_folder(context, name, options.output)  # whose name must be one
    if options.source.kind == "real":
        return _train_teacher(options, context)
    if distilled is not None:
        _require_fit(distilled, context.data, options.source.path)
        title = f"distilled-{digest(distilled.to_bytes())}"
        teachers = (
            _named_teachers(context, distilled, options.source.path) if distilled.header.labels == "dynamic" else []
        )
    else:
        title = f"random-ipc{options.ipc}-{options.labels.kind}"
        distilled, teachers = _random_set(options, context, title)
    return _train_student(options, context, _Source(title, distilled, teachers))


@dataclass(frozen=True)
class _Source:
    """What a student is trained on: its title in paths, the set, and the teachers of dynamic labels."""

    title: str
    distilled: DistilledSet
    teachers: Sequence[nn.Module]


def _train_teacher(options: TrainOptions, context: Context) -> dict[str, Any]:
    """Train a teacher, or find it trained."""
    name, recipe, data = options.backbone.name, options.recipe.teacher, context.data
    folder = teacher_folder(context, name, recipe, options.seed, options.output)
    title = f"{data.name}-{name}-seed{options.seed}"
    with tracking.loggers(options.logger, folder, title, "teacher", [data.name, name], identity(options)) as loggers:
        ready = replace(context, loggers=loggers)
        (teacher,) = trained(ready, [name], recipe, options.seed, options.output)
        facts = {"accuracy": teacher.accuracy, "seconds": teacher.seconds}
        assert teacher.file is not None
        tracking.log_teacher(loggers, data.name, name, teacher.file, facts)
    for line in after_logging(folder, options.logger):
        log.info(line)
    return {**facts, "file": str(teacher.file)}


def _random_set(options: TrainOptions, context: Context, title: str) -> tuple[DistilledSet, list[nn.Module]]:
    """Create the set of random pictures, labelled as ``options`` say."""
    teachers, chosen = [], options.teachers
    names = chosen.backbones if options.labels.kind != "hard" else []
    planned(context, options.set_options(RANDOM), names, {}).require_possible()
    if names:
        require_teachers(context, chosen.backbones, [])
        teachers = trained_teachers(context, options)
    place = training_folder(context, options.backbone.name, options.output) / title / f"set{options.seed}"
    folder = reserve_folder(place, context.identity(**identity(options)))
    with context.lock(folder / ".lock", str(folder)):
        order = context.data.picks(options.seed)
        assembler = Assembler(context, options.set_options(RANDOM), order, teachers, None, folder)
        return assembler.create(), assembler.networks


def _train_student(options: TrainOptions, context: Context, source: _Source) -> dict[str, Any]:
    """Train a student on a set, or find it trained."""
    name, data, distilled = options.backbone.name, context.data, source.distilled
    settings = context.identity(file=digest(distilled.to_bytes()), **identity(options))
    place = training_folder(context, name, options.output) / source.title / f"seed{options.seed}"
    folder = reserve_folder(place, settings)
    recipe, dynamic = options.recipe.student, distilled.header.labels == "dynamic"
    steps = recipe.steps_of(len(distilled), len(source.teachers), dynamic)
    student = Student(f"{name}-{source.title}", name, recipe, options.mixing, steps, options.seed)
    title = f"{data.name}-{name}-{source.title}-seed{options.seed}"
    tags = [data.name, name, options.source.kind]
    with (
        context.lock(folder / ".lock", str(folder)),
        tracking.loggers(options.logger, folder, title, "student", tags, settings) as loggers,
    ):
        ready = replace(context, loggers=loggers)
        training_set = TrainingSet.of_set(distilled, source.teachers)
        run = partial(student_in_folder, student=student, training_set=training_set, folder=folder)
        training = Training(f"student {student.name}", folder / RESULT, run)
        result: Mapping[str, Any] = next(side_by_side(ready, [training], threads_of_each(ready.trainer, 1)))
    log.info("Student %s on %s: test accuracy %.2f %% (%s)", name, source.title, 100 * result["accuracy"], folder)
    for line in after_logging(folder, options.logger):
        log.info(line)
    return dict(result)


def _require_fit(distilled: DistilledSet, data: Splits, path: str | None) -> None:
    """Raise :class:`UserError` where the set's images or classes are not those of the data."""
    shape, expected = tuple(distilled.naturals.shape[1:]), (data.channels, data.side, data.side)
    if len(distilled.classes) != len(data.classes) or shape != expected:
        raise UserError(
            f"source.path={path}: holds {len(distilled.classes)} classes of images {shape}, but dataset="
            f"{data.name} has {len(data.classes)} classes of images {expected}; give the dataset it was made from"
        )
    for own, other in zip(distilled.classes, data.classes, strict=True):
        if own != other:
            raise UserError(
                f"source.path={path}: has the class {own} where dataset={data.name} has {other}; give the dataset it "
                "was made from"
            )


def _named_teachers(context: Context, distilled: DistilledSet, path: str | None) -> list[nn.Module]:
    """Load the teachers that a file with dynamic labels names."""
    try:
        named = _FILES.validate_python(distilled.header.provenance.get("files", {}))
    except ValidationError as error:
        raise UserError(
            f"source.path={path}: the header's provenance.files must give each teacher its file and a digest; distil "
            "again"
        ) from error
    teachers = []
    for name, (file, known) in named.items():
        if not (file_digest(Path(file)) or "").startswith(known):
            raise UserError(
                f"{file}: the teacher {name} that the file's dynamic labels need is missing or another than it was; "
                "restore it, run where outputs/ is, or distil again"
            )
        network = context.network(name)
        load_weights(network, Path(file))
        teachers.append(frozen(network))
    if not teachers:
        raise UserError("source.path: the file's labels are dynamic, but it names no teachers; distil again")
    return teachers


_FILES = TypeAdapter(dict[str, tuple[str, Annotated[str, Field(pattern="^([0-9a-f]{8}|[0-9a-f]{16})$")]]])
"""By the name of each teacher, its file and the beginning of the file's digest, which version 0.1 cut at 8 digits."""
