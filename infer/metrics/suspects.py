"""Labels that look wrong: every picture is predicted by a classifier that has not seen its label."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from infer.core.progress import track

_FOLDS, FEWEST = 5, 3
"""Folds of the cross-validation, and the fewest different pictures of a class that is judged."""

_LEARNT = 10_000
"""Pictures that the classifier of a fold learns from at most: more take longer, and improve it little."""


_STRENGTH = 2
"""Inverse strength of the L2 penalty, scikit-learn's C. Weaker penalties fit wrong labels."""

TIMES = 2
"""How many times as probable as the class of its label another class is for a picture that is doubtful."""


def judged_classes(targets: Tensor, groups: Tensor, classes: int) -> Tensor:
    """Return which classes have enough pictures to be judged, bool [C]; near-duplicates count as one."""
    return _different(targets, groups, classes) >= FEWEST


def out_of_fold(features: Tensor, targets: Tensor, groups: Tensor, classes: int, seed: int = 0) -> Tensor:
    """Predict every picture by a classifier of the others: a stratified cross-validation.

    The classifier is a logistic regression on standardised features, scaled to length 1. It is fitted to a random
    sample of 10,000 pictures where there are more. Near-duplicates share a fold: no picture is predicted from its copy.

    Args:
        features: of the pictures, float32 [N, D].
        targets: their labels, int64 [N].
        groups: group number of each picture, int64 [N]; near-duplicates have the same.
        classes: number of classes C.
        seed: of the folds and of the samples.

    Returns:
        Probabilities float32 [N, C]. The row of a picture that cannot be judged is NaN: its class has fewer than three
        different pictures, or none outside its fold.

    Example:
        >>> features = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [5.3]])
        >>> targets = torch.tensor([0, 0, 0, 1, 1, 1, 0])
        >>> found = out_of_fold(features, targets, torch.arange(7), classes=2)
        >>> found.argmax(1).tolist()
        [0, 0, 0, 1, 1, 1, 1]
    """
    from sklearn.model_selection import StratifiedGroupKFold

    found = torch.full((len(targets), classes), torch.nan)
    different = _different(targets, groups, classes)
    judged = (different >= FEWEST)[targets].nonzero().flatten()
    if len(targets[judged].unique()) < 2:
        return found
    folds = min(_FOLDS, int(different[different >= FEWEST].min()))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = splitter.split(judged.numpy(), targets[judged].numpy(), groups[judged].numpy())
    generator = torch.Generator().manual_seed(seed)
    for others, own in track(list(parts), "cross-validation"):
        learnt = judged[others]
        learnt = learnt[_sample(targets[learnt], generator)]
        _predict(found, features, targets, learnt, judged[own])
    return found


def _different(targets: Tensor, groups: Tensor, classes: int) -> Tensor:
    """Count the groups of pictures of each class, int64 [C]."""
    return torch.stack([targets, groups]).unique(dim=1)[0].bincount(minlength=classes)


def _sample(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Return random positions, at most those that a classifier learns from: as large a part of each class, and one."""
    order = torch.randperm(len(targets), generator=generator)
    by_class, counts = targets[order].argsort(stable=True), targets.bincount()
    rank = torch.cat([torch.arange(count) / count for count in counts.tolist() if count])
    return order[by_class[rank.argsort(stable=True)[:_LEARNT]]]


def _predict(found: Tensor, features: Tensor, targets: Tensor, learnt: Tensor, own: Tensor) -> None:
    """Write the probabilities of the pictures ``own``, by a classifier of the pictures ``learnt``, into ``found``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    known = targets[learnt].unique()
    own = own[torch.isin(targets[own], known)]
    if len(known) < 2 or not len(own):
        return
    # Of length 1, no picture is far from the others, and none has a certain prediction because a feature is odd.
    classifier = make_pipeline(StandardScaler(), Normalizer(), LogisticRegression(C=_STRENGTH, max_iter=200))
    with warnings.catch_warnings():  # a classifier that is nearly fitted ranks as well
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features[learnt].numpy(), targets[learnt].numpy())
    rows = torch.zeros(len(own), found.shape[1])
    rows[:, known] = torch.from_numpy(classifier.predict_proba(features[own].numpy())).float()
    found[own] = rows


def doubtful_order(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the positions of the judged pictures, int64, the one whose label has the lowest probability first."""
    own = probabilities.gather(1, targets[:, None])[:, 0]
    return own.argsort(stable=True)[: int(own.isfinite().sum())]  # NaN are last


def suspects(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Find the pictures that another class than that of their label is twice as probable for.

    Args:
        probabilities: of :func:`out_of_fold`, float32 [N, C].
        targets: labels, int64 [N].

    Returns:
        Their positions, int64 [M], in the order of :func:`doubtful_order`, and the most probable class of each, int64
        [M].

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]])
        >>> suspects(probabilities, torch.tensor([0, 1, 1, 0]))
        (tensor([3]), tensor([1]))
    """
    order = doubtful_order(probabilities, targets)
    own = probabilities[order].gather(1, targets[order, None])[:, 0]
    highest, other = probabilities[order].max(dim=1)
    found = highest >= TIMES * own
    return order[found], other[found]
