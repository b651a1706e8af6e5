"""Linear heads on the frozen features of a pretrained network, here one with random weights of a file."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infer.core.mixing import student_batch
from infer.core.options import AugmentOptions, BudgetOptions, LabelOptions, MixingOptions
from infer.data import Splits
from infer.data.datasets import digits_splits
from infer.models.classifier import Task
from infer.models.networks import build
from infer.models.options import BackboneOptions, OptimiserOptions
from infer.models.student import StudentModule
from infer.models.weights import features
from infer.pipeline.api import distill
from infer.pipeline.set_options import MethodOptions, SetOptions
from infer.training import linear
from infer.training.context import context_of_call
from infer.training.evaluation import evaluate
from infer.training.options import StudentOptions
from infer.training.student_file import WEIGHTS, read_student
from infer.training.students import Student, fit_student, student_in_folder, train_student
from infer.training.teachers import train_teachers
from infer.training.training_set import TrainingSet

CPU = torch.device("cpu")
MOMENTS = (torch.full((3,), 0.4), torch.full((3,), 0.3))
SOFT = torch.tensor([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])


@pytest.fixture
def backbone(tmp_path: Path) -> BackboneOptions:
    import timm

    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    return BackboneOptions("small", "resnet10t", pretrained=str(tmp_path / "weights.pth"), frozen=True)


class Colours:
    """Pictures of three colours with noise, and the soft label of each colour."""

    streams = False

    def __init__(self, labels: Tensor = SOFT, count: int = 90) -> None:
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.arange(count) % 3
        self.images = torch.randint(0, 90, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        self.images[torch.arange(count), self.targets] += 120
        self.labels = labels[self.targets]

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


def student_module(backbone: BackboneOptions, temperature: float, shares: Tensor | None = None) -> StudentModule:
    network = build(backbone, 3, 3, 16, MOMENTS)
    task = Task(3, MOMENTS, AugmentOptions(), OptimiserOptions(), 1, shares)
    return StudentModule("toy", network, task, MixingOptions("none"), "probabilities", temperature)


def fitted(module: StudentModule, source: Colours, seed: int = 0) -> Tensor:
    """The module's predictions at its temperature, after its last layer is fitted."""
    head = linear.fit_head(module, source, torch.arange(len(source.images)), seed, CPU, "toy")
    linear.set_head(module, head)
    with torch.no_grad():
        return (module.trained(source.images) / module.temperature).softmax(dim=1)


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_a_head_learns_soft_labels_at_their_temperature(backbone, temperature):
    source = Colours()
    predicted = fitted(student_module(backbone, temperature), source)
    assert torch.equal(predicted.argmax(dim=1), source.targets)
    assert (predicted - source.labels).abs().max() < 0.05


def test_labels_without_a_pattern_get_the_strong_penalty_that_held_out_images_ask_for(backbone):
    source = Colours()
    source.labels = torch.eye(3)[torch.randint(3, (90,), generator=torch.Generator().manual_seed(1))]
    predicted = fitted(student_module(backbone, 1.0), source)
    assert (predicted - source.labels.mean(dim=0)).abs().max() < 0.3  # without a penalty: 1, each label by heart


def test_a_share_of_the_loss_that_is_a_classs_size_is_left_out_of_its_logits(backbone):
    """Logit adjustment: with classes of 80, 10 and 10 %, an image that fits all labels alike is of none."""
    shares = torch.tensor([0.8, 0.1, 0.1])
    predicted = fitted(student_module(backbone, 1.0, shares), Colours(labels=shares.expand(3, 3)))
    torch.testing.assert_close(predicted, torch.full_like(predicted, 1 / 3), rtol=0, atol=0.03)


def test_nothing_but_the_last_layer_changes(backbone):
    module, before = student_module(backbone, 1.0), build(backbone, 3, 3, 16, MOMENTS).state_dict()
    fitted(module, Colours())
    after = module.network.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert changed == ["network.fc.weight", "network.fc.bias"]


def test_seeds_of_a_row_share_the_features_and_other_images_do_not(backbone, monkeypatch):
    passes = []
    monkeypatch.setattr(linear, "features", lambda *given: passes.append(1) or features(*given))
    first, second = Colours(), Colours()
    one, other = (fitted(student_module(backbone, 1.0), first, seed) for seed in (0, 1))
    assert len(passes) == 1
    torch.testing.assert_close(one, other, rtol=0, atol=0.1)
    fitted(student_module(backbone, 1.0), second)
    fitted(student_module(replace(backbone, name="another"), 1.0), second)
    assert len(passes) == 3


def test_each_image_of_the_batches_is_seen_once():
    seen = partial(linear.seen_images, lambda step: student_batch(10, 6, 4, 0.5, 0, step))
    assert seen(100).tolist() == [*range(16)]
    assert len(seen(2)) == 8  # a student of two steps of four images sees no more


def digits() -> Splits:
    return digits_splits("digits", 0.2, 0)


def test_a_teacher_and_a_student_with_linear_heads_are_far_above_chance_on_digits(backbone):
    data = digits()
    teachers = train_teachers(data, [backbone])
    small = distill(data, teachers, ipc=10, method="random")
    student = train_student(small, backbone, options=StudentOptions(epochs=1))
    assert evaluate(teachers[0], data.test).accuracy > 0.6
    assert evaluate(student, data.test).accuracy > 0.3


def test_the_file_of_a_student_is_the_whole_network(backbone, tmp_path):
    data = digits()
    context = context_of_call(data, None, None)
    student = Student("linear", backbone, StudentOptions(), MixingOptions(), 30, 0, points=10)
    result = student_in_folder(context, student, TrainingSet.of_real(data), tmp_path / "student")
    (measured,) = result["timeline"]  # the head is fitted at once
    assert (measured["step"], measured["seconds"]) == (0, result["seconds"])
    assert measured["accuracy"] == pytest.approx(result["accuracy"], abs=1e-6)
    stored = read_student(tmp_path / "student" / WEIGHTS)
    assert evaluate(stored.network, data.test).accuracy == pytest.approx(result["accuracy"], abs=1e-6)
    assert result["accuracy"] > 0.6
    assert result["seconds"] > 0


def test_a_linear_student_of_mixed_views_learns_from_the_natural_images_and_their_classes(backbone):
    data = digits()
    settings = SetOptions(
        ipc=10,
        labels=LabelOptions(kind="views", space="probabilities", share=0.3),
        budget=BudgetOptions(by="bytes", codec="webp"),
        method=MethodOptions("random"),
    )
    small = distill(data, train_teachers(data, [backbone]), options=settings)
    unmixed = TrainingSet.of_set(small, []).unmixed
    images, labels = unmixed[torch.arange(5)]
    assert unmixed.naturals == len(small.naturals) != len(small)
    assert torch.equal(images, small.naturals[:5])
    assert torch.equal(labels.argmax(dim=1), small.natural_targets[:5])
    student = train_student(small, backbone, options=StudentOptions(epochs=1))
    assert evaluate(student, data.test).accuracy > 0.5
    plain = TrainingSet.of_real(data)
    assert plain.unmixed is plain
    for tuned, mixing in ((replace(backbone, frozen=False), "none"), ("convnet_narrow", "mixup")):
        student = Student("tuned", tuned, StudentOptions(), MixingOptions("mixup"), 2, 0)
        assert fit_student(context_of_call(data, None, None), student, plain, None)[0].mixing.kind == mixing
