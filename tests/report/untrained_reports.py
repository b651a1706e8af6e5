"""Reports of sets that every method distils, by networks that are not trained: nothing in them takes long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

import infer
from infer.core.options import BudgetOptions, LabelOptions, UFCOptions
from infer.data import Splits
from infer.data.summary import summarise
from infer.distilled import DistilledSet
from infer.pipeline.set_options import SetOptions
from infer.report import page
from infer.report.analysis import REPORTED, AnalysisInputs, Compression, ReportArrays, analyse
from infer.report.file_facts import with_file_numbers
from infer.report.options import ReportOptions
from infer.report.verdict import decide

SIDE, EACH, IPC = 16, 30, 10

BUDGETS = {
    "raw": BudgetOptions(by="bytes", fill=True),
    "coded": BudgetOptions(by="bytes", fill=True, codec="webp"),
    "filled": BudgetOptions(fill=True),
    "infer": BudgetOptions(),
    "auto": BudgetOptions(by="bytes", fill=True, codec="webp", quality=60),
}
"""The budgets of conf/budget; that of auto as its search left it."""

CHOICES = [{"budget.quality": 40, "accuracy": 0.5}, {"budget.quality": 60, "accuracy": 0.75}]


def splits(names: Sequence[str], each: int = EACH, test: Sequence[int] | None = None) -> Splits:
    """Build stripes of 16 x 16 pixels, whose frequency tells the class: ``each`` train pictures a class."""
    draw = torch.Generator().manual_seed(0)

    def pictures(counts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        targets = torch.arange(len(names)).repeat_interleave(torch.tensor(counts))
        waves = torch.sin(torch.arange(SIDE)[None, :, None] * (0.3 + targets[:, None, None] * 0.6)) * 60 + 128
        noise = 30 * torch.randn(len(targets), SIDE, SIDE, generator=draw)
        return (waves + noise).clamp(0, 255).to(torch.uint8)[:, None], targets

    whole = Splits.from_arrays(
        *pictures([each] * len(names)), *pictures([max(count, 1) for count in test or [8] * len(names)]), list(names)
    )
    kept = torch.cat([(whole.test.targets == number).nonzero().flatten() for number in range(len(names))])
    lacking = [number for number, count in enumerate(test or []) if not count]
    kept = kept[~torch.isin(whole.test.targets[kept], torch.tensor(lacking, dtype=torch.int64))]
    return replace(whole, name="stripes", test=whole.test.part(kept))


@cache
def network(seed: int, classes: int) -> nn.Module:
    """Build a network with BatchNorm, its weights as drawn."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(96, classes)).requires_grad_(False).eval()


def distilled(data: Splits, method: str, labels: str, budget: str, ipc: int = IPC) -> DistilledSet:
    """Distil with two untrained teachers and few steps; the settings are in the header, as a run leaves them there."""
    options = SetOptions.of_method(method)
    method_options = {"steps": 2} if method == "sre2l" else options.method.options
    options = replace(
        options,
        ipc=ipc,
        method=replace(options.method, options=method_options),
        budget=BUDGETS[budget],
        labels=LabelOptions(kind="static" if labels == "dynamic" else labels, proxy_steps=2),
        ufc=UFCOptions(steps=2),
    )
    teachers = [network(seed, len(data.classes)) for seed in (1, 2)]
    made = infer.distill(data, teachers, options=options, trainer=infer.TrainerOptions(accelerator="cpu"))
    settings = json.loads(json.dumps(asdict(options)))
    if budget == "auto":
        settings["budget"]["choices"] = {"budget": {"quality": [40, 60, 75], "codec": None}, "labels": {"share": None}}
    header = replace(made.header, provenance={"settings": settings})
    if labels == "dynamic":
        return replace(made, labels=None, header=replace(header, labels="dynamic", label_bytes=1000))
    return replace(made, header=header)


def report(
    data: Splits, made: DistilledSet, seeds: int = 1, budget: str = "infer", **other: Any
) -> tuple[dict[str, Any], ReportArrays]:
    """Analyse a set, and build the content of its result.json."""
    count, settings = len(data.classes), made.header.provenance["settings"]
    students = {
        source: [network(10 * number + seed, count) for seed in range(seeds)] for number, source in enumerate(REPORTED)
    }
    options = BUDGETS[budget]
    compression = Compression(options.codec, options.quality)
    baseline = distilled(data, "random", "hard", "infer", ipc=3)
    cpu = torch.device("cpu")
    found, arrays = analyse(AnalysisInputs(data, made, baseline, students, network(1, count), cpu, False, compression))
    result = {
        "dataset": data.name,
        "classes": count,
        "train_pictures": data.train.targets.bincount(minlength=count).tolist(),
        "method": settings["method"]["name"],
        "ipc": settings["ipc"],
        "labels": made.header.labels,
        "budget": {key: value for key, value in settings["budget"].items() if key != "choices"},
        "command": "python distill.py",
        "bytes": asdict(made.ledger(settings["ipc"], data.train_bytes, len(made.to_bytes()))),
        "images": {"composed_per_class": len(made.pairs) // count},
        "students": [_row(source, seeds, count) for source in ("distilled", "random", "real")],
        "teachers": {"resnet18.a1_in1k": {"accuracy": 0.5}},
        "seconds": {"teachers": 1.0, "distill": 2.0, "assemble": 3.0},
        "choices": [{**choice, "naturals": 5, "labels": 9, "seconds": 1.0} for choice in CHOICES if budget == "auto"],
        "hardware": {"peak_bytes": 10**9},
        "data": summarise(data, None),
        "evidence": {"student": "net", "seeds": seeds, "real_coded": 9000, **found},
        **other,
    }
    return result, arrays


def _row(source: str, seeds: int, classes: int) -> dict[str, Any]:
    scores = {"accuracy_mean": 0.5, "accuracy_std": 0.0, "balanced_accuracy": 0.5, "macro_f1": 0.4}
    facts = {"recall": [0.5] * classes, "seeds": seeds, "seconds": 2.0, "steps": 10, "bytes": 4321}
    return {"backbone": "net", "source": source, **scores, **facts, "weights": ["net/student.safetensors"] * seeds}


def written(
    result: dict[str, Any], arrays: ReportArrays, made: DistilledSet, folder: Path, language: str = "en"
) -> tuple[dict[str, Any], str]:
    """Write the page; return the numbers that it may have, and its text."""
    result = json.loads(json.dumps({**result, **decide(result, ReportOptions(language))}))
    page.write(result, arrays, made, folder / "report.html")
    return with_file_numbers(result, made), (folder / "report.html").read_text(encoding="utf-8")
