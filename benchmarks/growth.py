"""Growth with pictures, classes, rounds and steps: seconds and memory of each stage, with fitted exponents.

    python benchmarks/growth.py --json growth.json

The pictures are made up: noise of 16 x 16 pixels in ten classes, a twentieth of them near-copies of others. Each stage
has a process of its own with one thread, which works on ascending sizes. ``seconds`` is the processor time of the
fastest of up to five runs, so that other work on the machine counts little. ``bytes`` is the peak memory of the stage
and its pictures, less the memory of the process after it has worked on a few. An exponent is the slope of a line
through the logarithms of sizes and values: 1 is linear growth, 0 none.

``sizes`` are numbers of pictures unless the name of a stage says that they are those of classes (of 10,000 pictures
together), of rounds or of steps. With more pictures, budgets do not grow: methods select 100 pictures at every size.
Mixed views grow: there are as many as pictures. With more classes, methods select ten pictures of each.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import measure
import psutil
import torch
from growth_stages import AXES, STAGES, Work

from infer.core.memory import peak_bytes

TURNS, ENOUGH = 5, 3.0
"""Runs of a size at most, and seconds after which there is no further run."""


def fastest(work: Work) -> float:
    """Return the processor seconds of the fastest of some runs."""
    times: list[float] = []
    while len(times) < TURNS and sum(times) < ENOUGH:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def resident() -> int:
    """Return the bytes of this process, after it has given back what it freed, where the C library can (glibc)."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


def growth(stage: str, sizes: Sequence[int]) -> dict[str, Any]:
    """Measure a stage in this process, which does nothing else; ``bytes`` are None where the system tells none."""
    torch.set_num_threads(1)
    sizes = sorted(sizes)
    grows, prepare = STAGES[stage]
    prepare(AXES[grows].few)()
    before = resident()
    seconds, used = [], []
    for size in sizes:
        seconds.append(fastest(prepare(size)))
        peak = peak_bytes()
        used.append(None if peak is None else peak - before)
    told = [each for each in used if each is not None]
    return {
        "sizes": sizes,
        "seconds": seconds,
        "bytes": used,
        "time_exponent": exponent(sizes, seconds),
        "memory_exponent": exponent(sizes, told) if len(told) == len(used) else None,
    }


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Fit the exponent b of values = a * sizes**b."""
    logs = [torch.tensor(some, dtype=torch.float64).log().tolist() for some in (sizes, values)]
    return statistics.linear_regression(*logs).slope


def main() -> None:
    """Parse the arguments, measure each stage in a process and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, help="of what grows, two or more, in place of a stage's own")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(growth(options.stages[0], options.sizes)))
        return
    found = {}
    for stage in options.stages:
        sizes = options.sizes or AXES[STAGES[stage].grows].sizes
        words = [sys.executable, __file__, "--one", "--stages", stage, "--sizes", *map(str, sizes)]
        # Of memory that is freed, glibc gives back blocks of 4 MiB and more at once: peaks do not add up.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(2**22)}
        output = subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout
        found[stage] = json.loads(output.splitlines()[-1])
        measure.printed({"stage": stage, **found[stage]})
    hardware = {**measure.machine("cpu"), "threads": 1, "cores": os.cpu_count()}
    if options.json:
        options.json.write_text(json.dumps({"hardware": hardware, "stages": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
