"""Labels that look wrong: of labels that are flipped on purpose, how many are found.

    python benchmarks/suspects.py --root data/neu-steel --side 64 --channels 1
    python benchmarks/suspects.py --root data/cifar10 --side 32 --pictures 2000

A share of the labels of a folder that is taken to be clean is flipped to another class. Training pictures are ranked
by the features of a network with ImageNet weights (the extra ``weights``), and by those of a teacher that is trained on
the flipped labels. ``top`` is the share of flipped labels among as many of the most doubtful pictures as were flipped:
precision and recall at once. ``listed`` are the pictures that a report lists, which does not know how many are wrong.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import measure
import torch
from torch import Tensor

from infer.data import Splits, read_folder
from infer.data.splits import known_duplicates
from infer.metrics.suspects import doubtful_order, out_of_fold, suspects
from infer.models.weights import frozen
from infer.pipeline.suspects import LISTED, Extractor
from infer.training.context import Context
from infer.training.options import TeacherOptions
from infer.training.teachers import fit_teacher


def flipped(targets: Tensor, classes: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return labels of which a ``share`` is another class, and which these are, bool [N]."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.zeros(len(targets), dtype=torch.bool)
    wrong[torch.randperm(len(targets), generator=generator)[: round(share * len(targets))]] = True
    shift = torch.randint(1, classes, targets.shape, generator=generator)
    return torch.where(wrong, (targets + shift) % classes, targets), wrong


def teacher_of(context: Context, name: str, epochs: int) -> Extractor:
    """Train a teacher on the labels of ``context``."""
    torch.manual_seed(0)
    options = TeacherOptions(epochs=epochs, batch=64, optimizer="adamw", lr=1e-2, schedule="one_cycle")
    module, _ = fit_teacher(context, name, context.network(name), options, 0, None)
    return Extractor(name, frozen(module.network), context.data.side, pretrained=False)


def case(inputs: Tensor, targets: Tensor, groups: Tensor, wrong: Tensor, classes: int) -> dict[str, object]:
    """Measure how many of the ``wrong`` labels are found with the features ``inputs``."""
    began = time.perf_counter()
    probabilities = out_of_fold(inputs, targets, groups, classes)
    order = doubtful_order(probabilities, targets)[: int(wrong.sum())]
    listed = suspects(probabilities, targets)[0][: math.ceil(LISTED * len(targets))]
    return {
        "top": round(float(wrong[order].float().mean()), 3),
        "listed": len(listed),
        "precision": round(float(wrong[listed].float().mean()), 3) if len(listed) else None,
        "recall": round(float(wrong[listed].sum() / wrong.sum()), 3),
        "seconds": round(time.perf_counter() - began, 1),
    }


def sampled(data: Splits, pictures: int | None) -> Splits:
    """Return the data set with a random choice of its train pictures."""
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:pictures].sort().values
    return replace(data, train=data.train.part(chosen))


def main() -> None:
    """Parse the arguments, flip labels, and print a table with a row for each network and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("--side", type=int, default=32, help="height and width of the images in pixels")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--pictures", type=int, help="train pictures, drawn at random")
    parser.add_argument("--share", type=float, default=0.05, help="share of labels that are flipped")
    parser.add_argument("--seeds", type=int, default=3, help="number of choices of the flipped labels")
    parser.add_argument("--teachers", type=int, default=1, help="number of these that a teacher is trained for too")
    parser.add_argument("--teacher", default="convnet_narrow")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the teacher")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    options = parser.parse_args()
    data = sampled(read_folder(options.root, options.side, channels=options.channels), options.pictures)
    groups, classes, cases = known_duplicates(data.train), len(data.classes), []
    every = torch.arange(len(data.train))
    pretrained, began = Extractor.with_weights(Context(data), []), time.perf_counter()
    inputs = pretrained.features(Context(data), every) if pretrained else torch.empty(0)
    print(f"{len(data.train)} pictures, features of ImageNet weights: {time.perf_counter() - began:.1f} s", flush=True)
    for seed in range(options.seeds):
        labels, wrong = flipped(data.train.targets, classes, options.share, seed)
        context = Context(replace(data, train=replace(data.train, targets=labels)))
        known = [(pretrained, inputs)] if pretrained else []
        if seed < options.teachers:
            teacher = teacher_of(context, options.teacher, options.epochs)
            known.append((teacher, teacher.features(context, every)))
        for extractor, found in known:
            measured = case(found, labels, every if groups is None else groups, wrong, classes)
            cases.append(measure.printed({"network": extractor.name, "seed": seed, **measured}))
    measure.report("flipped labels among the most doubtful", measure.machine("cpu"), cases, options.json)


if __name__ == "__main__":
    main()
