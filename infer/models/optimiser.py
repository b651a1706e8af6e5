"""Optimisers and schedules of weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from infer.models.options import OptimiserOptions


def configured(options: OptimiserOptions, module: nn.Module, steps: int) -> dict[str, Any]:
    """Return optimiser and schedule of ``steps`` steps, in the form of ``configure_optimizers``."""
    optimiser: torch.optim.Optimizer
    if options.optimizer in ("sgd", "nesterov"):
        nesterov = options.optimizer == "nesterov"
        optimiser = torch.optim.SGD(
            module.parameters(), options.lr, momentum=0.9, nesterov=nesterov, weight_decay=options.weight_decay
        )
    elif options.optimizer == "muon":
        from timm.optim import Muon  # takes a second to import

        optimiser = Muon(
            module.parameters(),
            options.lr,
            weight_decay=options.weight_decay,
            nesterov=True,
            capturable=next(module.parameters()).device.type == "cuda",
        )
    else:
        fused = next(module.parameters()).device.type in ("cpu", "cuda")  # a tenth of a small network's step faster
        optimiser = torch.optim.AdamW(module.parameters(), options.lr, weight_decay=options.weight_decay, fused=fused)
    schedule: torch.optim.lr_scheduler.LRScheduler
    if options.schedule == "one_cycle":
        cycle = options.optimizer != "muon"  # whose momentum stays; only AdamW's part for biases would change
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, options.lr, total_steps=max(steps, 5), cycle_momentum=cycle
        )
    else:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
