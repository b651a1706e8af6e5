"""Where a training step goes: the share of each part, and of the floor, for students and teachers.

    python benchmarks/step.py --json step.json

A training is what ``distill.py`` runs (``infer.training``), from its first step on, and ends early. ``milliseconds`` is
a step of it, with a wait for the device before the first and after the last step alone. ``floor_milliseconds`` is the
network's forward and backward pass and the optimiser on one batch that stays on the device, in the same precision, with
the same compilation. ``parts`` are shares of a step of another run, in which the device is waited for between any two
parts; on a GPU they therefore add up to ``milliseconds_in_parts``, which is more than ``milliseconds``:

- draw: the indices of the batch; transfer: copies to the device; compose: images and labels of these indices, such as
  mixed views; augment: crops, flips, normalisation and mixing;
- forward: the network and the loss; backward; optimiser: its step, and the gradients set to zero; all of them are
  ``forward`` in a recorded step (``--compile graph``), and the floor is not recorded;
- rest: Lightning, callbacks, metrics, the schedule.

``data_share`` is that of the first four parts. Runs of the three kinds alternate, and each value is the median.
On a CPU with other work on it, ``--processor`` measures the processor time of one thread, not the time that passes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure
import torch
import torch.nn.functional as F
from parts import DATA, PARTS, Parts, steps_of
from torch import Tensor

from infer.core.labels import distillation_loss
from infer.core.mixed_views import MixedViews
from infer.core.mixing import student_batch
from infer.core.options import AugmentOptions, MixingOptions
from infer.data import Pictures, Splits
from infer.distilled import DistilledSet, Header
from infer.models.compiled import Compiled
from infer.models.optimiser import configured
from infer.models.weights import normalised
from infer.training.context import Context
from infer.training.options import StudentOptions, TeacherOptions, TrainerOptions
from infer.training.students import Student, fit_student
from infer.training.teachers import fit_teacher
from infer.training.training_set import TrainingSet

TRAININGS = ("student on mixed views", "student on pictures", "teacher")
PICTURES, NATURALS, TEMPERATURE = 5000, 500, 4.0
LONG = 10_000
"""Steps of a training, of which the first are taken: its callbacks work as often as in a training of that length."""


def pictures(classes: int, side: int) -> Splits:
    """Create random pictures, with the CIFAR-10 augmentation's moments."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (PICTURES, 3, side, side), generator=draw, dtype=torch.uint8)
    train = Pictures(images, torch.arange(PICTURES) % classes)
    return Splits("made up", list(map(str, range(classes))), train, train.part(torch.arange(classes)))


def mixed_views(data: Splits) -> DistilledSet:
    """Create a set of natural images with stored labels of ten times as many mixed views."""
    naturals, targets = data.train[torch.arange(NATURALS)]
    views = MixedViews(10 * NATURALS, NATURALS, 0, 4, flip=True, resized_crop=None, mixing="cutmix")
    moments = [moment.tolist() for moment in data.moments]
    header = Header(data.classes, *moments, "views", "probabilities", TEMPERATURE, 0, views=views.header)
    labels = torch.randint(1, 256, (views.count, len(data.classes)), dtype=torch.uint8)
    return DistilledSet(naturals, targets, torch.empty(0, *naturals.shape[1:], dtype=torch.int8), labels, header)


class Case:
    """A training and its floor.

    Args:
        backbone: of the network.
        training: one of :data:`TRAININGS`.
        options: of the command line.
    """

    def __init__(self, backbone: str, training: str, options: argparse.Namespace) -> None:
        self.options, self.backbone, self.name = options, backbone, training
        accelerator = "gpu" if options.device == "cuda" else "cpu"
        trainer = TrainerOptions(accelerator, precision=options.precision, compile=options.compile)
        data = pictures(options.classes, options.side)
        self.context = Context(data, AugmentOptions(4, flip=True), trainer=trainer)
        views = training == "student on mixed views"
        self.set = TrainingSet.of_set(mixed_views(data), []) if views else TrainingSet.of_real(data)
        self.recipe = TeacherOptions(epochs=LONG, batch=options.batch) if training == "teacher" else None
        self.student = StudentOptions(batch=options.batch, epochs=None, steps=LONG, temperature=TEMPERATURE)

    def clock(self) -> float:
        """Return the seconds so far, once the device has done its work."""
        measure.wait(self.options.device)
        return time.process_time() if self.options.processor else time.perf_counter()

    def train(self) -> None:
        """Train, with all that belongs to it."""
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            if self.recipe:
                network = self.context.network(self.backbone)
                fit_teacher(self.context, self.backbone, network, self.recipe, 0, Path(folder))
            else:
                student = Student(self.backbone, self.backbone, self.student, MixingOptions(), LONG, 0)
                fit_student(self.context, student, self.set, Path(folder))

    def floor(self) -> float:
        """Return the seconds of the network's part of a step."""
        options, device = self.options, torch.device(self.options.device)
        torch.manual_seed(0)
        network = self.context.network(self.backbone).to(device).train()
        images, labels = self.set[student_batch(len(self.set.source), 0, options.batch, None, 0, 0)]
        mean, std = (moment.to(device) for moment in self.set.moments)
        inputs, targets = normalised(images.to(device), mean, std), labels.to(device)
        optimiser = configured(self.recipe or self.student, network, LONG)["optimizer"]
        compiled = options.compile and options.compile != "graph"
        forward: Callable[[Tensor], Tensor] = Compiled(network, options.compile, "") if compiled else network
        loss = F.cross_entropy if self.recipe else partial(distillation_loss, temperature=TEMPERATURE)
        half = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16-mixed")

        def steps(count: int) -> None:
            for _ in range(count):
                optimiser.zero_grad()
                with half:
                    logits = forward(inputs).float()
                    found = loss(logits, targets)
                found.backward()
                optimiser.step()

        steps(options.warm_up)
        begun = self.clock()
        steps(options.steps)
        return (self.clock() - begun) / options.steps

    def measured(self) -> dict[str, Any]:
        """Measure the three kinds of runs in turn."""
        options, plain, bare, shares = self.options, [], [], []
        total: list[float] = []
        for _ in range(options.turns):
            parts = Parts(self.clock)
            plain.append(steps_of(self.train, options.warm_up, options.steps, self.clock, None))
            bare.append(self.floor())
            total.append(steps_of(self.train, options.warm_up, options.steps, self.clock, parts))
            shares.append({name: parts.seconds[name] / parts.seconds.total() for name in PARTS})
        found = {name: statistics.median(share[name] for share in shares) for name in PARTS}
        step, floor = statistics.median(plain), statistics.median(bare)
        return {
            "backbone": self.backbone,
            "training": self.name,
            "milliseconds": 1000 * step,
            "floor_milliseconds": 1000 * floor,
            "share_of_floor": floor / step,
            "milliseconds_in_parts": 1000 * statistics.median(total),
            "data_share": sum(found[name] for name in DATA),
            "parts": found,
        }


def main() -> None:
    """Parse the arguments, measure each case, print it and write all of them."""
    parser = measure.parser(__doc__, ["convnet_narrow", "convnet_instance"])
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--warm-up", type=int, default=5, help="steps before those that are measured")
    parser.add_argument("--steps", type=int, default=40, help="steps of a run")
    parser.add_argument("--precision", default="32-true", help="32-true or bf16-mixed")
    parser.add_argument("--compile", help="trainer.compile: a mode of torch.compile, or graph")
    parser.add_argument("--processor", action="store_true", help="processor time, of one thread")
    options = parser.parse_args()
    if options.processor:
        torch.set_num_threads(1)
    told = ("batch", "side", "steps", "precision", "compile", "processor")
    settings = {name: getattr(options, name) for name in told}
    cases = []
    for name in options.backbones:
        for training in options.trainings:
            cases.append(measure.printed(Case(name, training, options).measured()))
    hardware = {**measure.machine(options.device), **settings}
    if options.json:
        options.json.write_text(json.dumps({"hardware": hardware, "cases": cases}, indent=2) + "\n")


if __name__ == "__main__":
    main()
