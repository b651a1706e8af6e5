"""Distillation: our path against the serial reference (serial.py), in turn, in one run.

    python benchmarks/distillation.py --json distillation.json

Both optimise the same compensators on the same images with the same draws, ours through the command's own path
(``infer.fitting.fit``, its checkpoints and metrics included). ``share_of_floor``: operations of the passes over the
measured matrix rate, over the time taken.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import measure
import serial
import torch
from torch import Tensor, nn

from infer.data.batches import Indices, in_order, loader
from infer.models.modules import CompensatorModule, UFCOptions
from infer.training import microbatching as passes
from infer.training.fit import Hardware, fit

MOMENTS = (torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.25, 0.24, 0.26]))
SAME = 0.01
"""Relative difference of losses that rounding may make, after steps of Adam as large as its first ones are."""


def module(teacher: nn.Module, naturals: Tensor, targets: Tensor, steps: int) -> CompensatorModule:
    """Ours, with the values of the paper."""
    return CompensatorModule("t", teacher, naturals, targets, MOMENTS, UFCOptions(steps, 0.25, 1.0, 10.0, 4))


def ours(made: CompensatorModule, hardware: Hardware, seed: int = 0) -> Tensor:
    """The compensators, by the command's own path."""
    steps = made.options.steps
    with tempfile.TemporaryDirectory() as folder:
        fit(made, loader(Indices(), partial(in_order, steps, 1), steps), seed, Path(folder), "u", hardware, [])
    return made.u.detach()


def final_loss(made: CompensatorModule, u: Tensor) -> float:
    """The objective of ``u``, the mean over the rounds, without draws."""
    device = u.device
    made.to(device)
    made.frozen[0].to(device)
    made.u.data = u.clone()
    rounds = range(0, len(u), made.passes.rounds)
    terms = [made.descend(slice(i, i + made.passes.rounds), lambda x: x, Tensor.backward)[0] for i in rounds]
    return torch.cat(terms).mean().item()


def case(name: str, options: measure.argparse.Namespace, rate: float) -> dict[str, Any]:
    """One backbone."""
    device = torch.device(options.device)
    hardware = Hardware("gpu" if options.device == "cuda" else "cpu", precision=options.precision)
    teacher = measure.network(name, options.classes, options.side)
    generator = torch.Generator().manual_seed(0)
    shape = (options.rounds, options.classes, 3, options.side, options.side)
    naturals = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    targets = torch.arange(options.classes).expand(options.rounds, -1)

    made = module(teacher, naturals, targets, 1)
    seconds_to_choose = measure.seconds(
        lambda: setattr(made, "passes", passes.choose(made, device, options.precision, None, None)), options.device
    )
    chosen = made.passes
    flop = options.rounds * measure.operations(
        lambda: module(teacher, naturals[:1], targets[:1], 1).descend(slice(0, 1), lambda x: x, Tensor.backward)
    )

    def reference(steps: int, rounds: int | None = None) -> Tensor:
        how = UFCOptions(steps, 0.25, 1.0, 10.0, 4)
        some = naturals[:rounds].to(device), targets[:rounds].to(device)
        return serial.optimise(teacher, *some, MOMENTS, how, 0)

    def mine(steps: int) -> Tensor:
        made = module(teacher, naturals, targets, steps)
        made.passes, made.compile_mode = chosen, options.compile
        return ours(made, hardware).to(device)

    few = min(3, options.rounds)
    reference(1, few)
    a_step = measure.seconds(lambda: reference(1, few), options.device) * options.rounds / few
    steps = options.steps or max(1, round(options.seconds / a_step))
    mine(min(steps, 2))
    kept: dict[str, Tensor] = {}
    times = measure.in_turn(
        lambda: kept.update(reference=reference(steps)),
        lambda: kept.update(ours=mine(steps)),
        options.turns,
        options.device,
    )
    found = measure.ratios(times)
    judge = module(teacher, naturals, targets, steps)
    judge.passes = chosen
    return {
        "backbone": name,
        "classes": options.classes,
        "groups": options.rounds,
        **found,
        "share_of_floor": flop * steps / rate / found["seconds_ours"],
        "loss_reference": final_loss(judge, kept["reference"]),
        "loss_ours": final_loss(judge, kept["ours"]),
        "steps": steps,
        "groups_a_pass": chosen.rounds,
        "seconds_to_choose": seconds_to_choose,
    }


def main() -> None:
    """Parse, measure, report."""
    backbones = ["resnet18", "mobilenetv2", "efficientnet_b0", "shufflenetv2", "convnet_narrow"]
    made = measure.parser(__doc__, backbones)
    made.add_argument("--rounds", type=int, default=35, help="K, compensators a teacher")
    made.add_argument("--steps", type=int, help="of every turn; default: as many as --seconds hold")
    made.add_argument("--precision", default="32-true", help="ours; the reference is float32")
    made.add_argument("--compile", help="ours: a mode of torch.compile")
    options = made.parse_args()
    rate = measure.matrix_rate(options.device)
    hardware = {**measure.machine(options.device), "matrix_gflops": round(rate / 1e9, 1)}
    cases = [measure.said(case(name, options, rate)) for name in options.backbones]
    measure.report("distillation: serial reference over ours", hardware, cases, options.json)
    logs = torch.tensor([each["ratio_median"] for each in cases]).log()
    print(f"geometric mean of the ratios: {logs.mean().exp().item():.2f}")
    apart = [each["backbone"] for each in cases if abs(each["loss_ours"] / each["loss_reference"] - 1) > SAME]
    if apart:
        raise SystemExit(f"the losses differ by more than {SAME:.0%}: {', '.join(apart)}")


if __name__ == "__main__":
    main()
