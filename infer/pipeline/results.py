"""What result.json says of a set and of the machine."""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import asdict
from typing import Any

import torch

from infer.core.identity import as_identity
from infer.core.memory import peak_bytes
from infer.distilled import DistilledSet
from infer.pipeline.assemble import Assembler
from infer.pipeline.invocation import typed_command
from infer.pipeline.options import DistillOptions
from infer.pipeline.update import earlier_file

log = logging.getLogger("infer")


def set_facts(assembler: Assembler, options: DistillOptions, distilled: DistilledSet, size: int) -> dict[str, Any]:
    """Describe a set whose file has ``size`` bytes."""
    data, classes = assembler.context.data, len(distilled.classes)
    views, image = distilled.mixed_views, math.prod(data.train.shape)
    budget = options.set_options(options.method).file_bytes(classes, image)
    return {
        "dataset": data.name,
        "classes": classes,
        "train_pictures": data.train.targets.bincount(minlength=classes).tolist(),
        "test_pictures": data.test.targets.bincount(minlength=classes).tolist(),
        "method": options.method.name,
        "ipc": options.ipc if options.budget.bytes is None else round(budget / classes / image, 4),
        "seed": options.seed,
        "published": options.published,
        "labels": options.labels.kind,
        "budget": {
            **{key: value for key, value in as_identity(options.budget).items() if key != "choices"},
            "label_share": options.labels.share,
        },
        "recipe": {**as_identity(options.recipe.student), "mixing": _mixing(assembler, options)},
        "command": typed_command(),
        "bytes": {**asdict(distilled.ledger(options.ipc, data.train_bytes, size)), "budget": budget},
        "images": {
            "natural_per_class": len(distilled.naturals) / classes,
            "naturals": distilled.natural_targets.bincount(minlength=classes).tolist(),
            "compensators": len(distilled.compensators),
            "composed_per_class": len(distilled.pairs) // classes,
            "views": views.count if views else 0,
            "drawn": set(assembler.naturals.reasons) == {"random"},
        },
        "teachers": {t.name: {"accuracy": t.accuracy, "seconds": t.seconds} for t in assembler.teachers},
        **({} if options.update is None else {"update": earlier_file(options.update).facts(data)}),
    }


def _mixing(assembler: Assembler, options: DistillOptions) -> str:
    """Return how batches are mixed, and which students mix none: the pretrained ones."""
    names = options.students.backbones
    pretrained = [name for name in names if assembler.context.backbone(name).is_pretrained]
    if options.mixing.kind == "none" or len(pretrained) == len(names):
        return "none"
    return f"{options.mixing.kind} (not of {', '.join(pretrained)})" if pretrained else options.mixing.kind


def machine() -> dict[str, Any]:
    """Describe the machine, and the peak of the memory: None, with a word, where the system does not tell it."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    peak, threads = peak_bytes(), torch.get_num_threads()
    if peak is None:
        log.info("%s does not tell the peak of the memory; result.json has null for it", sys.platform)
    return {"gpu": gpu, "cpu_threads": threads, "torch": torch.__version__, "peak_bytes": peak}
