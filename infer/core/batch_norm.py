"""BatchNorm statistics: what a compensator is matched to (the paper's feature-statistics term)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of ``model`` that carry running statistics."""
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]


class Moments(NamedTuple):
    """Mean and biased variance of a layer's input, for each round and channel: float32 [K, channels] each."""

    mean: Tensor
    variance: Tensor


class RoundMoments(torch.autograd.Function):
    """Compute :class:`Moments` of ``inputs`` float32 [K * c, channels, ...], a ``share`` of the images of each round.

    A share below 1 comes with the ``known`` moments of the whole rounds: these are returned, and the gradient is the
    part's own. The forward pass is two reductions and the backward pass one fused pass over the memory as it lies;
    torch.var_mean over dimensions that are not neighbours takes fifteen times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, rounds: int, share: float, known: Moments | None) -> tuple[Tensor, Tensor]:
        """Return mean and variance, [rounds, channels] each."""
        pixels = inputs.movedim(1, -1).reshape(rounds, -1, inputs.shape[1])
        if known is None:
            mean = pixels.mean(dim=1)
            variance = torch.linalg.vecdot(pixels, pixels, dim=1) / pixels.shape[1] - mean.square()
        else:
            mean, variance = (moment.clone() for moment in known)
        ctx.save_for_backward(inputs, mean)
        ctx.share = share
        return mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the inputs."""
        inputs, mean = ctx.saved_tensors
        moved = inputs.movedim(1, -1)
        pixels = moved.reshape(len(mean), -1, inputs.shape[1])
        grad_mean, grad_variance = (grad * ctx.share / pixels.shape[1] for grad in grads)
        slope = 2 * grad_variance
        grad = torch.addcmul((grad_mean - slope * mean)[:, None], pixels, slope[:, None])
        return grad.view(moved.shape).movedim(-1, 1), None, None, None


def pooled(parts: Iterable[tuple[float, list[Moments]]]) -> list[Moments]:
    """Pool the moments of parts of the rounds into those of whole rounds.

    Args:
        parts: for each part its share of the images, in 0 to 1, and its moments, one entry a layer.

    Returns:
        The moments of the whole rounds, one entry a layer.
    """
    shares, moments = zip(*parts, strict=True)
    whole = []
    for layer in zip(*moments, strict=True):
        mean = sum(share * part.mean for share, part in zip(shares, layer, strict=True))
        spread = (part.variance + (part.mean - mean).square() for part in layer)
        whole.append(Moments(mean, sum(share * part for share, part in zip(shares, spread, strict=True))))
    return whole


def bn_distance(layer: _BatchNorm, moments: Moments) -> Tensor:
    r"""Compute :math:`\lVert \mu - \mu_{BN} \rVert_2 + \lVert \sigma^2 - \sigma^2_{BN} \rVert_2`, norms not squared.

    Args:
        layer: the BatchNorm layer with the running statistics :math:`\mu_{BN}, \sigma^2_{BN}`.
        moments: :math:`\mu, \sigma^2` of the layer's input.

    Returns:
        The distance of each round, float32 [K].
    """
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return (moments.mean - layer.running_mean).norm(dim=1) + (moments.variance - layer.running_var).norm(dim=1)
