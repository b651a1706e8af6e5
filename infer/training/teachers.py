"""Teachers: made when missing, resumed when unfinished, and reused when there."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infer.cli.schema import BackboneConfig, backbone
from infer.core.errors import UserError
from infer.core.files import claim, read_json, write_json
from infer.core.mixing import student_batch
from infer.models.modules import Optimiser, TeacherModule
from infer.models.networks import frozen, load_weights, require_batch_norm, save_weights
from infer.training.context import Bench
from infer.training.fit import forget

log = logging.getLogger("infer")


@dataclass(frozen=True)
class Teacher:
    """A trained, frozen network, its test accuracy and the mean of that over classes, its seconds, and its file."""

    name: str
    network: nn.Module
    accuracy: float
    balanced_accuracy: float
    seconds: float
    file: Path


def train_teacher(bench: Bench, name: str, options: BackboneConfig, seed: int) -> Teacher:
    """The teacher of that backbone and seed, in outputs/train/<dataset>/<name>/seed<k>."""
    torch.manual_seed(seed)
    network = bench.network(options)
    folder = teacher_folder(bench, name, options, seed)
    file = folder / "teacher.safetensors"
    with bench.alone(folder / ".lock", f"teacher {name}"):
        result = read_json(folder / "result.json")
        if result is None:
            result = _teach(bench, name, network, seed, folder)
            save_weights(network, file)
            write_json(folder / "result.json", result)
            forget(folder, "teacher")
        else:
            load_weights(network, file)
    log.info("teacher %s: test accuracy %.2f %% (%s)", name, 100 * result["accuracy"], folder)
    balanced = result.get("balanced_accuracy", result["accuracy"])
    return Teacher(name, frozen(network.cpu()), result["accuracy"], balanced, result["seconds"], file)


def teacher_folder(bench: Bench, name: str, options: BackboneConfig, seed: int) -> Path:
    """The folder of the teacher of that backbone and seed, claimed."""
    settings = bench.identity(backbone=asdict(options), recipe=asdict(bench.config.recipe.teacher), seed=seed)
    return claim(Path(bench.config.output, "train", bench.data.name, name, f"seed{seed}"), settings)


def _teach(bench: Bench, name: str, network: nn.Module, seed: int, folder: Path) -> dict[str, Any]:
    """Train ``network`` on the real set; what result.json says of it."""
    recipe, train = bench.config.recipe.teacher, bench.data.train
    batch = min(recipe.batch, len(train))
    length = len(train) // batch
    epochs = max(recipe.epochs, math.ceil(recipe.min_steps / length)) if recipe.epochs else 0
    steps = epochs * length
    log.info("teacher %s: training, %d epochs of %d steps", name, epochs, length)
    module = TeacherModule(
        name,
        network,
        bench.data.moments,
        optimiser=Optimiser(recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.schedule, steps),
        shares=bench.data.class_shares if bench.balanced else None,
        **bench.module_options,
    )
    draw = partial(student_batch, len(train), 0, batch, None, seed)
    seconds = bench.fit(module, train, draw, steps, seed, folder, "teacher") if steps else 0.0
    result = {"dataset": bench.data.name, "backbone": name, "seed": seed, **bench.scores(module)._asdict()}
    return {**result, "seconds": round(seconds, 2)}


def check_backbones(bench: Bench, students: Sequence[str]) -> None:
    """Refuse names, options and teachers without BatchNorm before anything is made."""
    for name in bench.config.teachers.backbones:
        require_batch_norm(name, check_network(bench, name, backbone(name)))
    for name in students:
        check_network(bench, name, backbone(name))


def check_network(bench: Bench, name: str, options: BackboneConfig) -> nn.Module:
    """The network, once it has been shown to take a batch of this data; refuses it in one line else."""
    network = frozen(bench.network(options))
    data = bench.data
    try:
        network(torch.zeros(2, data.channels, data.side, data.side))
    except Exception as error:  # a foreign forward pass raises what it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"backbone={name}: does not take images of {data.channels} x {data.side} x {data.side} ({reason}); "
            "choose another backbone or dataset.image_size"
        ) from error
    return network


def train_teachers(bench: Bench) -> list[Teacher]:
    """All teachers of the configuration; refuses those near chance."""
    config = bench.config.teachers
    teachers = [train_teacher(bench, name, backbone(name), config.seed) for name in config.backbones]
    chance = 1 / len(bench.data.classes) if bench.balanced else bench.data.chance
    least = chance + config.margin * (1 - chance)
    for teacher in teachers:
        reached = teacher.balanced_accuracy if bench.balanced else teacher.accuracy
        if reached < least:
            raise UserError(
                f"teachers.backbones={teacher.name}: its test accuracy {reached:.1%} is near chance "
                f"({chance:.1%}; teachers.margin asks for {least:.1%}); train it longer "
                "(recipe.teacher.epochs), change recipe.teacher.lr, or leave it out"
            )
    return teachers
