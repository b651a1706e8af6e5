"""The seconds that the parts of a run are expected to take, from the speeds that networks have on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch

from infer.core.forecast import Piece
from infer.core.sources import REPORTED
from infer.data import Pictures, Splits
from infer.models.pretrained import seen_side
from infer.pipeline.curve import own_budget
from infer.pipeline.naturals import NaturalsSource
from infer.pipeline.options import DistillOptions
from infer.pipeline.pieces import LABELS, point_pieces, set_stages, student_pieces, teacher_pieces, try_pieces
from infer.pipeline.plan import Costs, Point, side_by_side
from infer.pipeline.suspects import CHECKED, side_of
from infer.report.inputs import MOST
from infer.training.context import Context
from infer.training.jobs import threads_of_each
from infer.training.speed import FORWARD, Speed, at_size, speed_of

_THREADS = 0.7
"""n threads are taken to be n to the power of this times as fast as one, and n trainings side by side n times."""

_HEAD = 1.5e-3
"""Seconds of a last layer's logistic regression for each of its images."""

_ENCODINGS = 2.5
"""Times that the pictures of a set are compressed until as many as fit are found; large sheets take less than few."""

PAGE, _MAP, _PASSES = 4.0, 8.0, 10
"""A report: the seconds of its page and of its class map, and its passes of a network over its pictures."""

_FOLDS = 2
"""The folds of labels that look wrong take as long as so many last layers."""

_SAMPLE = 64
"""Pictures of a measurement."""


@dataclass(frozen=True)
class Speeds:
    """What was measured on pictures of one size.

    Args:
        side: the size in pixels.
        threads: of each measurement.
        networks: speed of each network, by name.
        encoding: seconds of compressing a picture.
        stored: pictures that the file is expected to hold.
    """

    side: int
    threads: int
    networks: Mapping[str, Speed]
    encoding: float
    stored: int

    def slowest(self, names: Iterable[str]) -> float:
        """Return the images per second of the slowest of some networks."""
        return min(self.networks[name].images for name in names)


def measured(options: DistillOptions, context: Context, side: int, names: Iterable[str]) -> Speeds:
    """Measure networks, by their ``names``, and the codec for pictures of ``side`` pixels: seconds of each."""
    few = at_size(context, side, max(_SAMPLE, options.recipe.student.batch))
    threads, settings = threads_of_each(options.trainer, torch.get_num_threads()), options.set_options(options.method)
    networks = {name: speed_of(few, name, options.recipe.student, threads) for name in names}
    began, classes = time.perf_counter(), len(context.data.classes)
    size = NaturalsSource(few, few.data.picks(0), [], 0, settings.budget).bytes_an_image()
    encoding = (time.perf_counter() - began) / len(few.data.train) if settings.budget.codec else 0.0
    most = options.ipc * classes
    if settings.budget.by == "bytes":
        most = int(settings.file_bytes(classes, math.prod(few.data.train.shape)) / size)
    return Speeds(side, threads, networks, encoding, min(most, len(context.data.train)))


@dataclass(frozen=True)
class Expectation:
    """The seconds that runs on pictures of one size are expected to take.

    Args:
        context: of a run, whose pictures may have another size.
        speeds: for pictures of the size.
    """

    context: Context
    speeds: Speeds

    def of(self, options: DistillOptions, spent: float, curve: Sequence[float] = ()) -> Costs:
        """Return the seconds of a run of ``options``.

        Args:
            options: of the run.
            spent: seconds before it.
            curve: points of the learning curve, as multiples of the budget.
        """
        one = replace(options, students=replace(options.students, seeds=1))
        data, names, settings = self._data, options.teachers.backbones, options.set_options(options.method)
        labels, students = self._parted(student_pieces(one, data, []), self.speeds.stored)
        baselines = len({*options.students.sources} - {"distilled", "real"})
        own = self._alone(chain(*set_stages(settings, names, data))) + self._selected(options)
        teachers = [self._seconds(piece, len(names) == 1) for piece in teacher_pieces(options, data)]
        stages = {
            "start": spent,
            "teachers": side_by_side(teachers, min(self.jobs, max(1, len(teachers)))),
            "set": own + sum(labels) + self._encoded(1 + settings.uses_proxy + baselines),
            "report": self._reported(options) if options.report.language else 0.0,
            "suspects": _of_suspects(self.context, self.speeds, options.teachers.backbones)
            if options.report.suspects
            else 0.0,
        }
        choice = self._alone(try_pieces(one, data)) + self._selected(options) + self._encoded(1 + settings.uses_proxy)
        return Costs(stages, students, choice, [*self._points(one, curve)], self.jobs, self._analysed(options))

    def _points(self, options: DistillOptions, curve: Sequence[float]) -> Iterable[Point]:
        """Yield the seconds of each point of the curve; those of the run's own budget belong to the first."""
        own = own_budget(options, self._data)
        for number, multiple in enumerate(curve):
            stored = min(round(multiple * self.speeds.stored), len(self.context.data.train))
            labels, students = self._parted(point_pieces(options, self._data, round(multiple * own)), stored)
            sets = sum(labels) + self._selected(options) + 3 * multiple * self._encoded(1)
            if not number:
                students += self._parted(point_pieces(options, self._data, own), self.speeds.stored)[1]
            yield Point(sets, sum(students))

    @property
    def jobs(self) -> int:
        """Trainings that are done at once."""
        trainer = self.context.trainer
        if trainer.jobs != "auto":
            return int(trainer.jobs)
        alone = trainer.device.type != "cpu" or trainer.several or self.context.data.train.streams
        return 1 if alone else max(1, torch.get_num_threads() // self.speeds.threads)

    @property
    def _data(self) -> Splits:
        """The data with blank pictures of the size: their number and shape."""
        data, shape = self.context.data, (self.context.data.channels, self.speeds.side, self.speeds.side)
        blank = torch.zeros(1, *shape, dtype=torch.uint8)
        train, test = (Pictures(blank.expand(len(own), *shape), own.targets) for own in (data.train, data.test))
        return replace(data, train=train, test=test, validation=None, given_moments=data.moments)

    def _parted(self, pieces: Iterable[Piece], stored: int) -> tuple[list[float], list[float]]:
        """Return the seconds of the pieces before trainings of students, and of these, done side by side.

        Students of all pictures aside, they learn from ``stored`` ones.
        """
        found: tuple[list[float], list[float]] = ([], [])
        for piece in pieces:
            training = piece.title.startswith("student ")
            whole = not training or piece.title.startswith(f"student {piece.network}-real-")
            found[training].append(self._seconds(piece, alone=not training, distinct=None if whole else stored))
        return found

    def _alone(self, pieces: Iterable[Piece]) -> float:
        return sum(self._seconds(piece, alone=True) for piece in pieces)

    def _seconds(self, piece: Piece, alone: bool, distinct: int | None = None) -> float:
        """Return the seconds of a piece of work, one of several at once unless it is ``alone``.

        Of its images at most ``distinct`` are different ones; None: as many as there are train pictures.
        """
        faster = (torch.get_num_threads() / self.speeds.threads) ** _THREADS if alone else 1.0
        if piece.network == LABELS:
            return piece.images / self.speeds.slowest(self.speeds.networks) / faster
        chosen, speed = self.context.backbone(piece.network), self.speeds.networks[piece.network]
        images, head = FORWARD * len(self.context.data.test), 0.0
        if chosen.is_pretrained:
            once = min(piece.images, distinct or len(self.context.data.train))  # which the last layer gets
            images, head = images + FORWARD * once, _HEAD * once
        if not chosen.frozen:
            images += piece.images
        return speed.setup + head + images / speed.images / faster

    def _reported(self, options: DistillOptions) -> float:
        """Return the seconds of the report: its page and its analysis."""
        speed = self.speeds.slowest([*options.teachers.backbones, options.students.backbones[0]])
        return PAGE + _MAP + FORWARD * _PASSES * _looked_at(self.context.data) / speed

    def _analysed(self, options: DistillOptions) -> float:
        """Return the seconds of the report for the students of one seed."""
        passes = FORWARD * len(REPORTED) if options.report.language else 0.0
        pictures = min(len(self.context.data.test), MOST)
        return passes * pictures / self.speeds.slowest(options.students.backbones[:1])

    def _selected(self, options: DistillOptions) -> float:
        """Return the seconds of the choice among all train pictures by the proxy model and the teachers."""
        passes = 1 + len(options.teachers.backbones) if options.set_options(options.method).uses_proxy else 0
        return FORWARD * passes * len(self.context.data.train) / self.speeds.slowest(self.speeds.networks)

    def _encoded(self, sets: int) -> float:
        return sets * _ENCODINGS * self.speeds.stored * self.speeds.encoding


def choices_of_networks(
    teachers: Sequence[str], students: Sequence[str], is_frozen: Callable[[str], bool]
) -> list[tuple[list[str], list[str]]]:
    """Return choices of (teachers, students), the largest first: all, one student, ever fewer teachers.

    The last has a frozen network alone, where the first student is one: it is trained in seconds.

    >>> choices_of_networks(["a", "b"], ["c", "d"], lambda name: name == "c")
    [(['a', 'b'], ['c', 'd']), (['a', 'b'], ['c']), (['a'], ['c']), (['c'], ['c'])]
    """
    first = [*students[:1]]
    found = [([*teachers], [*students]), *(([*teachers[:count]], first) for count in range(len(teachers), 0, -1))]
    found += [(first, first)] if is_frozen(students[0]) else []
    return [each for at, each in enumerate(found) if each not in found[:at]]


def _looked_at(data: Splits) -> int:
    """Return how many train and test pictures a report's analysis looks at."""
    return sum(min(len(part), MOST) for part in (data.train, data.test))


def _of_suspects(context: Context, speeds: Speeds, teachers: Sequence[str]) -> float:
    """Return the seconds of the search for labels that look wrong: features of the checked pictures, and folds."""
    pictures, side = len(context.data.train), speeds.side
    if any(context.backbone(name).is_pretrained for name in teachers):
        side = seen_side(side)
    checked = min(pictures, CHECKED)
    return FORWARD * checked * (side_of(pictures) / side) ** 2 / speeds.slowest(teachers) + _FOLDS * _HEAD * checked
