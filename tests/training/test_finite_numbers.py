"""Trainings that diverge end in one line, and are never resumed from NaN."""

import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from compensator_fits import ONE, STEPS, TWO, fitted, module

from infer.core.errors import UserError
from infer.core.options import AugmentOptions, MixingOptions
from infer.data import Pictures
from infer.data.batches import Indices, in_order, loader
from infer.models.classifier import Task
from infer.models.networks import build
from infer.models.options import OptimiserOptions
from infer.models.student import StudentModule
from infer.models.teacher import TeacherModule
from infer.training.callbacks import all_finite
from infer.training.evaluation import evaluate
from infer.training.fit import fit, measure
from infer.training.options import TrainerOptions

MOMENTS = (torch.tensor([0.5]), torch.tensor([0.25]))


class Noise:
    """Labelled pictures of noise, in memory."""

    nbytes = 0
    device = torch.device("cpu")

    def __init__(self, soft: bool) -> None:
        torch.manual_seed(0)
        self.images = torch.randint(256, (12, 1, 8, 8), dtype=torch.uint8)
        self.targets = torch.rand(12, 3).softmax(dim=1) if soft else torch.arange(12) % 3

    def __getitem__(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[indices], self.targets[indices]

    def to(self, device: torch.device) -> "Noise":
        return self


def classifier(kind: str, lr: float, optimizer: str = "sgd") -> TeacherModule | StudentModule:
    torch.manual_seed(0)
    options = OptimiserOptions(batch=4, lr=lr, optimizer=optimizer)
    task = Task(3, MOMENTS, AugmentOptions(crop=0, flip=False), options, STEPS)
    network = build("convnet_narrow", 3, 1, 8)
    if kind == "teacher":
        made = TeacherModule("t", network, task)
    else:
        made = StudentModule("t", network, task, MixingOptions(kind="none"), "probabilities", 1.0)
    made.resident = Noise(soft=kind == "student")
    return made


def trained(made: TeacherModule | StudentModule, kind: str, folder: Path | None, trainer: TrainerOptions = ONE) -> None:
    draw = partial(cycling, 12, 4)
    fit(made, loader(Indices(), draw, STEPS), 0, folder, kind, trainer)


def cycling(size: int, batch: int, step: int) -> torch.Tensor:
    return in_order(size, batch, step % (size // batch))


@pytest.mark.parametrize("kind", ["teacher", "student"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_learning_rate_that_diverges_ends_the_stage_in_one_line(tmp_path, kind, kept, precision):
    trainer = TrainerOptions(accelerator="cpu", precision=precision)
    with pytest.raises(UserError) as error:
        trained(classifier(kind, 1e20), kind, tmp_path if kept else None, trainer)
    said = str(error.value)
    assert "\n" not in said
    assert said.startswith(f"{kind} t: its loss or weights are NaN or infinite at step ")
    assert f"of {STEPS}; choose a smaller recipe.{kind}.lr (it is 1e+20)" in said
    assert ("trainer.precision=32-true" in said) == (precision != "32-true")
    for checkpoint in tmp_path.glob("*.ckpt"):  # that of a step before
        found = torch.load(checkpoint, weights_only=True)
        assert all_finite([found["state_dict"], *found["optimizer_states"][0]["state"].values()])
    assert bool(list(tmp_path.iterdir())) == kept


def test_compensators_that_diverge_end_likewise(tmp_path):
    made = module()
    made.problem.mean = torch.tensor([float("nan")])
    with pytest.raises(
        UserError, match=rf"^u t: .*NaN or infinite at step 1 of {STEPS}; choose a smaller recipe\.u\.lr"
    ):
        fitted(made, tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))
    with pytest.raises(UserError, match=r"^compensators t: .*recipe\.ufc\.lr \(it is 0\.25\)"):
        fitted(made, tmp_path, name="compensators-0123")


def test_a_process_of_several_that_diverges_says_the_same_line(tmp_path):
    made = module()
    made.problem.mean = torch.tensor([float("nan")])
    with pytest.raises(UserError, match=r"^u t: its loss or weights are NaN or infinite at step 1 of"):
        fitted(made, tmp_path, TWO)


def test_a_training_that_learns_is_not_stopped(tmp_path):
    for optimizer, lr in (("sgd", 0.01), ("adamw", 0.001)):
        trained(classifier("teacher", lr, optimizer), "teacher", None)


@pytest.mark.parametrize("where", ["weights", "statistics", "adam"])
def test_a_checkpoint_with_nan_is_not_resumed(tmp_path, caplog, where):
    """Such as one of an earlier version: the stage starts again, and ends as the unbroken one does."""
    whole = classifier("teacher", 1e-3, "adamw")
    trained(whole, "teacher", tmp_path)
    checkpoint = tmp_path / "teacher.ckpt"
    found = torch.load(checkpoint, weights_only=True)
    weights = found["state_dict"]
    names = [key for key in weights if key.endswith("running_var")] if where == "statistics" else [*weights]
    if where == "adam":
        found["optimizer_states"][0]["state"][0]["exp_avg_sq"][0] = torch.inf
    else:
        weights[next(key for key in names if weights[key].is_floating_point())].view(-1)[0] = torch.nan
    torch.save(found, checkpoint)
    again = classifier("teacher", 1e-3, "adamw")
    with caplog.at_level(logging.WARNING, "infer"):
        trained(again, "teacher", tmp_path)
    assert "teacher.ckpt cannot be resumed (it holds NaN or infinite numbers); its stage starts again" in caplog.text
    for key, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


class Scaled(TeacherModule):
    """A GradScaler starts with a scale that overflows float16, and skips those steps."""

    def on_after_backward(self) -> None:
        for parameter in self.parameters():
            parameter.grad.fill_(torch.inf)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()


def test_infinite_gradients_whose_step_is_skipped_do_not_end_a_stage():
    plain = classifier("teacher", 0.01)
    made = Scaled("t", plain.network, plain.task)
    made.resident = plain.resident
    trained(made, "teacher", None)


def test_logits_that_are_not_finite_are_no_accuracy():
    """Weights may be finite where statistics of few steps are far off."""
    made = classifier("teacher", 0.01)
    made.network[1].weight.data.fill_(torch.finfo(torch.float32).max)
    made.network[1].running_var.fill_(1e-3)
    assert all_finite([made.state_dict()])
    pictures = Pictures(made.resident.images, made.resident.targets)
    batches = loader(pictures, partial(in_order, 12, 4), 3)
    with pytest.raises(UserError, match=r"^t: its logits are NaN or infinite"):
        measure(made, batches, ONE)
    with pytest.raises(UserError, match=r"^PixelClassifier: its logits are NaN or infinite"):
        evaluate(made.trained, pictures)
