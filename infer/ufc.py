"""Universal Feature Compensators: the method of the paper in one file (its method section; arXiv 2408.06927).

A compensator ``u`` is an image-sized tensor, added to one natural image of *every* class; it is optimised, against one
frozen teacher, so that the composed images keep their classes and their features keep the statistics of the real data.

Tensors in, tensors out. Shapes: K rounds (groups), C images a round, ch channels, H x W pixels. Images are in pixel
*levels* (0 to 255), compensators in the teacher's *normalised* units (levels over 255 and the channel's std), as the
paper has them. Rounds never meet: every result below has one entry a round, and the gradient of their sum is, for each
``u``, the one it would get alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

STEP = 2
"""Pixel levels a stored step stands for: 8 signed bits then span -254 to 254, black to white, and a composed image is
a whole number of levels, that is, itself an 8-bit image."""


def quantise(compensators: Tensor, std: Tensor) -> Tensor:
    """What the file holds of ``compensators`` (float [K, ch, H, W], normalised units): int8 steps, same shape.

    ``std`` is the normalisation's standard deviation a channel, [ch], of pixels in 0 to 1.
    """
    return _steps(compensators, std).round().to(torch.int8)


def stored(compensators: Tensor, std: Tensor) -> Tensor:
    """``compensators`` as they will be read back, in pixel levels; the gradient passes the rounding straight through.

    So what is optimised is what is stored. Shapes as in :func:`quantise`.
    """
    steps = _steps(compensators, std)
    return STEP * (steps + (steps.round() - steps).detach())


def _steps(compensators: Tensor, std: Tensor) -> Tensor:
    return (compensators * (255 / STEP * std.view(-1, 1, 1))).clamp(-127, 127)


def compose(naturals: Tensor, levels: Tensor) -> Tensor:
    """P + u, clipped to what a pixel can hold.

    ``naturals`` and ``levels`` broadcast, both in pixel levels; integers in give integers out.
    """
    return (naturals + levels).clamp(0, 255)


def normalise(levels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixel levels [..., ch, H, W] of any dtype to the teacher's float32 input; ``mean`` and ``std`` are [ch]."""
    return levels.float().sub(255 * mean.view(-1, 1, 1)).div(255 * std.view(-1, 1, 1))


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers of ``model`` that carry running statistics: what a compensator is matched to."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]


class _Moments(torch.autograd.Function):
    """Mean and biased variance of each round and channel, [K, channels], of ``inputs`` float32 [K * C, channels, ...].

    Two reductions forward and one fused pass backward over the memory as it lies; torch.var_mean over dimensions that
    are no neighbours, and its chain of a backward, take fifteen times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
        pixels = inputs.movedim(1, -1).reshape(rounds, -1, inputs.shape[1])
        mean = pixels.mean(dim=1)
        variance = torch.linalg.vecdot(pixels, pixels, dim=1) / pixels.shape[1] - mean.square()
        ctx.save_for_backward(inputs, mean)
        return mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        inputs, mean = ctx.saved_tensors
        moved = inputs.movedim(1, -1)
        pixels = moved.reshape(len(mean), -1, inputs.shape[1])
        grad_mean, grad_variance = (grad / pixels.shape[1] for grad in grads)
        slope = 2 * grad_variance
        grad = torch.addcmul((grad_mean - slope * mean)[:, None], pixels, slope[:, None])
        return grad.view(moved.shape).movedim(-1, 1), None


def bn_distance(inputs: Tensor, layer: _BatchNorm, rounds: int) -> Tensor:
    """Distance of a layer's input statistics to its running ones, one a round: float32 [K].

    ``inputs`` [K * C, channels, ...]; mean and biased variance over the images and the space of each round; the norms
    are Euclidean, not squared. Statistics are taken in float32 whatever the precision of the pass.
    """
    assert layer.running_mean is not None
    assert layer.running_var is not None
    with torch.autocast(inputs.device.type, enabled=False):  # it would take the products in 16 bits
        mean, variance = _Moments.apply(inputs.float(), rounds)
    return (mean - layer.running_mean).norm(dim=1) + (variance - layer.running_var).norm(dim=1)


class Terms(NamedTuple):
    """The objective of each round and its parts, each float32 [K]."""

    loss: Tensor
    cross_entropy: Tensor
    bn: Tensor


def objective(
    teacher: Callable[[Tensor], Tensor],
    layers: list[_BatchNorm],
    images: Tensor,
    targets: Tensor,
    bn_weight: float,
    first_weight: float,
) -> Terms:
    """Cross-entropy plus ``bn_weight`` times the BatchNorm distance, for each round.

    ``teacher`` is frozen and in eval mode, ``layers`` are its :func:`batch_norms`, the first of which to be reached
    counts ``first_weight`` times; ``images`` float [K, C, ch, H, W], normalised; ``targets`` int64 [K, C].
    """
    rounds = images.shape[0]
    distances: list[Tensor] = []

    def measure(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        weight = 1.0 if distances else first_weight
        distances.append(weight * bn_distance(args[0], layer, rounds))  # type: ignore[arg-type]

    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        logits = teacher(images.flatten(0, 1).contiguous(memory_format=torch.channels_last)).float()
    finally:
        for hook in hooks:
            hook.remove()
    entropy = F.cross_entropy(logits, targets.flatten(), reduction="none").view(rounds, -1).mean(dim=1)
    bn = torch.stack(distances).sum(dim=0)
    return Terms(entropy + bn_weight * bn, entropy, bn)
