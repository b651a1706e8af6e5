"""Labels of several teachers, in both spaces."""

import pytest
import torch

from infer.core.labels import Ensemble, average, distillation_loss, distribution, stored_labels


def test_logits_are_averaged_as_logits_and_probabilities_as_probabilities():
    logits = torch.tensor([[[2.0, 0.0]], [[0.0, 8.0]]])
    assert average(logits, "logits", 4.0).tolist() == [[1.0, 4.0]]
    expected = ((logits / 4).softmax(-1)[0] + (logits / 4).softmax(-1)[1]) / 2
    torch.testing.assert_close(average(logits, "probabilities", 4.0), expected)
    torch.testing.assert_close(distribution(expected, "probabilities", 4.0), expected)
    torch.testing.assert_close(distribution(logits[0], "logits", 2.0), (logits[0] / 2).softmax(-1))


def test_the_loss_is_the_divergence_and_zero_for_equal_predictions():
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 5), torch.randn(6, 5)
    target = distribution(teacher, "logits", 3.0)
    assert abs(float(distillation_loss(teacher, target, 3.0))) < 1e-6
    log_student = (student / 3).log_softmax(-1)
    expected = 9 * (target * (target.log() - log_student)).sum(1).mean()
    torch.testing.assert_close(distillation_loss(student, target, 3.0), expected)


def test_one_hot_targets_give_the_cross_entropy():
    student, classes = torch.randn(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    target = torch.nn.functional.one_hot(classes, 4).float()
    torch.testing.assert_close(
        distillation_loss(student, target, 1.0), torch.nn.functional.cross_entropy(student, classes)
    )


def test_an_ensemble_computes_no_gradient():
    teachers = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)) for _ in range(2)]
    labels = Ensemble(teachers, "logits", 1.0)(torch.randn(5, 3, 2, 2))
    assert labels.shape == (5, 3)
    assert not labels.requires_grad


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3, 1e5, 1e7, 1e30])
@pytest.mark.parametrize("shift", [0.0, 2e3, -5e4, 7e4, -1e6])
@pytest.mark.parametrize("temperature", [1.0, 30.0, 1000.0])
def test_logits_of_any_size_are_stored_as_the_distribution_that_they_are(scale, shift, temperature):
    torch.manual_seed(0)
    logits = torch.randn(50, 10) * scale + shift
    stored = stored_labels(logits, "logits")
    assert stored.dtype == torch.float16
    assert stored.isfinite().all()
    expected = distribution(logits.double(), "logits", temperature)
    found = distribution(stored.float(), "logits", temperature)
    # A logit is off by 1/16 at most, or by 2^-11 of its distance from the largest; a probability by a quarter over T.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1 / 64 / temperature + 2**-11)


def test_usual_logits_are_only_rounded():
    torch.manual_seed(0)
    logits = (torch.randn(50, 10) * 100).clamp(-255, 255)
    assert torch.equal(stored_labels(logits, "logits"), logits.half())


@pytest.mark.parametrize("classes", [2, 1000, 60_000])
def test_stored_probabilities_sum_to_what_a_reader_takes(classes):
    torch.manual_seed(0)
    rows = torch.stack(
        [torch.zeros(classes), torch.randn(classes), torch.randn(classes) * 20, torch.randn(classes) * 1e5]
    )
    stored = stored_labels(average(rows[None], "probabilities", 1.0), "probabilities").float()
    assert ((stored.sum(dim=1) - 1).abs() <= 2**-10 + classes * 2**-25).all()
