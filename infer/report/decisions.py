"""The students' decisions: the loss of accuracy, confused classes, margins, and mistakes."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from infer.metrics.boundary import Pair, confused_pairs, flip_rate, margins
from infer.report.inputs import AnalysisInputs

LEVEL = 0.95
"""Confidence level of every interval."""

MIXED_IN = 0.3
"""Weight of an image of a similar class in the flip rate."""

_NORMAL = 1.959964  # quantile of the normal distribution for LEVEL
_THUMBNAILS = 6  # mistakes of a class that are shown


def accuracy_loss(inputs: AnalysisInputs) -> dict[str, Any]:
    """Estimate the accuracy that students lose on the distilled file, compared with the full training set.

    The interval covers two sources of error. The first is the choice of test images: the standard error of the mean
    difference between the two sources, paired by test image. The second is the choice of students: the standard error
    of the difference of their mean accuracies, with Student's t. A single student per source gives no estimate of the
    second.

    Args:
        inputs: The inputs of the analysis. If ``balanced``, every class has the same weight.

    Returns:
        The accuracy of every source (0 to 1) by its name; ``points``, the loss (0 to 1) of "distilled" against "real";
        ``low`` and ``high``, the ends of its interval; and ``balanced``.
    """
    targets = inputs.test.targets
    correct = {source: logits.argmax(-1) == targets for source, logits in inputs.test_logits.items()}
    share = {source: hits.float().mean(0) for source, hits in correct.items()}
    difference = share["real"] - share["distilled"]
    counts = targets.bincount().float()
    weight = 1 / counts[targets] / (counts > 0).sum() if inputs.balanced else torch.ones(()) / len(difference)
    mean = float((weight * difference).sum())
    half = _NORMAL * math.sqrt(float((weight**2 * (difference - mean) ** 2).sum()))
    accuracies = [(weight * correct[source]).sum(1) for source in ("real", "distilled")]
    if (count := len(accuracies[0])) > 1:
        error = math.sqrt(sum(float(each.var()) for each in accuracies) / count)
        half = math.hypot(half, float(stdtrit(2 * count - 2, (1 + LEVEL) / 2)) * error)
    own = {source: float((weight * each).sum()) for source, each in share.items()}
    return {**own, "points": mean, "low": mean - half, "high": mean + half, "balanced": inputs.balanced}


def boundary_statistics(inputs: AnalysisInputs, source: str) -> dict[str, Any]:
    """Describe the decisions of a source's students near the class boundaries.

    Args:
        inputs: The inputs of the analysis.
        source: The source of the students.

    Returns:
        ``confused``, the pairs of classes that are confused most often; ``margin_quarter`` and ``margin_median``,
        quantiles of the margins; and ``turned``, the share of the correct decisions on similar classes that flip when
        an image of the other class is mixed in.
    """
    names = inputs.data.classes
    spread = decision_margins(inputs, source)
    images = torch.cat(inputs.batches(inputs.test.images)).cpu()
    student = inputs.students[source][0]
    flipped = flip_rate(
        lambda some: student(some.to(inputs.device)).cpu(),
        images,
        inputs.test.targets,
        _similar_classes(inputs),
        MIXED_IN,
        seed=0,
    )
    return {
        "confused": [
            {"one": names[pair.one], "other": names[pair.other], "share": pair.share}
            for pair in confused_pairs(_confusion(inputs, source))
        ],
        "margin_quarter": float(spread.quantile(0.25)),
        "margin_median": float(spread.median()),
        "turned": flipped,
    }


def decision_margins(inputs: AnalysisInputs, source: str) -> Tensor:
    """Return the margins of all decisions of a source's students: float32 [S * N]."""
    logits = inputs.test_logits[source]
    return margins(logits.flatten(0, 1), inputs.test.targets.repeat(len(logits)))


def class_mistakes(inputs: AnalysisInputs) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
    """Count, by class, the test images that only the majority of one source's students classifies correctly.

    Args:
        inputs: The inputs of the analysis.

    Returns:
        A dictionary for each class: its ``name``, its number of ``pictures``, how many are ``lost`` (correct for most
        students of "real" and wrong for most of "distilled") and ``won`` (the reverse), the ``recall`` by source, and
        how many lost images are ``shown``. Then these images, uint8 [T, ch, H, W], and their true and predicted
        classes, int64 [T, 2].
    """
    images, targets = inputs.test
    predicted = {source: logits.argmax(-1) for source, logits in inputs.test_logits.items()}
    correct = {source: answers == targets for source, answers in predicted.items()}
    majority = {source: hits.float().mean(0) > 0.5 for source, hits in correct.items()}
    lost, won = majority["real"] & ~majority["distilled"], majority["distilled"] & ~majority["real"]
    taken_for = predicted["distilled"].mode(dim=0).values
    classes, shown = [], []
    for number, name in enumerate(inputs.data.classes):
        own = targets == number
        shown.append((lost & own & (taken_for != number)).nonzero().flatten()[:_THUMBNAILS])
        counts = {"pictures": int(own.sum()), "lost": int((lost & own).sum()), "won": int((won & own).sum())}
        recall = {
            source: float(hits[:, own].float().mean()) if own.any() else float("nan")
            for source, hits in correct.items()
        }
        classes.append({"name": name, **counts, "recall": recall, "shown": len(shown[-1])})
    positions = torch.cat(shown)
    return classes, images[positions], torch.stack([targets[positions], taken_for[positions]], dim=1)


def _confusion(inputs: AnalysisInputs, source: str) -> Tensor:
    """Compute the confusion matrix over all students of a source: int64 [C, C]."""
    logits = inputs.test_logits[source]
    targets = inputs.test.targets.repeat(len(logits))
    return multiclass_confusion_matrix(logits.argmax(-1).flatten(), targets, len(inputs.data.classes))


def _similar_classes(inputs: AnalysisInputs) -> list[Pair]:
    """Return the classes that students of "real" confuse; if they confuse none, those that "distilled" has confused."""
    return confused_pairs(_confusion(inputs, "real")) or confused_pairs(_confusion(inputs, "distilled"))
