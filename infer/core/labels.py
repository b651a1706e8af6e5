"""Soft labels of several teachers, and the student's loss against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_COARSE = 256
"""Magnitude from which on float16 has steps of 1/4 and more."""


def average(logits: Tensor, space: str, temperature: float) -> Tensor:
    """Average the labels of several teachers.

    In the space of ``logits`` (the paper's) a teacher with larger logits dominates; in that of ``probabilities`` each
    softmax counts alike and the mean is a distribution.

    Args:
        logits: float [M, B, C], of M teachers.
        space: ``logits`` or ``probabilities``.
        temperature: of each softmax in the space of probabilities.

    Returns:
        [B, C] in that space.
    """
    if space == "logits":
        return logits.mean(dim=0)
    return (logits / temperature).softmax(dim=-1).mean(dim=0)


def distribution(labels: Tensor, space: str, temperature: float) -> Tensor:
    """Turn ``labels`` [B, C] of :func:`average` into the probabilities [B, C] that a student is to match."""
    return (labels / temperature).softmax(dim=-1) if space == "logits" else labels


def stored_labels(labels: Tensor, space: str) -> Tensor:
    """Round labels to float16, as a file stores them, without a change of what they mean.

    From 256 on, float16 has steps of 1/4 and more, and it ends at 65,504. Logits of an image that go so far are
    shifted: the largest becomes 0, near which the steps are small. No softmax changes by that, nor does one of mixed
    logits. A logit that is then below -65,504 gets this value: its probability is 0 in either case. Probabilities need
    no shift: what float16 takes from them all is less than a reader tolerates.

    Args:
        labels: finite, of :func:`average`, float32 [N, C].
        space: ``logits`` or ``probabilities``.

    Returns:
        float16 [N, C], finite.

    Example:
        >>> import torch
        >>> stored_labels(torch.tensor([[3.0, 1.0], [70003.0, 70001.0], [9e9, 0.0]]), "logits").tolist()
        [[3.0, 1.0], [0.0, -2.0], [0.0, -65504.0]]
    """
    if space == "logits":
        coarse = labels.abs().amax(dim=1, keepdim=True) >= _COARSE
        labels = torch.where(coarse, labels - labels.amax(dim=1, keepdim=True), labels)
        labels = labels.clamp(min=torch.finfo(torch.float16).min)
    return labels.half()


def distillation_loss(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    r"""Compute the loss of a student against soft labels (Hinton et al. 2015).

    .. math:: T^2 \cdot \mathrm{KL}(p \,\Vert\, \mathrm{softmax}(z / T))

    It is the paper's loss up to the factor :math:`T^2`, which keeps the size of gradients; AdamW, the paper's
    optimiser, does not depend on it.

    Args:
        logits: the student's z, float [B, C].
        labels: probabilities p, float [B, C], such as the labels of a :class:`infer.DistilledSet`.
        temperature: T, such as :attr:`infer.DistilledSet.temperature`.

    Returns:
        The mean over the batch, a scalar.

    Example:
        >>> import torch
        >>> float(distillation_loss(torch.zeros(2, 4), torch.full((2, 4), 0.25), temperature=4.0))
        0.0
    """
    prediction = (logits.float() / temperature).log_softmax(dim=-1)
    return F.kl_div(prediction, labels.float(), reduction="batchmean") * temperature**2


class Ensemble:
    """Frozen teachers that label images together.

    It is no nn.Module, so a student's checkpoint does not contain its teachers.

    Args:
        teachers: networks of normalised images, in eval mode.
        space: see :func:`average`.
        temperature: see :func:`average`.
    """

    def __init__(self, teachers: Sequence[nn.Module], space: str, temperature: float) -> None:
        self.teachers = list(teachers)
        self.space = space
        self.temperature = temperature

    def to(self, device: torch.device) -> Ensemble:
        """Move the teachers to ``device``."""
        for teacher in self.teachers:
            teacher.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Label normalised ``images`` [B, ch, H, W]: [B, C] in the ensemble's space."""
        return average(self.logits(images), self.space, self.temperature)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Return the logits of each teacher for normalised ``images`` [B, ch, H, W]: float32 [M, B, C]."""
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.stack([teacher(images).float() for teacher in self.teachers])
