"""The probability below which a predicted class counts as unsure, chosen on held-out pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from infer.data import Pictures, Streamed

WANTED = 0.95
"""Accuracy among the held-out pictures that are not flagged as unsure, where a threshold reaches it."""

_MOST = 2000
"""Held-out pictures that are looked at; more would hardly move the threshold."""

_BATCH = 64


@torch.no_grad()
def held_out_threshold(student: nn.Module, pictures: Pictures | Streamed, device: torch.device) -> float | None:
    """Return :func:`unsure_below` of pictures that the student was not trained on.

    Args:
        student: takes uint8 images [B, ch, H, W] and returns logits [B, C]; in eval mode, on ``device``.
        pictures: of which at most 2,000 are taken, evenly spaced.
        device: of the passes.
    """
    positions = torch.arange(len(pictures))
    if len(pictures) > _MOST:
        positions = torch.linspace(0, len(pictures) - 1, _MOST).long()
    confidences, correct = [], []
    for batch in positions.split(_BATCH):
        images, targets = pictures[batch]
        confidence, predicted = student(images.to(device)).softmax(1).cpu().max(1)
        confidences.append(confidence)
        correct.append(predicted == targets)
    return unsure_below(torch.cat(confidences), torch.cat(correct))


def unsure_below(confidences: Tensor, correct: Tensor, wanted: float = WANTED) -> float | None:
    """Return the lowest confidence such that of the pictures with at least that much, the share ``wanted`` is correct.

    Where all pictures together reach that share, it is the lowest confidence among them.

    Args:
        confidences: largest probability of each picture, float [N].
        correct: whether its class is the true one, bool [N].
        wanted: accuracy in 0 to 1.

    Returns:
        The confidence of one of the pictures; None where no confidence gives that accuracy.

    Example:
        >>> unsure_below(torch.tensor([0.25, 0.5, 0.75, 0.875]), torch.tensor([True, False, True, True]))
        0.75
    """
    order = confidences.argsort(descending=True)
    ordered = confidences[order]
    share = correct[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    last = torch.cat([ordered[:-1] > ordered[1:], torch.ones(1, dtype=torch.bool)])  # equal ones go together
    reached = ordered[last & (share >= wanted)]
    return float(reached[-1]) if len(reached) else None
