"""Measuring a network on labelled pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix

from infer.core import ufc
from infer.core.errors import UserError, shown
from infer.data import Pictures, Streamed
from infer.metrics.scores import Scores, scores
from infer.models.weights import require_finite

_BATCH = 500


@torch.no_grad()
def evaluate(
    model: nn.Module, pictures: Pictures | Streamed, mean: Tensor | None = None, std: Tensor | None = None
) -> Scores:
    """Measure how well ``model`` classifies ``pictures``, on the device of its parameters.

    Args:
        model: takes uint8 images [B, ch, H, W], as the modules of :func:`infer.train_student` do; with ``mean`` and
            ``std`` it takes images normalised by them. It returns logits [B, C] and is measured in eval mode.
        pictures: such as ``data.test`` of :class:`infer.Splits`.
        mean, std: float32 [ch] of pixels in 0 to 1.

    Returns:
        Accuracy, balanced accuracy, macro F1 and the recall of each class, in 0 to 1.

    Raises:
        UserError: where mean or std is missing, no network or no pictures are given, or the logits are not finite.

    Reference: scikit-learn's accuracy_score, balanced_accuracy_score, f1_score(average="macro") and recall_score.

    Example:
        >>> import numpy as np, infer
        >>> images, labels = np.zeros((6, 1, 8, 8), dtype=np.uint8), np.array([0, 1, 2, 0, 1, 2])
        >>> data = infer.Splits.from_arrays(images, labels, images, labels)
        >>> class AlwaysOne(torch.nn.Module):
        ...     def forward(self, images):
        ...         return torch.tensor([0.0, 1.0, 0.0]).expand(len(images), 3)
        >>> infer.evaluate(AlwaysOne(), data.test).recall
        [0.0, 1.0, 0.0]
    """
    _require_arguments(model, pictures, mean, std)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    confusion = torch.zeros((), dtype=torch.int64)
    try:
        for positions in torch.arange(len(pictures)).split(_BATCH):
            images, targets = pictures[positions]
            images = images.to(device)
            if mean is not None and std is not None:
                images = ufc.normalise(images, mean.to(device), std.to(device))
            logits = model(images)
            require_finite(type(model).__name__, logits)
            confusion = confusion + multiclass_confusion_matrix(logits.argmax(dim=1).cpu(), targets, logits.shape[1])
    finally:
        for module, mode in modes:
            module.training = mode
    return scores(confusion)


def _require_arguments(model: Any, pictures: Any, mean: Tensor | None, std: Tensor | None) -> None:
    """Refuse what cannot be measured."""
    if not isinstance(model, nn.Module):
        raise UserError(f"model={shown(model)}: must be a network, such as infer.train_student returns")
    if not isinstance(pictures, Pictures | Streamed):
        raise UserError("pictures: give pictures with their classes, such as data.test")
    if (mean is None) != (std is None):
        raise UserError("mean, std: give both or neither")
