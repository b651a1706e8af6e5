"""Fine-tuning: the last layer of a pretrained network is fitted first, and BatchNorm keeps its statistics."""

from pathlib import Path

import pytest
import torch

from infer.data import Splits
from infer.models.options import BackboneOptions
from infer.training.context import context_of_call
from infer.training.evaluation import evaluate
from infer.training.options import TeacherOptions
from infer.training.teachers import fit_teacher, train_teachers


@pytest.fixture
def backbone(tmp_path: Path) -> BackboneOptions:
    import timm

    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    return BackboneOptions("small", "resnet10t", pretrained=str(tmp_path / "weights.pth"))


def colours() -> Splits:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60) % 3
    images = torch.randint(0, 90, (60, 3, 16, 16), generator=generator, dtype=torch.uint8)
    images[torch.arange(60), targets] += 120
    return Splits.from_arrays(images, targets, images, targets)


def test_training_starts_from_a_fitted_last_layer(backbone):
    options = TeacherOptions(epochs=1, batch=60, lr=1e-9)  # which changes nothing after it
    (teacher,) = train_teachers(colours(), [backbone], options=options)
    assert evaluate(teacher, colours().test).accuracy == 1


def test_training_changes_every_layer_but_not_the_statistics_of_batch_norm(backbone):
    context = context_of_call(colours(), None, None)
    network, before = context.network(backbone), context.network(backbone).state_dict()
    options = TeacherOptions(epochs=2, batch=20, optimizer="adamw", lr=1e-3)
    module, seconds = fit_teacher(context, "small", network, options, 0, None)
    same = {name for name, value in module.network.state_dict().items() if torch.equal(value, before[name])}
    kept = {name for name in before if "running_" in name or "num_batches" in name}
    assert len(kept) > 20
    assert same == kept | {"scale", "shift"}
    assert seconds > 0
