"""The paper's procedure, plainly: one compensator at a time in float32. What our distillation is measured against.

It is told the same images, steps and draws, composes alike, and is spared what the published code wastes besides
(loading the teachers anew for every round). Its networks lie in memory as PyTorch makes them, and the statistics are
``torch.var_mean``, which is faster here than the published permute and copy.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from measure import batch_norms
from torch import Tensor, nn

from infer.core import ufc
from infer.models.modules import UFCOptions


def optimise(
    teacher: nn.Module, naturals: Tensor, targets: Tensor, moments: tuple[Tensor, Tensor], how: UFCOptions, seed: int
) -> Tensor:
    """Compensators float32 [K, ch, H, W] of ``naturals`` uint8 [K, C, ch, H, W], one after the other."""
    device = naturals.device
    teacher = copy.deepcopy(teacher).to(device, memory_format=torch.contiguous_format)
    layers = batch_norms(teacher)
    mean, std = (moment.to(device) for moment in moments)
    done = []
    for images, classes in zip(naturals.float(), targets, strict=True):
        u = torch.zeros_like(images[0], requires_grad=True)
        adam = torch.optim.Adam([u], how.lr, betas=(0.5, 0.9))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, how.steps)
        for step in range(how.steps):
            torch.default_generator.manual_seed((seed * 1_000_003 + step) * 4099)
            shift = torch.randint(how.jitter + 1, (2,)).tolist()
            composed = ufc.normalise(ufc.compose(images, ufc.stored(u, std)), mean, std).roll(shift, dims=(-2, -1))
            adam.zero_grad()
            loss(teacher, layers, composed, classes, how).backward()
            adam.step()
            schedule.step()
        done.append(u.detach())
    return torch.stack(done)


def loss(teacher: nn.Module, layers: list[nn.Module], images: Tensor, classes: Tensor, how: UFCOptions) -> Tensor:
    """The objective of one round."""
    distances: list[Tensor] = []

    def measure(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(args[0], dim=(0, 2, 3), correction=0)
        weight = 1.0 if distances else how.first_weight
        distances.append(weight * ((mean - layer.running_mean).norm() + (variance - layer.running_var).norm()))

    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    entropy = F.cross_entropy(teacher(images), classes)
    for hook in hooks:
        hook.remove()
    return entropy + how.bn_weight * sum(distances)
