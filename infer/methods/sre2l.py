"""SRe2L (Yin et al. 2023): images optimised from noise until a teacher sees their class and its own statistics."""

from __future__ import annotations

import torch
from torch import Tensor

from infer.core import ufc
from infer.core.progress import shown
from infer.methods.selection import Given, Naturals, made


def naturals(
    given: Given, steps: int, lr: float, bn_weight: float, first_weight: float, batch: int, jitter: int
) -> Naturals:
    """Images of the first teacher, in batches of about ``batch``, as many of every class: one of each where classes are
    more.

    The objective is that of infer/ufc.py with the images themselves as variables: cross-entropy and the BatchNorm
    distance of a batch. Kept at 8 bits.
    """
    objective = ufc.Objective(given.teachers[0], bn_weight, first_weight).to(given.device)
    draw = torch.Generator().manual_seed(given.seed)
    rows = torch.arange(given.rows).split(max(1, batch // len(given.picks)))
    images = []
    for number, some in enumerate(rows, 1):
        stage = f"images by sre2l, batch {number} of {len(rows)}"
        images.append(_optimised(given, objective, len(some), draw, steps, lr, jitter, stage))
    return made(given, torch.cat(images).transpose(0, 1))


def _optimised(
    given: Given,
    objective: ufc.Objective,
    rows: int,
    draw: torch.Generator,
    steps: int,
    lr: float,
    jitter: int,
    stage: str,
) -> Tensor:
    """A batch of ``rows`` images of every class: uint8 [rows, C, ch, H, W]."""
    mean, std = (moment.to(given.device).view(-1, 1, 1) for moment in given.data.moments)
    lowest, highest = -mean / std, (1 - mean) / std
    classes = len(given.picks)
    images = torch.randn((1, rows * classes, *given.data.train.shape), generator=draw).to(given.device).requires_grad_()
    targets = torch.arange(classes, device=given.device).repeat(rows)[None]
    optimiser = torch.optim.Adam([images], lr, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in shown(range(steps), stage):
        shift = torch.randint(jitter + 1, (2,), generator=draw).tolist()
        optimiser.zero_grad()
        objective(images.roll(shift, dims=(-2, -1)), targets).loss.sum().backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            images.copy_(images.clamp(lowest, highest))
    levels = ((images.detach() * std + mean) * 255).round().to(torch.uint8).cpu()
    return levels.view(rows, classes, *levels.shape[2:])
