"""A small problem of three rounds, its module, and fits of it."""

from functools import partial
from pathlib import Path

import torch

from infer.core.batch_norm import batch_norms
from infer.core.options import UFCOptions
from infer.core.ufc import Problem
from infer.data.batches import Indices, in_order, loader
from infer.models.compensator import CompensatorModule
from infer.models.networks import build
from infer.models.weights import frozen
from infer.training.fit import fit
from infer.training.options import TrainerOptions

STEPS = 20
ONE = TrainerOptions(accelerator="cpu")
TWO = TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_spawn")


def identity(images: torch.Tensor) -> torch.Tensor:
    return images


def problem(jitter: int = 1, lr: float = 0.25) -> Problem:
    """Three rounds of four classes, grey 8x8 images, against a teacher whose statistics no input matches."""
    torch.manual_seed(0)
    teacher = frozen(build("convnet_narrow", 4, 1, 8))
    for layer in batch_norms(teacher):
        layer.running_mean.normal_()
    naturals = torch.randint(256, (3, 4, 1, 8, 8), dtype=torch.uint8)
    targets = torch.arange(4).expand(3, -1)
    options = UFCOptions(steps=STEPS, lr=lr, jitter=jitter)
    return Problem(teacher, naturals, targets, options, torch.tensor([0.5]), torch.tensor([0.25]))


def module(jitter: int = 1, lr: float = 0.25) -> CompensatorModule:
    return CompensatorModule("t", problem(jitter, lr))


def fitted(
    made: CompensatorModule, folder: Path | None, trainer: TrainerOptions = ONE, name: str = "u"
) -> torch.Tensor:
    """The compensators after all steps."""
    fit(made, loader(Indices(), partial(in_order, STEPS, 1), STEPS), 0, folder, name, trainer)
    return made.u.detach()
