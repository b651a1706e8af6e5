"""Distillation: this package against the serial reference (serial.py), in alternation, in one process.

    python benchmarks/distillation.py --json distillation.json

Both optimise the same compensators for the same images with the same random draws. Ours is what ``distill.py`` runs
(``infer.training.fit.fit``), with its checkpoints and metrics. ``share_of_floor`` is the least possible time, the
floating-point operations of the passes over the measured rate of matrix products, divided by the time taken.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import measure
import serial
import torch
from torch import Tensor, nn

from infer.core.options import UFCOptions
from infer.core.ufc import Problem
from infer.data.batches import Indices, in_order, loader
from infer.models.compensator import CompensatorModule, MicroBatch
from infer.training.fit import fit
from infer.training.microbatching import choose
from infer.training.options import TrainerOptions

MOMENTS = (torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.25, 0.24, 0.26]))
SAME = 0.01
"""Relative difference of losses that rounding may cause; the first steps of Adam are large, and so amplify it."""


class Workload(NamedTuple):
    """K rounds against one teacher: ``naturals`` uint8 [K, C, ch, H, W] and their classes ``targets`` int64 [K, C]."""

    teacher: nn.Module
    naturals: Tensor
    targets: Tensor

    @classmethod
    def random(cls, name: str, side: int, rounds: int, classes: int) -> Workload:
        """Create random images for the backbone ``name``; the same at every call."""
        teacher = measure.network(name, classes, side)
        generator = torch.Generator().manual_seed(0)
        naturals = torch.randint(256, (rounds, classes, 3, side, side), generator=generator, dtype=torch.uint8)
        return cls(teacher, naturals, torch.arange(classes).expand(rounds, -1))

    def part(self, rounds: int, classes: int | None = None) -> Workload:
        """Return the first rounds, and the first classes of each."""
        return self._replace(naturals=self.naturals[:rounds, :classes], targets=self.targets[:rounds, :classes])

    def problem(self, steps: int) -> Problem:
        """Return the optimisation problem of so many steps, with the values of the paper."""
        return Problem(*self, paper_options(steps), *MOMENTS)

    def operations(self) -> int:
        """Count the floating-point operations of a step of all rounds."""
        problem = self.part(1).problem(1)
        return len(self.naturals) * measure.operations(lambda: add_gradient(problem, problem.zeros().requires_grad_()))


def paper_options(steps: int) -> UFCOptions:
    """Return the options of the paper with so many steps."""
    return UFCOptions(steps, lr=0.25, bn_weight=1.0, first_weight=10.0, jitter=4)


def add_gradient(problem: Problem, u: Tensor, micro_batch: MicroBatch | None = None) -> Tensor:
    """Add the gradient of all rounds to ``u.grad``, without random transforms; return the loss of each, float32 [K]."""
    size = micro_batch or MicroBatch(*problem.targets.shape)
    parts = [slice(first, first + size.rounds) for first in range(0, len(u), size.rounds)]
    return torch.cat([problem.add_gradient(u, part, lambda images: images, size.classes).loss for part in parts])


def final_loss(problem: Problem, u: Tensor, micro_batch: MicroBatch | None = None) -> float:
    """Compute the objective of ``u`` without random transforms, the mean over the rounds."""
    return add_gradient(problem.to(u.device), u.clone().requires_grad_(), micro_batch).mean().item()


def ours(
    workload: Workload, steps: int, micro_batch: MicroBatch, compile: str | None, trainer: TrainerOptions
) -> Tensor:
    """Optimise the compensators float32 [K, ch, H, W] as ``distill.py`` does."""
    module = CompensatorModule("t", workload.problem(steps), micro_batch, compile)
    with tempfile.TemporaryDirectory() as folder:
        fit(module, loader(Indices(), partial(in_order, steps, 1), steps), 0, Path(folder), "u", trainer)
    return module.u.detach().to(trainer.device)


def reference(workload: Workload, steps: int, device: str) -> Tensor:
    """Optimise the compensators float32 [K, ch, H, W] one after the other."""
    teacher, naturals, targets = workload
    return serial.optimise(teacher, naturals.to(device), targets.to(device), MOMENTS, paper_options(steps), seed=0)


def case(name: str, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Measure one backbone; ``rate`` is that of matrix products, in operations per second."""
    device, rounds = options.device, options.rounds
    trainer = TrainerOptions("gpu" if device == "cuda" else "cpu", precision=options.precision)
    workload = Workload.random(name, options.side, rounds, options.classes)
    chosen: list[MicroBatch] = []
    seconds_to_choose = measure.seconds(
        lambda: chosen.append(choose(workload.problem(1), torch.device(device), options.precision, None, None)), device
    )
    (micro_batch,) = chosen
    few = workload.part(min(3, rounds))
    reference(few, 1, device)
    seconds_per_step = measure.seconds(lambda: reference(few, 1, device), device) * rounds / len(few.naturals)
    steps = options.steps or max(1, round(options.seconds / seconds_per_step))
    ours(workload, min(steps, 2), micro_batch, options.compile, trainer)
    results: dict[str, Tensor] = {}
    times = measure.in_turn(
        lambda: results.update(reference=reference(workload, steps, device)),
        lambda: results.update(ours=ours(workload, steps, micro_batch, options.compile, trainer)),
        options.turns,
        device,
    )
    ratios, problem = measure.ratios(times), workload.problem(steps)
    return {
        "backbone": name,
        "classes": options.classes,
        "groups": rounds,
        **ratios,
        "share_of_floor": workload.operations() * steps / rate / ratios["seconds_ours"],
        "loss_reference": final_loss(problem, results["reference"], micro_batch),
        "loss_ours": final_loss(problem, results["ours"], micro_batch),
        "steps": steps,
        "groups_a_pass": micro_batch.rounds,
        "seconds_to_choose": seconds_to_choose,
    }


def main() -> None:
    """Parse the arguments, measure each backbone and print the table."""
    backbones = ["resnet18", "mobilenetv2", "efficientnet_b0", "shufflenetv2", "convnet_narrow"]
    parser = measure.parser(__doc__, backbones)
    parser.add_argument("--rounds", type=int, default=35, help="K, compensators per teacher")
    parser.add_argument("--steps", type=int, help="steps of each turn; default: as many as --seconds allow")
    parser.add_argument("--precision", default="32-true", help="precision of ours; the reference is float32")
    parser.add_argument("--compile", help="mode of torch.compile for ours")
    options = parser.parse_args()
    rate = measure.matrix_rate(options.device)
    hardware = {**measure.machine(options.device), "matrix_gflops": round(rate / 1e9, 1)}
    cases = [measure.printed(case(name, options, rate)) for name in options.backbones]
    measure.report("distillation: serial reference over ours", hardware, cases, options.json)
    logs = torch.tensor([each["ratio_median"] for each in cases]).log()
    print(f"geometric mean of the ratios: {logs.mean().exp().item():.2f}")
    apart = [each["backbone"] for each in cases if abs(each["loss_ours"] / each["loss_reference"] - 1) > SAME]
    if apart:
        raise SystemExit(f"the losses differ by more than {SAME:.0%}: {', '.join(apart)}")


if __name__ == "__main__":
    main()
