"""The reducible loss, against its definition."""

import pytest
import torch
from torch import nn

from infer.core.ufc import normalise
from infer.methods.proxy import ProxyModel, reducible_loss
from infer.models.weights import PixelClassifier


def divergence(p, q):
    return float((p * (p / q).log()).sum())


def test_reducible_loss_is_the_proxys_divergence_less_the_teachers():
    torch.manual_seed(0)
    proxy, teachers = torch.randn(4, 5), 3 * torch.randn(2, 4, 5)
    found = reducible_loss(proxy, teachers, 4.0)
    for image in range(4):
        known = (teachers[:, image] / 4).softmax(dim=1)
        label = known.mean(dim=0)
        own = sum(divergence(label, each) for each in known) / 2
        wanted = divergence(label, (proxy[image] / 4).softmax(dim=0)) - own
        assert float(found[image]) == pytest.approx(wanted, abs=1e-6)


def test_a_proxy_that_predicts_like_the_teacher_has_no_reducible_loss():
    teachers = 3 * torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0))
    assert reducible_loss(teachers[0], teachers, 4.0).tolist() == pytest.approx([0] * 4, abs=1e-6)


def test_a_proxy_model_reads_pixels_and_its_teachers_normalised_images():
    """The proxy has a normalisation of its own."""
    torch.manual_seed(0)
    images = torch.randint(256, (7, 3, 4, 4), dtype=torch.uint8)
    student, *teachers = (nn.Sequential(nn.Flatten(), nn.Linear(48, 5)) for _ in range(3))
    own, theirs = ((torch.full((3,), mean), torch.full((3,), std)) for mean, std in ((0.5, 0.25), (0.4, 0.2)))
    proxy = ProxyModel(PixelClassifier(student, *own).eval(), teachers, theirs, 2.0, torch.device("cpu"))
    logits = torch.stack([teacher(normalise(images, *theirs)) for teacher in teachers])
    found = proxy.reducible_loss(images)
    torch.testing.assert_close(found, reducible_loss(student(normalise(images, *own)), logits, 2.0).detach())
    assert not found.requires_grad
