"""Students: one recipe and as many steps for every source of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infer.cli.schema import BackboneConfig
from infer.core.budget import published_images
from infer.core.files import read_json, write_json
from infer.core.labels import Ensemble
from infer.core.mixing import student_batch
from infer.data import Pictures, Splits, Streamed
from infer.data.pictures import shares
from infer.distilled.dataset import DistilledSet
from infer.models.modules import Optimiser, StudentModule
from infer.models.networks import save_weights
from infer.training.context import Bench
from infer.training.fit import forget

WEIGHTS = "student.safetensors"
_SEEN_AS_IT_IS = {"crop": 0, "flip": False, "resized_crop": None}


@dataclass(frozen=True)
class StudentData:
    """What a student trains on: batches of (images uint8, labels float32 [B, C]).

    ``naturals`` images come first, ``composed`` ones after them; ``ensemble`` labels on the fly in place of the labels;
    ``final`` images are shown as they are: views, cropped, flipped and mixed already, or rows without augmentation.
    """

    source: DistilledSet | Pictures | Streamed
    classes: int
    naturals: int
    composed: int
    moments: tuple[Tensor, Tensor]
    space: str
    temperature: float
    ensemble: Ensemble | None = None
    final: bool = False

    @classmethod
    def of_set(cls, distilled: DistilledSet, teachers: Sequence[nn.Module]) -> StudentData:
        """A distilled set; its ``teachers`` label where its labels are dynamic."""
        header = distilled.header
        viewed = distilled.views is not None
        naturals, composed = (len(distilled), 0) if viewed else (len(distilled.naturals), len(distilled.pairs))
        moments = (torch.tensor(header.mean), torch.tensor(header.std))
        space, temperature = header.space, header.temperature
        ensemble = Ensemble(teachers, space, temperature) if header.labels == "dynamic" else None
        return cls(distilled, len(header.classes), naturals, composed, moments, space, temperature, ensemble, viewed)

    @classmethod
    def of_real(cls, data: Splits) -> StudentData:
        """All real train pictures with their classes as labels."""
        return cls(data.train, len(data.classes), len(data.train), 0, data.moments, "probabilities", 1.0)

    @property
    def streams(self) -> bool:
        """Whether a batch has to be read from disk."""
        return isinstance(self.source, Streamed)

    @property
    def device(self) -> torch.device:
        """Where the images lie, and indices have to."""
        return torch.device("cpu") if isinstance(self.source, Streamed) else self.source.device

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return 0 if isinstance(self.source, Streamed) else self.source.nbytes

    def to(self, device: torch.device) -> StudentData:
        """The same with its images and labels on ``device``; streamed ones stay where they are."""
        return self if isinstance(self.source, Streamed) else replace(self, source=self.source.to(device))

    @property
    def class_shares(self) -> Tensor | None:
        """Of the pictures, float32 [C], where their labels are their classes; soft labels know better."""
        source = self.source
        if isinstance(source, DistilledSet):
            return shares(source.targets, self.classes) if source.header.labels == "hard" else None
        return shares(source.targets, self.classes)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.source, DistilledSet):
            return self.source.images(indices), self.source.raw_labels(indices)
        images, targets = self.source[indices]
        return images, nn.functional.one_hot(targets, self.classes).float()


def student_steps(bench: Bench, images: int, teachers: int, dynamic: bool) -> int:
    """The recipe's steps, or its epochs of so many ``images``; dynamic labels take M + 1 times fewer."""
    recipe = bench.config.recipe.student
    steps = recipe.steps or (recipe.epochs or 0) * math.ceil(images / recipe.batch)
    return max(1, steps // (teachers + 1)) if dynamic else steps


def table_steps(bench: Bench, dynamic: bool) -> int:
    """Steps of every student of a table, whatever its method made: epochs are of the published split's images."""
    config = bench.config
    teachers = len(config.teachers.backbones)
    images = published_images(config.ipc, len(bench.data.classes), teachers)
    return student_steps(bench, images, teachers, dynamic)


def train_student(
    bench: Bench, name: str, options: BackboneConfig, source: StudentData, steps: int, seed: int, folder: Path
) -> Mapping[str, Any]:
    """The result of one student, kept in ``folder`` with its weights: its :class:`Scores` by name, seconds, steps."""
    result = read_json(folder / "result.json")
    if result is not None and (folder / WEIGHTS).is_file():
        return result
    module, seconds = teach(bench, name, options, source, steps, seed, folder)
    result = {**bench.scores(module)._asdict(), "seconds": round(seconds, 2), "steps": steps}
    save_weights(module.network, folder / WEIGHTS)
    write_json(folder / "result.json", result)
    forget(folder, "student")
    return result


def teach(
    bench: Bench, name: str, options: BackboneConfig, source: StudentData, steps: int, seed: int, folder: Path
) -> tuple[StudentModule, float]:
    """A trained student and the seconds it took; its checkpoints lie in ``folder``."""
    recipe, mixing = bench.config.recipe.student, bench.config.mixing
    torch.manual_seed(seed)
    network = bench.network(options)
    module = StudentModule(
        name,
        network,
        source.moments,
        optimiser=Optimiser(recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.schedule, steps),
        mixing="none" if source.final else mixing.kind,
        alpha=mixing.alpha,
        space=source.space,
        temperature=source.temperature,
        ensemble=source.ensemble,
        shares=source.class_shares if bench.balanced else None,
        **({**bench.module_options, **_SEEN_AS_IT_IS} if source.final else bench.module_options),
    )

    draw = partial(student_batch, source.naturals, source.composed, recipe.batch, mixing.natural_ratio, seed)
    seconds = bench.fit(module, source, draw, steps, seed, folder, "student", watched=True)
    return module, seconds
