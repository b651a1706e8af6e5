"""Universal Feature Compensators: the method of the paper in one file (its method section; arXiv 2408.06927).

A compensator ``u`` is an image-sized tensor, added to one natural image of *every* class; it is optimised, against one
frozen teacher, so that the composed images keep their classes and their features keep the statistics of the real data.

Tensors in, tensors out. Shapes: K rounds (groups), C images a round, ch channels, H x W pixels. Images are in pixel
*levels* (0 to 255), compensators in the teacher's *normalised* units (levels over 255 and the channel's std), as the
paper has them. Rounds never meet: every result below has one entry a round, and the gradient of their sum is, for each
``u``, the one it would get alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
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


class Moments(NamedTuple):
    """Mean and biased variance of each round and channel of one layer's input: float32 [K, channels] each."""

    mean: Tensor
    variance: Tensor


class _Moments(torch.autograd.Function):
    """:class:`Moments` of ``inputs`` float32 [K * c, channels, ...], a part of ``share`` of every round's images.

    A share below 1 comes with the ``known`` moments of the whole rounds: these are returned, and the gradient is the
    part's own. Two reductions forward and one fused pass backward over the memory as it lies; torch.var_mean over
    dimensions that are no neighbours, and its chain of a backward, take fifteen times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, rounds: int, share: float, known: Moments | None) -> tuple[Tensor, Tensor]:
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
        inputs, mean = ctx.saved_tensors
        moved = inputs.movedim(1, -1)
        pixels = moved.reshape(len(mean), -1, inputs.shape[1])
        grad_mean, grad_variance = (grad * ctx.share / pixels.shape[1] for grad in grads)
        slope = 2 * grad_variance
        grad = torch.addcmul((grad_mean - slope * mean)[:, None], pixels, slope[:, None])
        return grad.view(moved.shape).movedim(-1, 1), None, None, None


def pooled(parts: Iterable[tuple[float, list[Moments]]]) -> list[Moments]:
    """Moments of whole rounds from those of their parts, (share of the images, moments of every layer) each."""
    shares, moments = zip(*parts, strict=True)
    whole = []
    for layer in zip(*moments, strict=True):
        mean = sum(share * part.mean for share, part in zip(shares, layer, strict=True))
        spread = (part.variance + (part.mean - mean).square() for part in layer)
        whole.append(Moments(mean, sum(share * part for share, part in zip(shares, spread, strict=True))))
    return whole


def bn_distance(layer: _BatchNorm, moments: Moments) -> Tensor:
    """Of the moments of a layer's input to its running ones, float32 [K]: Euclidean norms, not squared."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return (moments.mean - layer.running_mean).norm(dim=1) + (moments.variance - layer.running_var).norm(dim=1)


class Terms(NamedTuple):
    """The objective of each round and its parts, each float32 [K]."""

    loss: Tensor
    cross_entropy: Tensor
    bn: Tensor


class Objective(nn.Module):
    """Cross-entropy plus ``bn_weight`` times the BatchNorm distance, for each round, against one frozen ``teacher``.

    The distance is :func:`bn_distance` summed over the layers, the first of which to be reached counts
    ``first_weight`` times; the moments are taken over the images and the space of a round, in float32 whatever the
    precision of the pass. Backpropagation stops at the images: no gradient of a weight is computed.

    Images that do not fit one pass may come in parts, with the same gradient: :meth:`moments` of every part and
    :func:`pooled`, then the objective of every part with its ``share`` and the ``known`` moments.
    """

    def __init__(self, teacher: nn.Module, bn_weight: float, first_weight: float) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(teacher).requires_grad_(False).eval()  # a copy, because it gets hooks
        self.bn_weight, self.first_weight = bn_weight, first_weight
        self._rounds, self._share = 1, 1.0
        self._known: list[Moments] | None = None
        self._met: list[tuple[_BatchNorm, Moments]] = []
        for layer in batch_norms(self.teacher):
            layer.register_forward_pre_hook(self._measure)

    def _measure(self, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        known = self._known[len(self._met)] if self._known else None
        with torch.autocast(args[0].device.type, enabled=False):  # it would take the products in 16 bits
            moments = _Moments.apply(args[0].float(), self._rounds, self._share, known)
        self._met.append((layer, Moments(*moments)))  # type: ignore[arg-type]

    def _pass(
        self, images: Tensor, share: float, known: list[Moments] | None
    ) -> tuple[Tensor, list[tuple[_BatchNorm, Moments]]]:
        self._rounds, self._share, self._known, self._met = images.shape[0], share, known, []
        logits = self.teacher(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        met, self._met = self._met, []
        return logits.float(), met

    @torch.no_grad()
    def moments(self, images: Tensor) -> list[Moments]:
        """Of every layer in the order it is reached, for ``images`` float [K, c, ch, H, W], normalised; no graph."""
        return [moments for _, moments in self._pass(images, 1.0, None)[1]]

    def forward(self, images: Tensor, targets: Tensor, share: float = 1.0, known: list[Moments] | None = None) -> Terms:
        """Terms of ``images`` float [K, c, ch, H, W], normalised, and ``targets`` int64 [K, c].

        For a part, the cross-entropy is its part of the sum; the distance is that of the whole.
        """
        logits, met = self._pass(images, share, known)
        entropy = F.cross_entropy(logits, targets.flatten(), reduction="none").view(len(images), -1).mean(dim=1)
        distances = [bn_distance(layer, moments) for layer, moments in met]
        bn = self.first_weight * distances[0] + sum(distances[1:])
        return Terms(share * entropy + self.bn_weight * bn, share * entropy, bn)
