"""Soft labels of several teachers, and the student's loss against them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def average(logits: Tensor, space: str, temperature: float) -> Tensor:
    """One label from the teachers' ``logits`` [M, B, C]: their mean (the paper), or that of their probabilities.

    In the space of ``logits`` a teacher with larger logits dominates; in that of ``probabilities`` each softmax, at
    ``temperature``, counts alike and the mean is a distribution. Returns [B, C] in that space.
    """
    if space == "logits":
        return logits.mean(dim=0)
    return (logits / temperature).softmax(dim=-1).mean(dim=0)


def distribution(labels: Tensor, space: str, temperature: float) -> Tensor:
    """What the student is to match: probabilities [B, C], from ``labels`` [B, C] of :func:`average`."""
    return (labels / temperature).softmax(dim=-1) if space == "logits" else labels


def distillation_loss(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """KL(target || softmax(student / T)), a batch's mean, times T squared so that gradients keep their size.

    ``student`` logits [B, C], ``target`` probabilities [B, C]. The paper's loss up to that constant, to which AdamW,
    its optimiser, is blind.
    """
    prediction = (student.float() / temperature).log_softmax(dim=-1)
    return F.kl_div(prediction, target.float(), reduction="batchmean") * temperature**2


class Ensemble:
    """Frozen teachers that label images together; no module, so that no student's checkpoint swallows them."""

    def __init__(self, teachers: Sequence[nn.Module], space: str, temperature: float) -> None:
        self.teachers = list(teachers)
        self.space = space
        self.temperature = temperature

    def to(self, device: torch.device) -> Ensemble:
        """Move the teachers."""
        for teacher in self.teachers:
            teacher.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Labels [B, C] of normalised ``images`` [B, ch, H, W], in the ensemble's space."""
        return average(self.logits(images), self.space, self.temperature)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Of every teacher, for normalised ``images`` [B, ch, H, W]: float32 [M, B, C]."""
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.stack([teacher(images).float() for teacher in self.teachers])
