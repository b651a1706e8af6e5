"""Doubtful labels, found by predictions of a classifier that has not seen them."""

import numpy as np
import pytest
import torch

from infer.metrics import suspects as metric
from infer.metrics.suspects import doubtful_order, judged_classes, out_of_fold, suspects


def clouds(each: int, classes: int = 2, dimensions: int = 20, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of classes that lie apart, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(classes).repeat_interleave(each)
    centres = 3 * torch.randn(classes, dimensions, generator=generator)
    return centres[targets] + torch.randn(len(targets), dimensions, generator=generator), targets


@pytest.mark.parametrize("classes", [2, 10])
def test_flipped_labels_of_separate_classes_are_found_and_nothing_else(classes):
    features, targets = clouds(30, classes)
    flipped = torch.tensor([3, 17, 40])
    labels = targets.clone()
    labels[flipped] = (labels[flipped] + 1) % classes
    order, looks_like = suspects(out_of_fold(features, labels, torch.arange(len(labels)), classes), labels)
    assert sorted(order.tolist()) == flipped.tolist()
    assert looks_like.tolist() == targets[order].tolist()


def test_a_clean_set_has_no_suspects():
    features, targets = clouds(30)
    order, _ = suspects(out_of_fold(features, targets, torch.arange(60), 2), targets)
    assert order.tolist() == []


def test_copies_do_not_vouch_for_each_other():
    """Eight copies of one picture, all with the wrong label, of a picture that is far from the others of its class."""
    features, labels = clouds(40, dimensions=400)
    outlier = features[0] + 2 * torch.randn(400, generator=torch.Generator().manual_seed(1))
    features[:8], labels[:8] = outlier, 1
    groups = torch.arange(80)
    found, _ = suspects(out_of_fold(features, labels, groups, 2), labels)
    assert not {*range(8)} & {*found.tolist()}
    groups[:8] = 0
    found, _ = suspects(out_of_fold(features, labels, groups, 2), labels)
    assert {*range(8)} <= {*found.tolist()}


def test_small_classes_have_fewer_folds_and_smaller_ones_are_left_out():
    features, targets = clouds(20, 4)
    kept = torch.cat([torch.arange(43), torch.arange(60, 62)])  # 20, 20, 3 and 2 pictures
    features, targets, groups = features[kept], targets[kept], torch.arange(45)
    assert judged_classes(targets, groups, 4).tolist() == [True, True, True, False]
    found = out_of_fold(features, targets, groups, 4)
    assert found[:43].isfinite().all()
    assert found[:43].sum(1).tolist() == pytest.approx([1.0] * 43, abs=1e-5)
    assert (found[:43, 3] == 0).all()
    assert found[43:].isnan().all()
    assert sorted(doubtful_order(found, targets).tolist()) == [*range(43)]
    groups[41] = groups[42]  # the third class has two different pictures now
    assert judged_classes(targets, groups, 4).tolist() == [True, True, False, False]


def test_nothing_is_judged_where_one_class_is_left():
    features, targets = clouds(4)
    found = out_of_fold(features[:6], targets[:6], torch.arange(6), 2)
    assert found.isnan().all()
    assert [each.tolist() for each in suspects(found, targets[:6])] == [[], []]


def test_a_class_that_only_one_fold_has_is_not_judged(monkeypatch):
    """Its classifier has not learnt the class, and would call each of its pictures a suspect, of probability 0."""

    class Folds:
        """Two folds, of which the first has all pictures of the third class."""

        def __init__(self, *args, **options) -> None:
            pass

        def split(self, positions, targets, groups):
            first, second = [*range(0, 24, 2), *range(24, 36)], [*range(1, 24, 2)]
            return [(np.array(second), np.array(first)), (np.array(first), np.array(second))]

    monkeypatch.setattr("sklearn.model_selection.StratifiedGroupKFold", Folds)
    features, targets = clouds(12, 3)
    found = out_of_fold(features, targets, torch.arange(36), 3)
    assert found[24:].isnan().all()
    assert found[:24].isfinite().all()
    assert sorted(doubtful_order(found, targets).tolist()) == [*range(24)]
    assert suspects(found, targets)[0].tolist() == []


def test_a_large_set_is_learnt_from_a_sample_that_has_every_class(monkeypatch):
    monkeypatch.setattr(metric, "_LEARNT", 60)
    features, targets = clouds(150, 3)
    kept = torch.arange(303)  # 150, 150 and 3 pictures
    features, targets = features[kept], targets[kept]
    sampled = targets[metric._sample(targets, torch.Generator().manual_seed(0))]
    assert sampled.bincount().tolist() == [30, 29, 1]
    found = out_of_fold(features, targets, kept, 3)
    assert found.isfinite().all()
    assert (found[:300].argmax(1) == targets[:300]).all()
    assert found[300:, 2].min() > found[:300, 2].max()
