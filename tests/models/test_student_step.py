"""One training step of a student: what its network sees and what its loss compares with."""

import pytest
import torch
from torch import nn

from infer.core.labels import Ensemble
from infer.core.options import AugmentOptions, MixingOptions
from infer.models import student as student_module
from infer.models.classifier import Task
from infer.models.options import OptimiserOptions
from infer.models.student import StudentModule

BATCH, CLASSES, SIDE, TEMPERATURE = 6, 4, 8, 4.0
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
NO_AUGMENTATION = AugmentOptions(crop=0, flip=False)


class Recorder(nn.Module):
    """A network that keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, CLASSES)
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.detach().clone())
        return self.linear(images.flatten(1))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of different noise, and labels that tell which of them were mixed."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return images, torch.randn(BATCH, CLASSES, generator=generator)


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images.float() / 255 - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1)


def step(monkeypatch, mixing: MixingOptions, space: str = "logits", ensemble: Ensemble | None = None, seed: int = 7):
    """Take one step; return the network's input and the target of the loss."""
    targets = []
    loss = student_module.distillation_loss

    def recorded(logits, target, temperature):
        assert temperature == TEMPERATURE
        targets.append(target.clone())
        return loss(logits, target, temperature)

    monkeypatch.setattr(student_module, "distillation_loss", recorded)
    monkeypatch.setattr(StudentModule, "log", lambda *_, **__: None)  # there is no Trainer to log to
    torch.manual_seed(0)
    network = Recorder()
    task = Task(CLASSES, (MEAN, STD), NO_AUGMENTATION, OptimiserOptions(), 1)
    module = StudentModule("s", network, task, mixing, space, TEMPERATURE, ensemble)
    torch.manual_seed(seed)
    images, labels = batch()
    if space == "probabilities":
        labels = labels.softmax(dim=-1)
    module.training_step((images, labels), 0).backward()
    assert network.linear.weight.grad.abs().sum() > 0
    (seen,), (target,) = network.seen, targets
    return seen, target


def partners_of(seen: torch.Tensor, images: torch.Tensor) -> tuple[list[int], torch.Tensor]:
    """The partner and the weight of each mixup image, found by least squares over all pairs."""
    partners, weights = [], []
    for own, mixed in zip(images, seen, strict=True):
        fits = []
        for other in images:
            gap = (own - other).flatten()
            weight = float((mixed - other).flatten() @ gap / (gap @ gap)) if gap.any() else 1.0
            fits.append((float((weight * own + (1 - weight) * other - mixed).norm()), weight))
        best = min(range(len(fits)), key=lambda number: fits[number][0])
        assert fits[best][0] < 1e-3
        partners.append(best)
        weights.append(fits[best][1])
    return partners, torch.tensor(weights)


@pytest.mark.parametrize("space", ["logits", "probabilities"])
def test_mixup_gives_images_and_labels_the_same_weight_and_partner(monkeypatch, space):
    """x = lam * x + (1 - lam) * x[perm] is read off the images; the labels follow with that lam and that perm."""
    seen, target = step(monkeypatch, MixingOptions("mixup", 0.8), space)
    images, labels = batch()
    partner, weights = partners_of(seen, normalised(images))
    assert sorted(partner) == list(range(BATCH))
    moved = torch.tensor([number != own for own, number in enumerate(partner)])
    lam = weights[moved].mean()
    assert moved.sum() >= 2
    assert 0.05 < lam < 0.95
    torch.testing.assert_close(weights[moved], lam.expand(int(moved.sum())), rtol=1e-4, atol=1e-4)
    if space == "logits":
        expected = ((lam * labels + (1 - lam) * labels[partner]) / TEMPERATURE).softmax(dim=-1)
    else:
        labels = labels.softmax(dim=-1)
        expected = lam * labels + (1 - lam) * labels[partner]
    torch.testing.assert_close(target, expected, rtol=1e-3, atol=1e-4)


def test_cutmix_weighs_labels_by_the_pasted_area(monkeypatch):
    seen, target = step(monkeypatch, MixingOptions("cutmix", 1.0))
    images, labels = batch()
    images = normalised(images)
    shares, partner = [], []
    for own in range(BATCH):
        kept = seen[own].isclose(images[own], atol=1e-5).all(dim=0)  # [H, W]: pixels that are still the image's own
        pasted = [
            other
            for other in range(BATCH)
            if other != own and not kept.all() and seen[own].isclose(images[other], atol=1e-5).all(dim=0)[~kept].all()
        ]
        partner.append(pasted[0] if pasted else own)
        shares.append(kept.float().mean())
        rows, columns = (~kept).any(dim=1).nonzero(), (~kept).any(dim=0).nonzero()
        if pasted:
            assert (~kept).sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)  # one box
        else:
            assert kept.all()
    assert sorted(partner) == list(range(BATCH))
    moved = [own for own in range(BATCH) if partner[own] != own]
    lam = shares[moved[0]]
    assert 0.05 < lam < 0.95
    assert all(shares[own] == lam for own in moved)
    expected = ((lam * labels + (1 - lam) * labels[partner]) / TEMPERATURE).softmax(dim=-1)
    torch.testing.assert_close(target, expected)


def test_no_mixing_passes_images_and_labels_on(monkeypatch):
    seen, target = step(monkeypatch, MixingOptions("none"))
    images, labels = batch()
    torch.testing.assert_close(seen, normalised(images))
    torch.testing.assert_close(target, (labels / TEMPERATURE).softmax(dim=-1))


def test_dynamic_labels_are_those_of_the_mixed_images_and_are_not_mixed_again(monkeypatch):
    torch.manual_seed(5)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES), nn.Tanh()).eval()
    ensemble = Ensemble([teacher], "logits", TEMPERATURE)
    seen, target = step(monkeypatch, MixingOptions("mixup", 0.8), ensemble=ensemble)
    images, _ = batch()
    assert not torch.allclose(seen, normalised(images))
    with torch.no_grad():
        torch.testing.assert_close(target, (teacher(seen) / TEMPERATURE).softmax(dim=-1))
