"""The students' decisions: the loss of accuracy, confused classes, margins, and mistakes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

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

NORMAL = 1.959964  # quantile of the normal distribution for LEVEL
_THUMBNAILS = 6  # mistakes of a class that are shown


class Difference(NamedTuple):
    """A difference of accuracies (-1 to 1), and the ends of its interval."""

    points: float
    low: float
    high: float


def accuracy_loss(inputs: AnalysisInputs) -> dict[str, Any]:
    """Estimate the accuracy that students lose on the distilled file, compared with the full training set.

    Args:
        inputs: The inputs of the analysis. If ``balanced``, every class has the same weight.

    Returns:
        The accuracy of every source (0 to 1) by its name; ``points``, the loss (0 to 1) of "distilled" against "real";
        ``low`` and ``high``, the ends of its interval; and ``balanced``.
    """
    weight = _weights(inputs)
    own = {source: float((weight * _correct(inputs, source)).sum(1).mean()) for source in inputs.test_logits}
    return {**own, **_difference(inputs, "real", "distilled")._asdict(), "balanced": inputs.balanced}


def gain_over_random(inputs: AnalysisInputs) -> dict[str, float]:
    """Estimate by how much students of the file are more accurate than those of random images of the same bytes.

    Args:
        inputs: The inputs of the analysis. If ``balanced``, every class has the same weight.

    Returns:
        The fields of :class:`Difference`.
    """
    return _difference(inputs, "distilled", "random")._asdict()


def paired_interval(differences: Tensor, weight: Tensor) -> tuple[float, float]:
    """Estimate the interval of a mean difference between two sources, for other test images.

    Two images are added, one that each source alone classifies correctly, with the weight of an average image: the
    interval then has a width where no image is classified differently. This is the adjusted Wald interval for
    paired proportions.

    Args:
        differences: Of the shares of students that classify an image correctly, -1 to 1, float [N].
        weight: Of the images, with the sum 1, float [N].

    Returns:
        The ends of the interval at the level of the report.

    Reference:
        Bonett and Price, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired
        Data, Journal of Educational and Behavioral Statistics 2012.

    Example:
        >>> low, high = paired_interval(torch.zeros(5), torch.full((5,), 0.2))
        >>> round(low, 3), round(high, 3)
        (-0.396, 0.396)
    """
    average = weight.square().sum()  # 1 / the number of equally weighted images whose mean varies as much
    weight = torch.cat([weight, average.expand(2)]) / (1 + 2 * average)
    differences = torch.cat([differences, differences.new_tensor([1, -1])])
    mean = (weight * differences).sum()
    half = NORMAL * (weight * (differences - mean)).square().sum().sqrt()
    return float(mean - half), float(mean + half)


def _difference(inputs: AnalysisInputs, better: str, worse: str) -> Difference:
    """Estimate the mean accuracy of the students of one source minus that of another's.

    The interval covers two sources of error, whose half widths are added in quadrature, on each side. The first is the
    choice of test images, paired between the sources. The second is the choice of students: the standard error
    of the difference of their mean accuracies, with Student's t. A single student per source gives no estimate of the
    second.
    """
    weight = _weights(inputs)
    hits = [_correct(inputs, source) for source in (better, worse)]
    differences = hits[0].mean(0) - hits[1].mean(0)
    mean = float((weight * differences).sum())
    low, high = paired_interval(differences, weight)
    spread = 0.0
    if (count := len(hits[0])) > 1:
        error = math.sqrt(sum(float((weight * each).sum(1).var()) for each in hits) / count)
        spread = float(stdtrit(2 * count - 2, (1 + LEVEL) / 2)) * error
    below, above = math.hypot(mean - low, spread), math.hypot(high - mean, spread)
    return Difference(mean, max(-1.0, mean - below), min(1.0, mean + above))


def _correct(inputs: AnalysisInputs, source: str) -> Tensor:
    """Return whether each student of a source classifies each test image correctly, 1 or 0: float32 [S, N]."""
    return (inputs.test_logits[source].argmax(-1) == inputs.test.targets).float()


def _weights(inputs: AnalysisInputs) -> Tensor:
    """Return the weight of each test image, with the sum 1: float32 [N]."""
    targets = inputs.test.targets
    if not inputs.balanced:
        return torch.full((len(targets),), 1 / len(targets))
    counts = targets.bincount().float()
    return 1 / counts[targets] / (counts > 0).sum()


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
