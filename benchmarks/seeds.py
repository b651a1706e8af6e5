"""Students of several seeds: one after the other against all at once (torch.func.stack_module_state and vmap).

    python benchmarks/seeds.py --json seeds.json

A step is a forward and a backward pass of the student of every seed, each on a batch of its own. Where the ratio is
below 1, training all at once is slower; this is why ``infer`` gives each student a process of its own instead.
"""

from __future__ import annotations

import argparse
import copy

import measure
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from infer.core.batch_norm import batch_norms


def case(name: str, seeds: int, options: argparse.Namespace) -> dict[str, object]:
    """Measure one backbone and number of seeds."""
    device = options.device
    network = measure.network(name, options.classes, options.side).to(device).train().requires_grad_(True)
    for layer in batch_norms(network):
        layer.momentum = 0.1
    students = [copy.deepcopy(network) for _ in range(seeds)]
    images = torch.randn(seeds, 64, 3, options.side, options.side, device=device)
    targets = torch.randint(options.classes, (seeds, 64), device=device)
    parameters, buffers = stack_module_state(students)
    shell = copy.deepcopy(network).to("meta")

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(functional_call(shell, (parameters, buffers), (x,)), y)

    together = vmap(grad(loss))

    def at_once() -> None:
        together(parameters, buffers, images, targets)

    def one_by_one() -> None:
        for student, x, y in zip(students, images, targets, strict=True):
            student.zero_grad()
            x = x.contiguous(memory_format=torch.channels_last)
            torch.nn.functional.cross_entropy(student(x), y).backward()

    one_by_one()
    at_once()
    steps = max(2, round(options.seconds / 4 / measure.seconds(one_by_one, device)))

    def repeated(work):
        return lambda: [work() for _ in range(steps)]

    times = measure.in_turn(repeated(one_by_one), repeated(at_once), options.turns, device)
    return {"backbone": name, "seeds": seeds, "steps": steps, **measure.ratios(times)}


def main() -> None:
    """Parse the arguments, measure each case and print the table."""
    parser = measure.parser(__doc__, ["convnet_narrow"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 8], help="numbers of seeds")
    options = parser.parse_args()
    cases = [measure.printed(case(name, seeds, options)) for name in options.backbones for seeds in options.seeds]
    measure.report("students one by one over all at once", measure.machine(options.device), cases, options.json)


if __name__ == "__main__":
    main()
