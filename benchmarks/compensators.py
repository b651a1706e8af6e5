"""Gain of compensators on many classes: INFER as published against random pictures, over steps and classes per teacher.

    python benchmarks/compensators.py --root data/cifar100 --to docs/results/compensators --steps 2000 10000

Every student has the same recipe, and every pair of students the same seed, pictures and teachers. The controls are
random pictures, each with one soft label, or with M + 1 of them: its own and those of M random crops. The latter
decides, because INFER too has M + 1 labelled images for each natural one. Both controls come in as many bytes as the
file of INFER and in as many stored images. All labels are logits of 16 bits.

students.jsonl has a line for each student, and one that is there is not trained again: a stopped run goes on, and
more seeds come to a finished one. table.csv has the paired differences.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import infer
from infer.core.augment import DRAWS, augment
from infer.core.labels import stored_labels
from infer.core.options import UFCOptions
from infer.data import Splits, read_folder
from infer.distilled import DistilledSet
from infer.methods.selection import round_robin
from infer.models.options import BackboneOptions
from infer.models.weights import PixelClassifier
from infer.pipeline.set_options import SetOptions
from infer.report.sweep import paired
from infer.training.context import Context
from infer.training.options import StudentOptions, TeacherOptions, TrainerOptions
from infer.training.teachers import teacher_in_folder

IPC, TEMPERATURE, PADDING = 10, 4.0, 4
TEACHERS = {
    "convnet_narrow": "convnet_narrow",
    "convnet_deep": "convnet_deep",
    "resnet_narrow": "resnet_narrow",
    "convnet_middle": BackboneOptions("convnet_middle", "convnet", "auto", {"depth": 3, "width": 64, "norm": "batch"}),
}
RECIPE = StudentOptions(lr=1e-2, schedule="one_cycle", temperature=TEMPERATURE)
KEYS = ("student", "teachers", "steps", "seed", "set")
"""What a line of students.jsonl is found by."""
CONTROLS = ("one label, same bytes", "one label, same images", "crops, same bytes", "crops, same images")


@dataclass(frozen=True)
class Study:
    """The sets of one number of teachers.

    Args:
        data: the pictures.
        teachers: modules of pixel levels.
        ufc: how compensators are optimised.
        trainer: devices and precision.
    """

    data: Splits
    teachers: Sequence[nn.Module]
    ufc: UFCOptions
    trainer: TrainerOptions

    def sets(self, seed: int) -> dict[str, DistilledSet]:
        """Return INFER's set and its controls by name."""
        options = SetOptions(ipc=IPC, seed=seed, ufc=self.ufc, student=RECIPE)
        ours = infer.distill(self.data, self.teachers, options=options, trainer=self.trainer)
        stored, image, labels = (
            len(ours.naturals) + len(ours.compensators),
            ours.naturals[0].numel() + 1,
            len(ours.classes),
        )
        found = {"infer": ours}
        for name in CONTROLS:
            crops = len(self.teachers) + 1 if name.startswith("crops") else 1
            count = ours.payload // (image + 2 * labels * crops) if name.endswith("bytes") else stored
            found[name] = self._random(ours, count, crops, seed)
        return found

    def _random(self, ours: DistilledSet, count: int, crops: int, seed: int) -> DistilledSet:
        """Return ``count`` random pictures, each with ``crops`` labels: its own, and those of random crops."""
        order = self.data.picks(seed)
        pictures, targets = self.data.train[round_robin(order, torch.ones(len(order)))[:count]]
        draws = torch.rand(crops - 1, count, DRAWS, generator=torch.Generator().manual_seed(seed))
        images = torch.cat([pictures, *(augment(pictures, each, PADDING, flip=True) for each in draws)])
        labels = stored_labels(self._logits(images), "logits")
        none = torch.empty(0, *images.shape[1:], dtype=torch.int8)
        header = replace(ours.header, compensators_per_round=0)
        return DistilledSet(images, targets.repeat(crops), none, labels, header)

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        return torch.cat(
            [torch.stack([teacher(part) for teacher in self.teachers]).mean(0) for part in images.split(500)]
        )


def trained_teachers(
    data: Splits, names: Sequence[str], epochs: int, output: Path, trainer: TrainerOptions
) -> list[nn.Module]:
    """Return the teachers of these names, trained where they are missing."""
    backbones = {name: chosen for name, chosen in TEACHERS.items() if isinstance(chosen, BackboneOptions)}
    context = Context(data, trainer=trainer, backbones=backbones)
    recipe = TeacherOptions(epochs=epochs, batch=64, optimizer="nesterov", schedule="one_cycle")
    found = [teacher_in_folder(context, name, recipe, 0, str(output)) for name in names]
    print(*(f"teacher {teacher.name}: {teacher.accuracy:.1%}" for teacher in found), sep="\n", flush=True)
    return [PixelClassifier(teacher.network, *data.moments).eval() for teacher in found]


def write_table(folder: Path, dataset: str, classes: int) -> None:
    """Write table.csv: INFER less each control, paired by the seed, with half of the 95 % interval."""
    lines = [json.loads(line) for line in (folder / "students.jsonl").read_text().splitlines()]
    points = sorted({(line["student"], line["teachers"], line["steps"]) for line in lines})
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = ("dataset", "student", "classes_per_teacher", "steps", "method", "control")
        writer.writerow([*columns, "infer", "random", "gain", "half_interval", "pairs"])
        for student, teachers, steps in points:
            by_set: dict[str, dict[int, float]] = {}
            for line in lines:
                if (line["student"], line["teachers"], line["steps"]) == (student, teachers, steps):
                    by_set.setdefault(line["set"], {})[line["seed"]] = line["accuracy"]
            for control in CONTROLS:
                seeds = sorted(set(by_set.get("infer", {})) & set(by_set.get(control, {})))
                if not seeds:
                    continue
                ours, theirs = ([by_set[name][seed] for seed in seeds] for name in ("infer", control))
                difference = paired(ours, theirs)
                means = (sum(ours) / len(seeds), sum(theirs) / len(seeds))
                numbers = [f"{number:.6f}" for number in (*means, difference.mean, difference.half)]
                point = (dataset, student, f"{classes / teachers:.1f}", steps, "infer", control)
                writer.writerow([*point, *numbers, len(seeds)])


def parsed() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("--to", type=Path, required=True, help="folder of students.jsonl and table.csv")
    parser.add_argument("--name", default="cifar100", help="of the data set")
    parser.add_argument("--side", type=int, default=32, help="height and width of the pictures in pixels")
    parser.add_argument("--teachers", type=int, nargs="+", default=[1, 3, 4], help="numbers of teachers, 1 to 4")
    parser.add_argument("--epochs", type=int, default=10, help="of the teachers")
    parser.add_argument("--ufc-steps", type=int, default=500, help="of the compensators")
    parser.add_argument("--student", default="convnet_narrow", help="backbone of the students")
    parser.add_argument("--steps", type=int, nargs="+", default=[2000, 10000], help="of the students")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the sets and of their students")
    parser.add_argument("--controls", nargs="+", default=CONTROLS, choices=CONTROLS, help="that INFER is compared with")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the teachers")
    parser.add_argument("--precision", default="32-true", help="of students: 32-true or bf16-mixed")
    parser.add_argument("--compile", default=None, help="mode of torch.compile for students")
    return parser.parse_args()


def main() -> None:
    """Train what is missing and write the table."""
    options = parsed()
    data = read_folder(options.root, options.side, test_fraction=None, stream=False, name=options.name)
    plain = TrainerOptions(accelerator="cpu")
    students = replace(plain, precision=options.precision, compile=options.compile)
    options.to.mkdir(parents=True, exist_ok=True)
    log = options.to / "students.jsonl"
    known = (
        {tuple(line[key] for key in KEYS) for line in map(json.loads, log.read_text().splitlines())}
        if log.exists()
        else set()
    )
    for seed in options.seeds:
        for count in options.teachers:
            wanted = [
                (options.student, count, steps, seed, name)
                for steps in options.steps
                for name in ("infer", *options.controls)
                if (options.student, count, steps, seed, name) not in known
            ]
            if not wanted:
                continue
            teachers = trained_teachers(data, [*TEACHERS][:count], options.epochs, options.output, plain)
            sets = Study(data, teachers, UFCOptions(steps=options.ufc_steps), plain).sets(seed)
            for key in wanted:
                line = dict(zip(KEYS, key, strict=True)) | measured(sets[key[-1]], key[0], key[2], seed, students, data)
                with log.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)
            write_table(options.to, data.name, len(data.classes))


def measured(
    small: DistilledSet, student: str, steps: int, seed: int, trainer: TrainerOptions, data: Splits
) -> Mapping[str, Any]:
    """Train a student on the set and return its test accuracy, and what it took."""
    began = time.perf_counter()
    network = infer.train_student(small, student, steps=steps, seed=seed, options=RECIPE, trainer=trainer)
    seconds = round(time.perf_counter() - began, 1)
    return {"accuracy": infer.evaluate(network, data.test).accuracy, "images": len(small), "seconds": seconds}


if __name__ == "__main__":
    main()
