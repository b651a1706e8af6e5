"""Student training on a distilled set: this package against images decoded from JPEG files, in alternation.

    python benchmarks/student.py --json student.json

The reference does what the published code does: every image, composed ones included, is a JPEG file; the workers of a
DataLoader decode, crop, flip and normalise each image; the training loop mixes the batch. A short trial chooses the
number of workers. Ours is what ``distill.py`` runs (``infer.training.fit.fit``): uint8 images stay on the device, where
whole batches are composed, augmented and mixed. Network, labels, batches, optimiser and steps are the same. The losses
are means over the last quarter of the steps. ``data_share`` is the share of our step that prepares the batch.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import measure
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from infer.core import ufc
from infer.core.augment import DRAWS, augment
from infer.core.labels import distillation_loss, distribution
from infer.core.mixing import mix, mix_labels, student_batch
from infer.core.options import AugmentOptions, MixingOptions
from infer.data.batches import Indices, loader
from infer.distilled import DistilledSet, Header
from infer.models.classifier import Task
from infer.models.options import OptimiserOptions
from infer.models.student import StudentModule
from infer.training.fit import fit
from infer.training.options import TrainerOptions
from infer.training.training_set import TrainingSet

BATCH, CROP, ALPHA, TEMPERATURE = 64, 4, 0.8, 4.0
MEAN, STD = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.25, 0.24, 0.26])


def distilled_set(classes: int, side: int, rounds: int, teachers: int) -> DistilledSet:
    """Create a set of the paper's split, of smooth random images."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(rounds * classes, 3, 4, 4, generator=generator)
    naturals = (255 * nn.functional.interpolate(coarse, (side, side), mode="bilinear")).to(torch.uint8)
    targets = torch.arange(classes).repeat(rounds)
    shape = (rounds * teachers, 3, side, side)
    compensators = torch.randint(-20, 21, shape, generator=generator, dtype=torch.int8)
    names = list(map(str, range(classes)))
    header = Header(names, MEAN.tolist(), STD.tolist(), "static", "logits", TEMPERATURE, teachers)
    images = rounds * classes * (1 + teachers)
    labels = 4 * torch.randn(images, classes, generator=generator)
    labels[torch.arange(images), torch.arange(images) % classes] += 8
    return DistilledSet(naturals, targets, compensators, labels.half(), header)


class Files(Dataset[tuple[Tensor, Tensor]]):
    """A dataset of JPEG files, one for each image of a set, which are decoded and augmented one by one."""

    def __init__(self, distilled: DistilledSet, folder: Path) -> None:
        self.labels = distilled.raw_labels(torch.arange(len(distilled)))
        self.files = [folder / f"{number}.jpg" for number in range(len(distilled))]
        side = distilled.naturals.shape[-1]
        for number, file in enumerate(self.files):
            pixels = distilled.images(torch.tensor([number]))[0].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(file, quality=95)
        self.transform = v2.Compose(
            [
                v2.PILToTensor(),
                v2.RandomCrop(side, padding=CROP),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN.tolist(), STD.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.files[number]) as opened:
            return self.transform(opened.convert("RGB")), self.labels[number]


class SameBatches(Sampler[list[int]]):
    """A batch sampler of the batches that ours draws."""

    def __init__(self, size: int, steps: int) -> None:
        self.size, self.steps = size, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.steps):
            yield student_batch(self.size, 0, BATCH, None, 0, step).tolist()


def from_files(network: nn.Module, files: Files, steps: int, workers: int, device: str) -> list[Tensor]:
    """Train a copy of ``network`` as the reference does; return the loss of each step."""
    network = copy.deepcopy(network).to(device).train().requires_grad_(True)
    adam = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    losses = []
    sampler = SameBatches(len(files), steps)
    batches = DataLoader(files, batch_sampler=sampler, num_workers=workers, pin_memory=device == "cuda")
    for images, labels in batches:
        mixed, partner, weight = mix(images.to(device, non_blocking=True), "mixup", ALPHA)
        target = distribution(mix_labels(labels.to(device), partner, weight), "logits", TEMPERATURE)
        loss = distillation_loss(network(mixed), target, TEMPERATURE)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        losses.append(loss.detach())
    return losses


class RecordedStudent(StudentModule):
    """A student that records the loss of each step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.losses: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute and record the loss."""
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.detach())
        return loss


def ours(network: nn.Module, distilled: DistilledSet, steps: int, trainer: TrainerOptions) -> list[Tensor]:
    """Train a copy of ``network`` as ``distill.py`` does; return the loss of each step."""
    source = TrainingSet.of_set(distilled, [])
    optimiser = OptimiserOptions(BATCH, "adamw", 1e-3, 0.01, "cosine")
    task = Task(source.classes, source.moments, AugmentOptions(CROP, flip=True), optimiser, steps)
    network = copy.deepcopy(network).requires_grad_(True)
    mixing = MixingOptions("mixup", ALPHA)
    student = RecordedStudent("student", network, task, mixing, source.space, source.temperature)
    student.resident = source
    batches = loader(Indices(), partial(student_batch, len(distilled), 0, BATCH, None, 0), steps)
    with tempfile.TemporaryDirectory() as folder:
        fit(student, batches, 0, Path(folder), "student", trainer)
    return student.losses


def data_seconds(distilled: DistilledSet, device: str, steps: int = 200) -> float:
    """Measure the seconds of preparing a batch on the device: draw, compose, augment, normalise and mix."""
    source = TrainingSet.of_set(distilled, []).to(torch.device(device))
    mean, std = MEAN.to(device), STD.to(device)

    def prepare() -> None:
        for step in range(steps):
            images, labels = source[student_batch(len(distilled), 0, BATCH, None, 0, step).to(device)]
            images = augment(images, torch.rand(BATCH, DRAWS), CROP, True)
            images = ufc.normalise(images, mean, std).contiguous(memory_format=torch.channels_last)
            images, partner, weight = mix(images, "mixup", ALPHA)
            mix_labels(labels, partner, weight)

    prepare()
    return measure.seconds(prepare, device) / steps


def fastest_workers(network: nn.Module, files: Files, options: argparse.Namespace) -> tuple[int, float]:
    """Try the numbers of workers; return the fastest one and its seconds per step."""
    device = options.device
    from_files(network, files, 2, 0, device)
    first = measure.seconds(lambda: from_files(network, files, 2, 0, device), device) / 2
    steps = max(3, round(options.seconds / 4 / first))
    trials = {
        workers: measure.seconds(lambda workers=workers: from_files(network, files, steps, workers, device), device)
        for workers in options.workers
    }
    workers = min(trials, key=trials.__getitem__)
    return workers, trials[workers] / steps


def operations(network: nn.Module, side: int, device: str) -> int:
    """Count the floating-point operations of a training step."""
    trained = copy.deepcopy(network).to(device).train().requires_grad_(True)
    images = torch.randn(BATCH, 3, side, side, device=device)
    return measure.operations(lambda: trained(images).square().mean().backward())


def case(name: str, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Measure one backbone; ``rate`` is that of matrix products, in operations per second."""
    device = options.device
    distilled = distilled_set(options.classes, options.side, options.rounds, 4)
    network = measure.network(name, options.classes, options.side).to(memory_format=torch.channels_last)
    trainer = TrainerOptions("gpu" if device == "cuda" else "cpu", precision=options.precision)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(distilled, Path(folder))
        workers, seconds_per_step = fastest_workers(network, files, options)
        steps = options.steps or max(3, round(options.seconds / seconds_per_step))
        ours(network, distilled, 3, trainer)
        losses: dict[str, list[Tensor]] = {}
        times = measure.in_turn(
            lambda: losses.update(reference=from_files(network, files, steps, workers, device)),
            lambda: losses.update(ours=ours(network, distilled, steps, trainer)),
            options.turns,
            device,
        )
    found = measure.ratios(times)
    flop = operations(network, options.side, device)
    last = {key: torch.stack(values[-max(1, steps // 4) :]).mean().item() for key, values in losses.items()}
    return {
        "backbone": name,
        "classes": options.classes,
        "groups": options.rounds,
        **found,
        "share_of_floor": flop * steps / rate / found["seconds_ours"],
        "loss_reference": last["reference"],
        "loss_ours": last["ours"],
        "steps": steps,
        "images_a_second_ours": BATCH * steps / found["seconds_ours"],
        "data_share": data_seconds(distilled, device) * steps / found["seconds_ours"],
        "workers_reference": workers,
    }


def main() -> None:
    """Parse the arguments, measure each backbone and print the table."""
    parser = measure.parser(__doc__, ["convnet_narrow", "convnet"])
    parser.add_argument("--rounds", type=int, default=7, help="K, natural images per class")
    parser.add_argument("--steps", type=int, help="steps of each turn; default: as many as --seconds allow")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the reference, to try")
    parser.add_argument("--precision", default="32-true", help="precision of ours; the reference is float32")
    options = parser.parse_args()
    rate = measure.matrix_rate(options.device)
    hardware = {**measure.machine(options.device), "matrix_gflops": round(rate / 1e9, 1)}
    cases = [measure.printed(case(name, options, rate)) for name in options.backbones]
    measure.report("student training: JPEG DataLoader over ours", hardware, cases, options.json)


if __name__ == "__main__":
    main()
