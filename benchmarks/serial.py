"""The serial reference: the paper's procedure in plain PyTorch, one compensator at a time, in float32.

It uses the same images, steps, random draws and composition as this package. It omits what the published code spends
besides, such as loading the teachers again for every round. Its networks have PyTorch's default memory layout, and the
statistics are computed by ``torch.var_mean``, which is faster here than the permute and copy of the published code.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infer.core import ufc
from infer.core.batch_norm import batch_norms
from infer.core.options import UFCOptions


def optimise(
    teacher: nn.Module,
    naturals: Tensor,
    targets: Tensor,
    moments: tuple[Tensor, Tensor],
    options: UFCOptions,
    seed: int,
) -> Tensor:
    """Optimise the compensators of K rounds, one after the other.

    Args:
        teacher: network of normalised images.
        naturals: uint8 [K, C, ch, H, W].
        targets: classes, int64 [K, C].
        moments: mean and std float32 [ch] of pixels in 0 to 1.
        options: of the optimisation.
        seed: of the random draws.

    Returns:
        float32 [K, ch, H, W], in normalised units.
    """
    device = naturals.device
    teacher = copy.deepcopy(teacher).to(device, memory_format=torch.contiguous_format)
    layers = batch_norms(teacher)
    mean, std = (moment.to(device) for moment in moments)
    done = []
    for images, classes in zip(naturals.float(), targets, strict=True):
        u = torch.zeros_like(images[0], requires_grad=True)
        adam = torch.optim.Adam([u], options.lr, betas=(0.5, 0.9))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, options.steps)
        for step in range(options.steps):
            torch.default_generator.manual_seed((seed * 1_000_003 + step) * 4099)
            shift = torch.randint(options.jitter + 1, (2,)).tolist()
            composed = ufc.normalise(ufc.compose(images, ufc.stored(u, std)), mean, std).roll(shift, dims=(-2, -1))
            adam.zero_grad()
            loss(teacher, layers, composed, classes, options).backward()
            adam.step()
            schedule.step()
        done.append(u.detach())
    return torch.stack(done)


def loss(teacher: nn.Module, layers: list[nn.Module], images: Tensor, classes: Tensor, options: UFCOptions) -> Tensor:
    """Compute the objective of one round."""
    distances: list[Tensor] = []

    def measure(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        variance, mean = torch.var_mean(args[0], dim=(0, 2, 3), correction=0)
        weight = 1.0 if distances else options.first_weight
        distances.append(weight * ((mean - layer.running_mean).norm() + (variance - layer.running_var).norm()))

    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    entropy = F.cross_entropy(teacher(images), classes)
    for hook in hooks:
        hook.remove()
    return entropy + options.bn_weight * sum(distances)
