"""The teachers of a run."""

from __future__ import annotations

import logging
from functools import partial

from infer.pipeline.options import BaseOptions
from infer.training.context import Context
from infer.training.jobs import Training, side_by_side, threads_of_each
from infer.training.options import TeacherOptions
from infer.training.records import RESULT
from infer.training.teachers import Teacher, require_above_chance, teacher_folder, teacher_in_folder

log = logging.getLogger("infer")


def trained_teachers(context: Context, options: BaseOptions) -> list[Teacher]:
    """Return the teachers of ``options``, those that are missing trained side by side; none is near chance."""
    chosen, recipe = options.teachers, options.recipe.teacher
    found = trained(context, chosen.backbones, recipe, chosen.seed, options.output)
    require_above_chance(context, found, chosen.margin)
    return found


def trained(context: Context, names: list[str], recipe: TeacherOptions, seed: int, output: str) -> list[Teacher]:
    """Return the teachers of these backbones, those that are missing trained side by side."""
    trainings = [
        Training(
            f"teacher {name}",
            teacher_folder(context, name, recipe, seed, output) / RESULT,
            partial(teacher_in_folder, name=name, options=recipe, seed=seed, output=output),
        )
        for name in names
    ]
    found = []
    for teacher in side_by_side(context, trainings, threads_of_each(context.trainer, len(names))):
        assert teacher.file is not None
        log.info("Teacher %s: test accuracy %.2f %% (%s)", teacher.name, 100 * teacher.accuracy, teacher.file.parent)
        found.append(teacher)
    return found
