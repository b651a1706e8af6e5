"""Student training on a distilled set: our path against pictures decoded from JPEG by a DataLoader, in turn.

    python benchmarks/student.py --json student.json

The reference is what the published code does: every image, composed ones too, a JPEG file; a DataLoader (its workers
chosen by a short trial) decodes, crops, flips and normalises picture by picture; the loop mixes and steps. Ours is
the command's own path (``infer.fitting.fit``): uint8 on the device, composed, augmented and mixed there in batch. Same
network, labels, batch, optimiser and steps; the losses are those of the last quarter of the steps.
``data_share``: the part of our step that makes the batch.
"""

from __future__ import annotations

import copy
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import measure
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from infer.core import ufc
from infer.core.augment import DRAWS, augment
from infer.core.labels import distillation_loss, distribution
from infer.core.mixing import mix, mix_labels, student_batch
from infer.data.batches import Indices, loader
from infer.distilled.dataset import DistilledSet, Header
from infer.models.modules import Optimiser, StudentModule
from infer.training.fit import Hardware, fit
from infer.training.students import StudentData

BATCH, CROP, ALPHA, TEMPERATURE = 64, 4, 0.8, 4.0
MEAN, STD = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.25, 0.24, 0.26])


def distilled_set(classes: int, side: int, rounds: int, teachers: int) -> DistilledSet:
    """A set of the shape that the paper's split gives, of smooth random pictures."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(rounds * classes, 3, 4, 4, generator=generator)
    naturals = (255 * nn.functional.interpolate(coarse, (side, side), mode="bilinear")).to(torch.uint8)
    targets = torch.arange(classes).repeat(rounds)
    shape = (rounds * teachers, 3, side, side)
    compensators = torch.randint(-20, 21, shape, generator=generator, dtype=torch.int8)
    header = Header(
        list(map(str, range(classes))), MEAN.tolist(), STD.tolist(), "static", "logits", TEMPERATURE, teachers
    )
    images = rounds * classes * (1 + teachers)
    labels = 4 * torch.randn(images, classes, generator=generator)
    labels[torch.arange(images), torch.arange(images) % classes] += 8
    return DistilledSet(naturals, targets, compensators, labels.half(), header)


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Every image of a set as a JPEG file, decoded and augmented one by one."""

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


class Draw:
    """A batch sampler of the very batches that ours draws."""

    def __init__(self, size: int, steps: int) -> None:
        self.size, self.steps = size, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self):
        for step in range(self.steps):
            yield student_batch(self.size, 0, BATCH, None, 0, step).tolist()


def from_files(network: nn.Module, files: Files, steps: int, workers: int, device: str) -> list[Tensor]:
    """The reference; returns the loss of every step."""
    network = copy.deepcopy(network).to(device).train().requires_grad_(True)
    adam = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    losses = []
    batches = DataLoader(files, batch_sampler=Draw(len(files), steps), num_workers=workers, pin_memory=device == "cuda")
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


class Recorded(StudentModule):
    """Ours, keeping the loss of every step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The student's step."""
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.detach())
        return loss


def ours(network: nn.Module, distilled: DistilledSet, steps: int, hardware: Hardware) -> list[Tensor]:
    """The command's own path; returns the loss of every step."""
    source = StudentData.of_set(distilled, [])
    student = Recorded(
        "student",
        copy.deepcopy(network).requires_grad_(True),
        source.moments,
        optimiser=Optimiser("adamw", 1e-3, 0.01, "cosine", steps),
        mixing="mixup",
        alpha=ALPHA,
        space=source.space,
        temperature=source.temperature,
        classes=source.classes,
        crop=CROP,
        flip=True,
        resized_crop=None,
        resident=source,
    )
    student.losses = []
    batches = loader(Indices(), partial(student_batch, len(distilled), 0, BATCH, None, 0), steps)
    with tempfile.TemporaryDirectory() as folder:
        fit(student, batches, 0, Path(folder), "student", hardware, [])
    return student.losses


def data_seconds(distilled: DistilledSet, device: str, steps: int = 200) -> float:
    """Of making one batch on the device: drawn, composed, augmented, normalised, mixed."""
    source = StudentData.of_set(distilled, []).to(torch.device(device))
    mean, std = MEAN.to(device), STD.to(device)

    def make() -> None:
        for step in range(steps):
            images, labels = source[student_batch(len(distilled), 0, BATCH, None, 0, step).to(device)]
            images = augment(images, torch.rand(BATCH, DRAWS), CROP, True)
            images = ufc.normalise(images, mean, std).contiguous(memory_format=torch.channels_last)
            images, partner, weight = mix(images, "mixup", ALPHA)
            mix_labels(labels, partner, weight)

    make()
    return measure.seconds(make, device) / steps


def case(name: str, options: measure.argparse.Namespace, rate: float) -> dict[str, Any]:
    """One backbone."""
    device = options.device
    distilled = distilled_set(options.classes, options.side, options.rounds, 4)
    network = measure.network(name, options.classes, options.side).to(memory_format=torch.channels_last)
    hardware = Hardware("gpu" if device == "cuda" else "cpu", precision=options.precision)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(distilled, Path(folder))
        from_files(network, files, 2, 0, device)
        first = measure.seconds(lambda: from_files(network, files, 2, 0, device), device) / 2
        few = max(3, round(options.seconds / 4 / first))
        trial = {
            workers: measure.seconds(lambda workers=workers: from_files(network, files, few, workers, device), device)
            for workers in options.workers
        }
        workers = min(trial, key=trial.__getitem__)
        steps = options.steps or max(3, round(options.seconds / trial[workers] * few))
        ours(network, distilled, 3, hardware)
        losses: dict[str, list[Tensor]] = {}
        times = measure.in_turn(
            lambda: losses.update(reference=from_files(network, files, steps, workers, device)),
            lambda: losses.update(ours=ours(network, distilled, steps, hardware)),
            options.turns,
            device,
        )
    found = measure.ratios(times)
    trained = copy.deepcopy(network).to(device).train().requires_grad_(True)
    images = torch.randn(BATCH, 3, options.side, options.side, device=device)
    flop = measure.operations(lambda: trained(images).square().mean().backward())
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
    """Parse, measure, report."""
    made = measure.parser(__doc__, ["convnet_narrow", "convnet"])
    made.add_argument("--rounds", type=int, default=7, help="K, naturals a class")
    made.add_argument("--steps", type=int, help="of every turn; default: as many as --seconds hold")
    made.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the reference, to choose from")
    made.add_argument("--precision", default="32-true", help="ours; the reference is float32")
    options = made.parse_args()
    rate = measure.matrix_rate(options.device)
    hardware = {**measure.machine(options.device), "matrix_gflops": round(rate / 1e9, 1)}
    cases = [measure.said(case(name, options, rate)) for name in options.backbones]
    measure.report("student training: JPEG DataLoader over ours", hardware, cases, options.json)


if __name__ == "__main__":
    main()
