"""Labels of several teachers, in both spaces."""

import torch

from infer.core.labels import Ensemble, average, distillation_loss, distribution


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
