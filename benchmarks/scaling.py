"""What a step of distillation costs: time against K, C, steps and M, and peak memory against the chunk.

    python benchmarks/scaling.py --json scaling.json

Every line is a process of its own, so that its peak memory is its own. ``memory_mib`` is the peak above that of the
loaded teacher and images; ``model_seconds`` is the cost model of docs/benchmarks.md: operations of the passes over the
matrix rate that the first line of its backbone and side reached.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import measure
import torch
from distillation import module
from torch import Tensor

from infer.models.modules import Passes

LINES = {
    "time": [
        # backbone, side, teachers, rounds, classes, chunk, steps
        ("resnet18", 32, 1, 4, 10, 10, 2),
        ("resnet18", 32, 1, 8, 10, 10, 2),
        ("resnet18", 32, 1, 16, 10, 10, 2),
        ("resnet18", 32, 1, 4, 20, 20, 2),
        ("resnet18", 32, 1, 4, 40, 40, 2),
        ("resnet18", 32, 1, 4, 10, 10, 8),
        ("resnet18", 32, 4, 4, 10, 10, 2),
    ],
    "memory": [
        ("resnet18", 224, 1, 1, 50, 50, 1),
        ("resnet18", 224, 1, 1, 50, 25, 1),
        ("resnet18", 224, 1, 1, 50, 10, 1),
        ("resnet18", 224, 1, 1, 50, 5, 1),
        ("resnet18", 224, 1, 1, 100, 10, 1),
        ("resnet18", 224, 1, 2, 100, 10, 1),
        ("resnet18", 224, 1, 1, 1000, 10, 1),
        ("resnet18", 224, 1, 1, 1000, 25, 1),
    ],
}


def peak(device: str) -> float:
    """MiB so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def one(name: str, side: int, teachers: int, rounds: int, classes: int, chunk: int, steps: int, device: str) -> None:
    """One line, in this process."""
    generator = torch.Generator().manual_seed(0)
    naturals = torch.randint(256, (rounds, classes, 3, side, side), generator=generator, dtype=torch.uint8)
    targets = torch.arange(classes).expand(rounds, -1)
    teacher = measure.network(name, classes, side)
    made = module(teacher, naturals, targets, 1).to(device)
    made.frozen[0].to(device)
    made.passes = Passes(1, chunk)

    def step() -> None:
        for first in range(rounds):
            made.descend(slice(first, first + 1), lambda images: images, Tensor.backward)

    if classes * side <= 40 * 32:
        step()  # warms up; the large ones are long enough without
    before = peak(device)
    took = measure.seconds(lambda: [step() for _ in range(steps * teachers)], device)
    made.u.grad = None
    few = module(teacher, naturals[:1, :2], targets[:1, :2], 1).to(device)
    few.frozen[0].to(device)
    images = rounds * classes * steps * teachers
    flop = measure.operations(lambda: few.descend(slice(0, 1), lambda images: images, Tensor.backward)) / 2
    found = {"seconds": took, "memory_mib": round(peak(device) - before), "operations": flop * images}
    if chunk < classes:
        found["operations"] *= 1.5  # a third pass, forward
    print(json.dumps(found))


def main() -> None:
    """Parse, measure, report."""
    made = measure.parser(__doc__, [])
    made.add_argument("--part", choices=[*LINES, "all"], default="all")
    made.add_argument("--one", nargs=7, help=measure.argparse.SUPPRESS)
    options = made.parse_args()
    if options.one:
        one(options.one[0], *map(int, options.one[1:]), options.device)
        return
    keys = ("backbone", "side", "teachers", "groups", "classes", "chunk", "steps")
    cases, rates = [], {}
    for part, lines in LINES.items():
        for line in lines if options.part in (part, "all") else []:
            words = [sys.executable, __file__, "--device", options.device, "--one", *map(str, line)]
            said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            found = json.loads(said.splitlines()[-1])
            rate = rates.setdefault(line[:2], found["operations"] / found["seconds"])
            case = {**dict(zip(keys, line, strict=True)), **found, "model_seconds": found["operations"] / rate}
            cases.append(measure.said(case))
    measure.report("what a step costs", measure.machine(options.device), cases, options.json)


if __name__ == "__main__":
    main()
