"""Growth with the number of pictures: seconds and memory of each stage of the data side, with fitted exponents.

    python benchmarks/growth.py --json growth.json

The pictures are made up: noise of 16 x 16 pixels in ten classes, a twentieth of them near-copies of others. Each stage
has a process of its own with one thread, which works on ascending sizes. ``seconds`` is the processor time of the
fastest of up to five runs, so that other work on the machine counts little. ``bytes`` is the peak memory of the stage
and its pictures, less the memory of the process after it has worked on a few. An exponent is the slope of a line
through the logarithms of sizes and values: 1 is linear growth, 0 none. Budgets do not grow: methods select 100 pictures
at every size. Mixed views grow: there are as many as pictures.
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import psutil
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from infer.core import ufc
from infer.core.augment import DRAWS, augment
from infer.core.memory import peak_bytes
from infer.core.mixing import student_batch
from infer.core.options import LabelOptions
from infer.data import Pictures, Splits
from infer.data.duplicates import duplicate_groups
from infer.data.stratified import stratified
from infer.data.summary import summarise
from infer.distilled import DistilledSet, Header
from infer.methods.options import METHODS, method_options
from infer.methods.proxy import ProxyModel
from infer.methods.selection import SelectionInputs
from infer.models.weights import PixelClassifier
from infer.pipeline.labelling import Labeller
from infer.report.class_map import class_map
from infer.report.feature_space import FeatureSpace
from infer.report.inputs import AnalysisInputs, Compression
from infer.training.context import Context
from infer.training.options import TrainerOptions
from infer.training.teachers import Teacher

SIZES = (10_000, 20_000, 40_000, 80_000)
CLASSES, SIDE, IPC, BATCH, TEMPERATURE = 10, 16, 10, 64, 4.0
CPU = torch.device("cpu")
WARM_UP, TURNS, ENOUGH = 500, 5, 3.0
"""Pictures of the warm-up, runs of a size at most, and seconds after which there is no further run."""

Work = Callable[[], Any]


def splits(size: int) -> Splits:
    """Create ``size`` train pictures, of which every twentieth is nearly the next one, and an eighth as many others."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (size + size // 8, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    copied = torch.arange(0, size - 1, 20)
    images[copied] = images[copied + 1].clamp(2, 253) + torch.randint(3, (1,), generator=draw).to(torch.uint8)
    targets = torch.arange(len(images)) % CLASSES
    train, test = Pictures(images[:size], targets[:size]), Pictures(images[size:], targets[size:])
    return Splits("made up", list(map(str, range(CLASSES))), train, test)


def alike(size: int) -> Tensor:
    """Create pictures that are alike in forty groups, as the frames of forty films, uint8 [N, 3, SIDE, SIDE]."""
    draw = torch.Generator().manual_seed(0)
    scenes = torch.randint(10, 240, (40, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    grain = torch.randint(4, (size, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    return scenes[torch.arange(size) % len(scenes)] + grain


def network() -> nn.Module:
    """Return the network that is teacher and proxy model."""
    return measure.network("resnet_narrow", CLASSES, SIDE)


def distilled(data: Splits, labeller: Labeller) -> DistilledSet:
    """Create a set of a twentieth of the pictures, and mixed views as ``labeller`` describes them."""
    naturals, targets = data.train[torch.arange(len(data.train) // 20)]
    mean, std = (moment.tolist() for moment in data.moments)
    views = labeller.mixed_views(len(naturals)).header
    header = Header(data.classes, mean, std, "views", "probabilities", TEMPERATURE, 0, views=views)
    return DistilledSet(naturals, targets, torch.empty(0, 3, SIDE, SIDE, dtype=torch.int8), None, header)


def labelling(data: Splits, teacher: nn.Module, candidates: int) -> Labeller:
    """Return what labels as many mixed views as there are pictures."""
    views = len(data.train)
    context = Context(data, trainer=TrainerOptions("cpu"))
    options = LabelOptions("views", candidates=candidates)
    return Labeller(context, [Teacher("teacher", teacher, 0.0, 0.0, 0.0, None)], options, views, views, 0)


def proxy(data: Splits, teacher: nn.Module) -> ProxyModel:
    """Return a proxy model that is as good as the teacher."""
    return ProxyModel(PixelClassifier(teacher, *data.moments), [teacher], data.moments, TEMPERATURE, CPU)


def split(size: int) -> Work:
    """Divide the pictures with their groups."""
    data = splits(size)
    groups = torch.arange(size)
    groups[::20] += 1  # as the near-copies
    return lambda: stratified(data.train.targets, 0.2, 0, groups)


def duplicates(size: int) -> Work:
    """Group near-duplicates."""
    data = splits(size)
    return lambda: duplicate_groups(data.train.images)


def many_alike(size: int) -> Work:
    """Group near-duplicates where every picture has many."""
    images = alike(size)
    return lambda: duplicate_groups(images)


def summary(size: int) -> Work:
    """Summarise the data set."""
    data = splits(size)
    return lambda: summarise(data, None)


def selection(method: str) -> Callable[[int], Work]:
    """Select or create the natural images of a method."""
    fewer = {"sre2l": {"steps": 5}}  # which do not depend on the pictures
    options = method_options(method, fewer.get(method, {}))

    def prepare(size: int) -> Work:
        data, teacher = splits(size), network()
        inputs = SelectionInputs(
            data, data.picks(0), IPC * CLASSES, torch.ones(CLASSES), [teacher], 0, CPU, proxy(data, teacher)
        )
        return lambda: METHODS[method].select(inputs, options)

    return prepare


def labels(size: int) -> Work:
    """Choose as many mixed views as there are pictures among two candidates each, and label them."""
    data, teacher = splits(size), network()
    labeller = labelling(data, teacher, 2)
    bare = distilled(data, labeller)
    return lambda: labeller.label(bare, proxy(data, teacher))


def reading(size: int) -> Work:
    """Read as many mixed views as there are pictures from a DataLoader."""
    data = splits(size)
    bare = distilled(data, labelling(data, nn.Identity(), 1))
    views = replace(bare, labels=torch.full((size, CLASSES), 255, dtype=torch.uint8))
    return lambda: [len(images) for images, _ in DataLoader(replace(views), BATCH)]


def batches(size: int) -> Work:
    """Draw, augment and normalise the batches of one pass over the pictures."""
    data = splits(size)
    mean, std = data.moments

    def one_pass() -> None:
        for step in range(size // BATCH):
            images, _ = data.train[student_batch(size, 0, BATCH, None, 0, step)]
            images = augment(images, torch.rand(BATCH, DRAWS), 2, True)
            ufc.normalise(images, mean, std).contiguous(memory_format=torch.channels_last)

    return one_pass


def report(size: int) -> Work:
    """Compute the features of the report and its class map."""
    data, teacher = splits(size), network()
    made = distilled(data, labelling(data, teacher, 1))

    def analyse() -> None:
        inputs = AnalysisInputs(data, made, made, {}, teacher, CPU, False, Compression(None, 0))
        class_map(inputs, FeatureSpace(inputs))

    return analyse


STAGES: dict[str, Callable[[int], Work]] = {
    "split": split,
    "duplicates": duplicates,
    "duplicates, all alike": many_alike,
    "summary": summary,
    **{f"selection, {method}": selection(method) for method in METHODS if method != "infer"},  # which selects as random
    "labels of mixed views": labels,
    "reading mixed views": reading,
    "batches of one pass": batches,
    "report features": report,
}


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
    STAGES[stage](WARM_UP)()
    before = resident()
    seconds, used = [], []
    for size in sizes:
        seconds.append(fastest(STAGES[stage](size)))
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
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="numbers of pictures, two or more")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(growth(options.stages[0], options.sizes)))
        return
    found = {}
    for stage in options.stages:
        words = [sys.executable, __file__, "--one", "--stages", stage, "--sizes", *map(str, options.sizes)]
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
