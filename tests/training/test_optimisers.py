"""Optimisers, label smoothing, alternating flips and compiled networks of whole trainings."""

import shutil

import pytest
import torch

from infer.core import codec
from infer.core.options import AugmentOptions
from infer.data import Pictures, Splits
from infer.metrics.scores import Scores
from infer.models.classifier import Task
from infer.models.options import BackboneOptions, OptimiserOptions
from infer.models.teacher import TeacherModule
from infer.training.evaluation import evaluate
from infer.training.options import TeacherOptions, TrainerOptions
from infer.training.teachers import train_teachers

SMALL = BackboneOptions("small", "whitened_convnet", "auto", {"widths": [16, 32]})


def striped(count: int = 128) -> Splits:
    """Two classes: stripes across and stripes down, with noise."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 2
    images = torch.randint(0, 120, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    images[targets == 0, :, ::4] += 100
    images[targets == 1, :, :, ::4] += 100
    return Splits.from_arrays(images, targets, images[:32], targets[:32])


def trained(data: Splits, trainer: TrainerOptions | None = None, **changed: object) -> Scores:
    options = TeacherOptions(**{"epochs": 6, "batch": 16, "schedule": "one_cycle", **changed})  # type: ignore[arg-type]
    (teacher,) = train_teachers(data, [SMALL], options=options, trainer=trainer)
    return evaluate(teacher, data.test)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.3), ("nesterov", 0.3), ("adamw", 0.02), ("muon", 0.02)])
def test_every_optimiser_learns_to_tell_stripes_apart(optimizer, lr):
    assert trained(striped(), optimizer=optimizer, lr=lr).accuracy == 1


def test_alternating_flips_and_smooth_labels_learn_too():
    assert trained(striped(), optimizer="nesterov", lr=0.3, label_smoothing=0.2, flips="alternating").accuracy == 1


def test_label_smoothing_spreads_its_share_of_the_target_over_all_classes():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    task = Task(3, (torch.zeros(3), torch.ones(3)), AugmentOptions(0, False), OptimiserOptions(), steps=1)
    module = TeacherModule("fixed", torch.nn.Identity(), task, label_smoothing=0.3)
    module.inputs = lambda _: logits
    module.log = lambda *_, **__: None
    loss = module.training_step((torch.zeros(1, 3, 2, 2), torch.tensor([0])), 0)
    expected = -(torch.tensor([0.8, 0.1, 0.1]) * logits.log_softmax(dim=1)).sum()
    assert torch.isclose(loss, expected)


def test_a_teacher_of_compressed_copies_knows_pictures_as_a_file_stores_them():
    data = striped()
    stored = codec.decode(codec.encode(data.test.images, "avif", 5), len(data.test), data.test.shape)
    (teacher,) = train_teachers(data, [SMALL], options=TeacherOptions(epochs=6, batch=16, compressed=5))
    assert evaluate(teacher, Pictures(stored, data.test.targets)).accuracy == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_network_learns_the_same(caplog):
    data = striped()
    compiled = TrainerOptions(accelerator="cpu", compile="default")
    assert trained(data, compiled, optimizer="nesterov", lr=0.3).accuracy == 1
    assert "fails" not in caplog.text
