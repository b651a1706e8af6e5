"""SRe2L (Yin et al. 2023): images optimised from noise until a teacher sees their class and its own statistics."""

from __future__ import annotations

import torch
from torch import Tensor

from infer import ufc
from infer.methods.given import Given, Naturals, made

_IMAGES = 100


def naturals(given: Given, steps: int, lr: float, bn_weight: float, jitter: int) -> Naturals:
    """Images of the first teacher: row after row, each row one image of every class in one batch, as they have it.

    The objective is that of infer/ufc.py with the images themselves as variables: cross-entropy and BatchNorm distance
    of a batch of all classes. Kept at 8 bits.
    """
    classes = len(given.picks)
    objective = ufc.Objective(given.teachers[0], bn_weight, 1.0).to(given.device)
    draw = torch.Generator().manual_seed(given.seed)
    rounds: list[Tensor] = []
    at_once = max(1, _IMAGES // classes)
    for first in range(0, given.rows, at_once):
        rows = min(at_once, given.rows - first)
        rounds.append(_optimised(given, objective, rows, draw, steps, lr, jitter))
    return made(given, torch.cat(rounds).transpose(0, 1))


def _optimised(
    given: Given, objective: ufc.Objective, rows: int, draw: torch.Generator, steps: int, lr: float, jitter: int
) -> Tensor:
    """``rows`` independent batches of an image of every class: uint8 [rows, C, ch, H, W]."""
    mean, std = (moment.to(given.device).view(-1, 1, 1) for moment in given.data.moments)
    lowest, highest = -mean / std, (1 - mean) / std
    shape = (rows, len(given.picks), *given.data.train.shape)
    images = torch.randn(shape, generator=draw).to(given.device).requires_grad_()
    targets = torch.arange(shape[1], device=given.device).expand(rows, -1)
    optimiser = torch.optim.Adam([images], lr, betas=(0.5, 0.9))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        shift = torch.randint(jitter + 1, (2,), generator=draw).tolist()
        optimiser.zero_grad()
        objective(images.roll(shift, dims=(-2, -1)), targets).loss.sum().backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            images.copy_(images.clamp(lowest, highest))
    return ((images.detach() * std + mean) * 255).round().to(torch.uint8).cpu()
