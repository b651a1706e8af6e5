r"""Universal Feature Compensators: the method of the paper in one file (Zhang et al., ICLR 2025, arXiv 2408.06927).

A compensator :math:`u` is an image-sized tensor. It is added to one natural image of *every* class, and it is optimised
against one frozen teacher :math:`f`, so that the composed images keep their classes and their features keep the
statistics of the real data. For the natural images :math:`P = (x_1, ..., x_C)` of a round and their classes
:math:`y_1, ..., y_C`:

.. math::
    \tilde x_c = \mathrm{clip}(x_c + u), \qquad
    u^* = \arg\min_u \frac{1}{C} \sum_c \mathrm{CE}(f(\tilde x_c), y_c)
        + \alpha \sum_l w_l \left( \lVert \mu_l(\tilde x) - \mu_l^{BN} \rVert_2
        + \lVert \sigma_l^2(\tilde x) - \sigma_l^{2,BN} \rVert_2 \right)

Here alpha is ``bn_weight``, and w_l is ``first_weight`` for the first layer and 1 for the others. Each step also
jitters the images, and u is rounded to what a file stores.

Shapes: K rounds, C images per round, ch channels, H x W pixels. Images are in pixel *levels* (0 to 255), compensators
in the teacher's *normalised* units (levels over 255 and the channel's std). Rounds do not interact: the gradient of the
sum of their losses is, for each :math:`u`, that of its own round.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from infer.core.augment import Transform, random_transform
from infer.core.batch_norm import Moments, RoundMoments, batch_norms, bn_distance, pooled
from infer.core.options import UFCOptions

STEP = 2
"""Pixel levels of a stored step: 8 signed bits span -254 to 254, black to white; composed images have whole levels."""


def quantise(compensators: Tensor, std: Tensor) -> Tensor:
    """Round ``compensators`` float [K, ch, H, W] to the int8 steps that a file stores; ``std`` [ch] normalises."""
    return _steps(compensators, std).round().to(torch.int8)


def stored(compensators: Tensor, std: Tensor) -> Tensor:
    """Return ``compensators`` as a reader gets them, in pixel levels, with a straight-through gradient."""
    steps = _steps(compensators, std)
    return STEP * (steps + (steps.round() - steps).detach())


def _steps(compensators: Tensor, std: Tensor) -> Tensor:
    return (compensators * (255 / STEP * std.view(-1, 1, 1))).clamp(-127, 127)


def compose(naturals: Tensor, levels: Tensor) -> Tensor:
    """Compute clip(P + u). The arguments broadcast, both in pixel levels; integers give integers."""
    return (naturals + levels).clamp(0, 255)


def normalise(levels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn pixel levels [..., ch, H, W] of any dtype into a network's float32 input; ``mean`` and ``std`` are [ch]."""
    return levels.float().sub(255 * mean.view(-1, 1, 1)).div(255 * std.view(-1, 1, 1))


class Terms(NamedTuple):
    """The objective of each round and its two terms, float32 [K] each."""

    loss: Tensor
    cross_entropy: Tensor
    bn: Tensor


class Objective(nn.Module):
    r"""The loss above, for each round, against one frozen ``teacher``.

    The moments are taken over the images and the space of a round, in float32 whatever the precision of the pass. No
    gradient of a weight is computed. Images that do not fit one pass may come in parts, with the same gradient:
    :meth:`moments` of each part, :func:`pooled`, then each part with its ``share`` and the ``known`` moments.
    """

    def __init__(self, teacher: nn.Module, bn_weight: float, first_weight: float) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(teacher).requires_grad_(False).eval()  # a copy, because it gets hooks
        self.bn_weight, self.first_weight = bn_weight, first_weight
        self._rounds, self._share = 1, 1.0
        self._known: list[Moments] | None = None
        self._measured: list[tuple[_BatchNorm, Moments]] = []
        for layer in batch_norms(self.teacher):
            layer.register_forward_pre_hook(self._measure)

    def _measure(self, layer: _BatchNorm, args: tuple[Tensor, ...]) -> None:
        known = self._known[len(self._measured)] if self._known else None
        with torch.autocast(args[0].device.type, enabled=False):  # it would take the products in 16 bits
            moments = RoundMoments.apply(args[0].float(), layer.running_mean, self._rounds, self._share, known)
        self._measured.append((layer, Moments(*moments)))

    def _pass(
        self, images: Tensor, share: float, known: list[Moments] | None
    ) -> tuple[Tensor, list[tuple[_BatchNorm, Moments]]]:
        self._rounds, self._share, self._known, self._measured = images.shape[0], share, known, []
        logits = self.teacher(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        measured, self._measured = self._measured, []
        return logits.float(), measured

    @torch.no_grad()
    def moments(self, images: Tensor) -> list[Moments]:
        """Return the moments of each layer, in forward order, for normalised ``images`` float [K, c, ch, H, W]."""
        return [moments for _, moments in self._pass(images, 1.0, None)[1]]

    def forward(self, images: Tensor, targets: Tensor, share: float = 1.0, known: list[Moments] | None = None) -> Terms:
        """Compute the terms of normalised ``images`` float [K, c, ch, H, W] and ``targets`` int64 [K, c].

        For a part, the cross-entropy is its part of the mean and the distance is that of the whole round.
        """
        logits, measured = self._pass(images, share, known)
        entropy = F.cross_entropy(logits, targets.flatten(), reduction="none").view(len(images), -1).mean(dim=1)
        distances = [bn_distance(layer, moments) for layer, moments in measured]
        bn = self.first_weight * distances[0] + sum(distances[1:])
        return Terms(share * entropy + self.bn_weight * bn, share * entropy, bn)


class Problem:
    """K rounds against one teacher: what :func:`optimise` minimises, and its gradient in micro-batches.

    ``naturals`` uint8 [K, C, ch, H, W]; ``targets`` int64 [K, C]; ``mean`` and ``std`` as in :func:`normalise`.
    """

    def __init__(
        self, teacher: nn.Module, naturals: Tensor, targets: Tensor, options: UFCOptions, mean: Tensor, std: Tensor
    ) -> None:
        self.objective = Objective(teacher, options.bn_weight, options.first_weight)
        self.naturals, self.targets, self.options = naturals, targets, options
        self.mean, self.std = mean, std

    def to(self, device: torch.device) -> Problem:
        """Move the teacher and the images to ``device``."""
        self.objective.to(device)
        self.naturals, self.targets = self.naturals.to(device), self.targets.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def zeros(self) -> Tensor:
        """Return the start of the optimisation: u = 0, float32 [K, ch, H, W]."""
        return torch.zeros(len(self.naturals), *self.naturals.shape[2:], device=self.naturals.device)

    def optimiser(self, u: nn.Parameter) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return Adam(0.5, 0.9) and its cosine schedule; Adam is elementwise, so rounds stay independent."""
        adam = torch.optim.Adam([u], self.options.lr, betas=(0.5, 0.9))
        return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.options.steps)

    def draw_transform(self) -> Transform:
        """Draw what one step does to all its images [..., ch, H, W]."""
        return random_transform(self.options.jitter, self.options.resized_crop, self.naturals.shape[-1])

    def composed(self, u: Tensor, rounds: slice, classes: slice) -> Tensor:
        """Return the composed images of those rounds and classes, float [rounds, classes, ch, H, W], normalised."""
        naturals = self.naturals[rounds, classes].float()
        levels = compose(naturals, stored(u[rounds], self.std).unsqueeze(1))
        return normalise(levels, self.mean, self.std)

    def add_gradient(
        self,
        u: Tensor,
        rounds: slice,
        transform: Transform,
        chunk: int,
        backward: Callable[[Tensor], None] = Tensor.backward,
        objective: Callable[..., Terms] | None = None,
    ) -> Terms:
        """Add the gradient of ``rounds`` to ``u.grad``, ``chunk`` images of each round per pass; return their terms.

        A chunk below C takes two forward passes instead of one; the gradient stays exact.
        """
        objective = objective or self.objective
        classes = self.targets.shape[1]
        parts = [slice(i, i + chunk) for i in range(0, classes, chunk)]
        if len(parts) == 1:
            terms = objective(transform(self.composed(u, rounds, parts[0])), self.targets[rounds])
            backward(terms.loss.sum())
            return Terms(*(term.detach().clone() for term in terms))
        shares = [len(range(classes)[part]) / classes for part in parts]
        with torch.no_grad():
            known = pooled(
                (share, self.objective.moments(transform(self.composed(u, rounds, part))))
                for share, part in zip(shares, parts, strict=True)
            )
        entropy = torch.zeros((), device=u.device)
        for share, part in zip(shares, parts, strict=True):
            images = transform(self.composed(u, rounds, part))
            terms = objective(images, self.targets[rounds, part], share, known)
            backward(terms.loss.sum())
            entropy = entropy + terms.cross_entropy.detach()
        bn = terms.bn.detach().clone()
        return Terms(entropy + self.options.bn_weight * bn, entropy, bn)


def optimise(
    teacher: nn.Module,
    naturals: Tensor,
    targets: Tensor,
    options: UFCOptions | None = None,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """Optimise the compensators of K rounds against one teacher.

    Args:
        teacher: network with BatchNorm layers, of normalised images; it is copied, frozen and put in eval mode.
        naturals: uint8 [K, C, ch, H, W]: one natural image of each class per round.
        targets: int64 [K, C], their classes.
        options: the paper's if None.
        mean, std: the teacher's normalisation, float32 [ch] of pixels in 0 to 1; zeros and ones if None.
        chunk: images of a round in one pass, to save memory with the same result; all if None.

    Returns:
        u, float32 [K, ch, H, W] in normalised units. The jitter is drawn from torch's global generator.

    Example:
        >>> from infer.models.networks import build
        >>> naturals = torch.randint(256, (2, 3, 1, 8, 8), dtype=torch.uint8)
        >>> teacher = build("convnet_narrow", classes=3, channels=1, side=8)
        >>> optimise(teacher, naturals, torch.arange(3).expand(2, 3), UFCOptions(steps=2)).shape
        torch.Size([2, 1, 8, 8])
    """
    channels = naturals.shape[2]
    mean = torch.zeros(channels) if mean is None else mean
    std = torch.ones(channels) if std is None else std
    problem = Problem(teacher, naturals, targets, options or UFCOptions(), mean, std).to(naturals.device)
    u = nn.Parameter(problem.zeros())
    optimiser, schedule = problem.optimiser(u)
    for _ in range(problem.options.steps):
        u.grad = torch.zeros_like(u)
        problem.add_gradient(u, slice(None), problem.draw_transform(), chunk or targets.shape[1])
        optimiser.step()
        schedule.step()
    return u.detach()
