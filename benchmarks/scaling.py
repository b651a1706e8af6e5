"""Cost of a step of distillation: time against K, C, steps and M, and peak memory against the chunk.

    python benchmarks/scaling.py --json scaling.json

Each line of the table runs in a process of its own, so that it has a peak memory of its own. ``memory_mib`` is the peak
above the memory of the loaded teacher and images. ``model_seconds`` is the cost model of docs/performance.md: the
operations of the passes over the rate that the first line of the same backbone and image size reached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import measure
import torch
from distillation import Workload, add_gradient

from infer.core.memory import peak_bytes
from infer.models.compensator import MicroBatch

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


def peak(device: str) -> float | None:
    """Return the peak memory so far, in MiB; None where the system does not tell it."""
    found = torch.cuda.max_memory_allocated() if device == "cuda" else peak_bytes()
    return None if found is None else found / 2**20


def measure_line(
    name: str, side: int, teachers: int, rounds: int, classes: int, chunk: int, steps: int, device: str
) -> dict[str, float | None]:
    """Measure one line in this process; ``memory_mib`` is None where the system does not tell it."""
    workload = Workload.random(name, side, rounds, classes)
    problem = workload.problem(1).to(torch.device(device))
    u = problem.zeros().requires_grad_()

    def step() -> None:
        add_gradient(problem, u, MicroBatch(1, chunk))

    if classes * side <= 40 * 32:
        step()  # warms up; larger lines take long enough without it
    before = peak(device)
    took = measure.seconds(lambda: [step() for _ in range(steps * teachers)], device)
    after = peak(device)
    used = None if before is None or after is None else round(after - before)
    operations_per_image = workload.part(1, 2).operations() / 2
    images = rounds * classes * steps * teachers
    passes = 1.5 if chunk < classes else 1.0  # a chunk below C needs a second forward pass
    return {"seconds": took, "memory_mib": used, "operations": passes * operations_per_image * images}


def main() -> None:
    """Parse the arguments, measure each line and print the table."""
    parser = measure.parser(__doc__, [])
    parser.add_argument("--part", choices=[*LINES, "all"], default="all")
    parser.add_argument("--one", nargs=7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure_line(options.one[0], *map(int, options.one[1:]), options.device)))
        return
    keys = ("backbone", "side", "teachers", "groups", "classes", "chunk", "steps")
    cases, rates = [], {}
    for part, lines in LINES.items():
        for line in lines if options.part in (part, "all") else []:
            words = [sys.executable, __file__, "--device", options.device, "--one", *map(str, line)]
            output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            found = json.loads(output.splitlines()[-1])
            rate = rates.setdefault(line[:2], found["operations"] / found["seconds"])
            case = {**dict(zip(keys, line, strict=True)), **found, "model_seconds": found["operations"] / rate}
            cases.append(measure.printed(case))
    if any(case["memory_mib"] is None for case in cases):
        print(f"{sys.platform} does not tell the peak of the memory; memory_mib is null", file=sys.stderr)
    measure.report("cost of a step", measure.machine(options.device), cases, options.json)


if __name__ == "__main__":
    main()
