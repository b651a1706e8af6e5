"""The stages whose growth growth.py measures, on pictures that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import measure
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from infer.core import ufc
from infer.core.augment import DRAWS, augment
from infer.core.mixing import student_batch
from infer.core.options import LabelOptions, MixingOptions, UFCOptions
from infer.core.ufc import Problem
from infer.data import Pictures, Splits
from infer.data.batches import Indices, in_order, loader
from infer.data.duplicates import duplicate_groups
from infer.data.stratified import stratified
from infer.data.summary import summarise
from infer.distilled import DistilledSet, Header
from infer.methods.options import METHODS, method_options
from infer.methods.proxy import ProxyModel
from infer.methods.selection import SelectionInputs
from infer.models.compensator import CompensatorModule, MicroBatch
from infer.models.weights import PixelClassifier
from infer.pipeline.labelling import Labeller
from infer.report.class_map import class_map
from infer.report.feature_space import FeatureSpace
from infer.report.inputs import AnalysisInputs, Compression
from infer.training.context import Context
from infer.training.fit import fit
from infer.training.options import StudentOptions, TrainerOptions
from infer.training.students import Student, fit_student
from infer.training.teachers import Teacher
from infer.training.training_set import TrainingSet

CLASSES, SIDE, IPC, BATCH, TEMPERATURE = 10, 16, 10, 64, 4.0
CPU = torch.device("cpu")

Work = Callable[[], Any]


def splits(size: int, classes: int = CLASSES) -> Splits:
    """Create ``size`` train pictures, of which every twentieth is nearly the next one, and an eighth as many others."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size + size // 8, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    copied = torch.arange(0, size - 1, 20)
    images[copied] = images[copied + 1].clamp(2, 253) + torch.randint(3, (1,), generator=draw).to(torch.uint8)
    targets = torch.arange(len(images)) % classes
    train, test = Pictures(images[:size], targets[:size]), Pictures(images[size:], targets[size:])
    return Splits("made up", list(map(str, range(classes))), train, test)


def alike(size: int) -> Tensor:
    """Create pictures that are alike in forty groups, as the frames of forty films, uint8 [N, 3, SIDE, SIDE]."""
    draw = torch.Generator().manual_seed(0)
    scenes = torch.randint(10, 240, (40, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    grain = torch.randint(4, (size, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    return scenes[torch.arange(size) % len(scenes)] + grain


def network(classes: int = CLASSES) -> nn.Module:
    """Return the network that is teacher and proxy model."""
    return measure.network("resnet_narrow", classes, SIDE)


def distilled(data: Splits, labeller: Labeller) -> DistilledSet:
    """Create a set of a twentieth of the pictures, and mixed views as ``labeller`` describes them."""
    naturals, targets = data.train[torch.arange(len(data.train) // 20)]
    mean, std = (moment.tolist() for moment in data.moments)
    views = labeller.mixed_views(len(naturals)).header
    header = Header(data.classes, mean, std, "views", "probabilities", TEMPERATURE, 0, views=views)
    return DistilledSet(naturals, targets, torch.empty(0, 3, SIDE, SIDE, dtype=torch.int8), None, header)


def labelling(data: Splits, teacher: nn.Module, candidates: int) -> Labeller:
    """Return what labels as many mixed views as there are pictures."""
    views = len(data.train)
    context = Context(data, trainer=TrainerOptions("cpu"))
    options = LabelOptions("views", candidates=candidates)
    return Labeller(context, [Teacher("teacher", teacher, 0.0, 0.0, 0.0, None)], options, views, views, 0)


def proxy(data: Splits, teacher: nn.Module) -> ProxyModel:
    """Return a proxy model that is as good as the teacher."""
    return ProxyModel(PixelClassifier(teacher, *data.moments), [teacher], data.moments, TEMPERATURE, CPU)


def split(size: int, classes: int = CLASSES) -> Work:
    """Divide the pictures with their groups."""
    data = splits(size, classes)
    groups = torch.arange(size)
    groups[::20] += 1  # as the near-copies
    return lambda: stratified(data.train.targets, 0.2, 0, groups)


def duplicates(size: int) -> Work:
    """Group near-duplicates."""
    data = splits(size)
    return lambda: duplicate_groups(data.train.images)


def many_alike(size: int) -> Work:
    """Group near-duplicates where every picture has many."""
    images = alike(size)
    return lambda: duplicate_groups(images)


def summary(size: int, classes: int = CLASSES) -> Work:
    """Summarise the data set."""
    data = splits(size, classes)
    return lambda: summarise(data, None)


def selection(method: str) -> Callable[..., Work]:
    """Select or create the natural images of a method, ten of each class."""
    fewer = {"sre2l": {"steps": 5}}  # which do not depend on the pictures
    options = method_options(method, fewer.get(method, {}))

    def prepare(size: int, classes: int = CLASSES) -> Work:
        data, teacher = splits(size, classes), network(classes)
        inputs = SelectionInputs(
            data, data.picks(0), IPC * classes, torch.ones(classes), [teacher], 0, CPU, proxy(data, teacher)
        )
        return lambda: METHODS[method].select(inputs, options)

    return prepare


def labels(size: int, classes: int = CLASSES) -> Work:
    """Choose as many mixed views as there are pictures among two candidates each, and label them."""
    data, teacher = splits(size, classes), network(classes)
    labeller = labelling(data, teacher, 2)
    bare = distilled(data, labeller)
    return lambda: labeller.label(bare, proxy(data, teacher))


def reading(size: int) -> Work:
    """Read as many mixed views as there are pictures from a DataLoader."""
    data = splits(size)
    bare = distilled(data, labelling(data, nn.Identity(), 1))
    views = replace(bare, labels=torch.full((size, CLASSES), 255, dtype=torch.uint8))
    return lambda: [len(images) for images, _ in DataLoader(replace(views), BATCH)]


def batches(size: int) -> Work:
    """Draw, augment and normalise the batches of one pass over the pictures."""
    data = splits(size)
    mean, std = data.moments

    def one_pass() -> None:
        for step in range(size // BATCH):
            images, _ = data.train[student_batch(size, 0, BATCH, None, 0, step)]
            images = augment(images, torch.rand(BATCH, DRAWS), 2, True)
            ufc.normalise(images, mean, std).contiguous(memory_format=torch.channels_last)

    return one_pass


def report(size: int, classes: int = CLASSES) -> Work:
    """Compute the features of the report and its class map."""
    data, teacher = splits(size, classes), network(classes)
    made = distilled(data, labelling(data, teacher, 1))

    def analyse() -> None:
        inputs = AnalysisInputs(data, made, made, {}, teacher, CPU, False, Compression(None, 0))
        class_map(inputs, FeatureSpace(inputs))

    return analyse


def compensators(rounds: int, classes: int = CLASSES, steps: int = 2) -> Work:
    """Optimise the compensators of a teacher, ten rounds a pass."""
    data, teacher = splits(rounds * classes, classes), network(classes)
    naturals = data.train.images.view(rounds, classes, *data.train.shape)
    targets, moments = torch.arange(classes).expand(rounds, -1), data.moments
    batches = loader(Indices(), partial(in_order, steps, 1), steps)

    def optimise() -> None:
        problem = Problem(teacher, naturals, targets, UFCOptions(steps), *moments)
        module = CompensatorModule("t", problem, MicroBatch(min(rounds, 10), classes))
        with TemporaryDirectory() as folder:
            fit(module, batches, 0, Path(folder), "u", TrainerOptions("cpu"))

    return optimise


def composing(rounds: int) -> Work:
    """Compose all images of a set of two compensators a round, with their labels, in batches."""
    data = splits(rounds * CLASSES)
    compensators = torch.zeros(2 * rounds, *data.train.shape, dtype=torch.int8)
    moments = [moment.tolist() for moment in data.moments]
    header = Header(data.classes, *moments, "static", "logits", TEMPERATURE, 2)
    labels = torch.zeros(3 * rounds * CLASSES, CLASSES, dtype=torch.float16)
    made = DistilledSet(data.train.images, data.train.targets, compensators, labels, header)
    return lambda: [len(images) for images, _ in DataLoader(replace(made), BATCH)]


def student(steps: int) -> Work:
    """Train a student on mixed views, with its metrics and checkpoints."""
    data, teacher = splits(500), network()
    bare = distilled(data, labelling(data, teacher, 1))
    views = replace(bare, labels=torch.full((len(data.train), CLASSES), 255, dtype=torch.uint8))
    options = StudentOptions(batch=8, epochs=None, steps=steps)
    student = Student("s", "convnet_narrow", options, MixingOptions("none"), steps, 0)
    context = Context(data, trainer=TrainerOptions("cpu"))

    def train() -> None:
        with TemporaryDirectory() as folder:
            fit_student(context, student, TrainingSet.of_set(views, []), Path(folder))

    return train


class Axis(NamedTuple):
    """What grows.

    Attributes:
        sizes: that are measured.
        few: size of the warm-up.
    """

    sizes: tuple[int, ...]
    few: int


AXES = {
    "pictures": Axis((10_000, 20_000, 40_000, 80_000), 500),
    "classes": Axis((50, 100, 200, 400), 10),
    "rounds": Axis((50, 100, 200, 400), 5),
    "steps": Axis((250, 500, 1000, 2000), 25),
}


class Stage(NamedTuple):
    """A stage of the data side or of a training.

    Attributes:
        grows: one of :data:`AXES`.
        prepare: returns the work at a size.
    """

    grows: str
    prepare: Callable[[int], Work]


def of_classes(prepare: Callable[..., Work], pictures: int) -> Stage:
    """Return the stage of a number of pictures, of more and more classes."""
    return Stage("classes", lambda classes: prepare(pictures, classes))


SELECTIONS = {f"selection, {method}": selection(method) for method in METHODS if method != "infer"}
"""INFER selects as ``random`` does."""
OF_PICTURES: dict[str, Callable[..., Work]] = {
    "split": split,
    "duplicates": duplicates,
    "duplicates, all alike": many_alike,
    "summary": summary,
    **SELECTIONS,
    "labels of mixed views": labels,
    "reading mixed views": reading,
    "batches of one pass": batches,
    "report features": report,
}
OF_CLASSES: dict[str, Callable[..., Work]] = {
    "split": split,
    "summary": summary,
    **SELECTIONS,
    "labels of mixed views": labels,
    "report features": report,
}
STAGES = {
    **{name: Stage("pictures", prepare) for name, prepare in OF_PICTURES.items()},
    **{f"{name}, by classes": of_classes(prepare, 10_000) for name, prepare in OF_CLASSES.items()},
    "compensators, by classes": Stage("classes", partial(compensators, 2)),
    "compensators, by rounds": Stage("rounds", compensators),
    "composing, by rounds": Stage("rounds", composing),
    "compensators, by steps": Stage("steps", partial(compensators, 2, CLASSES)),
    "student, by steps": Stage("steps", student),
}
