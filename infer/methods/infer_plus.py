"""Ours: bytes go where they teach most. Naturals lie under a codec; labels are of views; and of several candidates for
each view the one is stored that a student of other views still gets wrong.

The first is budget/, the second labels/, and each can be switched alone; the third is here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from infer.methods.random import naturals  # no other order did better (docs/results/choices.md)

__all__ = ["misses", "most_telling", "naturals"]


def misses(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """How far a scout is from the teachers' ``labels`` [B, C] (probabilities at ``temperature``), given its ``logits``
    [B, C]: KL(label || softmax(logits / temperature)) of each, float32 [B]."""
    prediction = (logits / temperature).log_softmax(dim=1)
    return F.kl_div(prediction, labels.to(logits.device), reduction="none").sum(dim=1).cpu()


def most_telling(missed: Tensor) -> Tensor:
    """Of the candidates of each view, ``missed`` [candidates, V], the one missed most: int64 [V]."""
    return torch.argmax(missed, dim=0)
