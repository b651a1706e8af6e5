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
    """Mean and biased variance of a layer's input, for each round and channel: float32 [K, channels] each.

    The mean is given as its ``offset`` from the layer's running mean, because float32 holds a small difference of two
    large means only before it is added to one of them.
    """

    offset: Tensor
    variance: Tensor


class RoundMoments(torch.autograd.Function):
    """Compute :class:`Moments` of ``inputs`` float32 [K * c, channels, ...], a ``share`` of the images of each round.

    ``running_mean`` float32 [channels] is a constant. It is subtracted before anything is summed or squared: in float32
    the mean of squares less the square of the mean loses the variance beside a large mean.

    A share below 1 comes with the ``known`` moments of the whole rounds: these are returned, and the gradient is the
    part's own. The reductions and the backward pass go over the memory as it lies; torch.var_mean over dimensions that
    are not neighbours takes fifteen times as long on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, running_mean: Tensor, rounds: int, share: float, known: Moments | None
    ) -> tuple[Tensor, Tensor]:
        """Return offset and variance, [rounds, channels] each."""
        if known is None:
            deviations = inputs.movedim(1, -1).reshape(rounds, -1, inputs.shape[1]) - running_mean
            offset = deviations.mean(dim=1)
            variance = deviations.sub_(offset[:, None]).square_().mean(dim=1)
        else:
            offset, variance = (moment.clone() for moment in known)
        ctx.save_for_backward(inputs, running_mean, offset)
        ctx.share = share
        return offset, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient of the inputs."""
        inputs, running_mean, offset = ctx.saved_tensors
        moved = inputs.movedim(1, -1)
        deviations = moved.reshape(len(offset), -1, inputs.shape[1]) - running_mean
        grad_offset, grad_variance = (grad * ctx.share / deviations.shape[1] for grad in grads)
        slope = 2 * grad_variance
        constant = (grad_offset - slope * offset)[:, None]
        grad = torch.addcmul(constant, deviations, slope[:, None], out=deviations)
        return grad.view(moved.shape).movedim(-1, 1), None, None, None, None


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
        offset = sum(share * part.offset for share, part in zip(shares, layer, strict=True))
        spread = (part.variance + (part.offset - offset).square() for part in layer)
        whole.append(Moments(offset, sum(share * part for share, part in zip(shares, spread, strict=True))))
    return whole


def bn_distance(layer: _BatchNorm, moments: Moments) -> Tensor:
    r"""Compute :math:`\lVert \mu - \mu_{BN} \rVert_2 + \lVert \sigma^2 - \sigma^2_{BN} \rVert_2`, norms not squared.

    Args:
        layer: the BatchNorm layer with the running statistics :math:`\mu_{BN}, \sigma^2_{BN}`.
        moments: :math:`\mu - \mu_{BN}` and :math:`\sigma^2` of the layer's input.

    Returns:
        The distance of each round, float32 [K].
    """
    assert layer.running_var is not None
    return moments.offset.norm(dim=1) + (moments.variance - layer.running_var).norm(dim=1)
