"""Trainings that diverge end in one line, and are never resumed from NaN."""

import logging
from dataclasses import replace
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


LOOPS = "loops/fit_loop"
STEPS_DONE = f"{LOOPS}/epoch_loop.automatic_optimization.optim_progress/optimizer/step/total"
TORN = {
    "no optimiser": ("optimizer_states", [], "it is that of another training"),
    "no version": ("pytorch-lightning_version", 5, "it is no checkpoint of a stage"),
    "a version": ("pytorch-lightning_version", "x", "it is no checkpoint of a stage"),
    "text for a step": ("global_step", "5", "it is no checkpoint of a stage"),
    "a step before the first": ("global_step", -1, "it is no checkpoint of a stage"),
    "another step": ("global_step", 7, "it is that of another training"),
    "text for seconds": ("seconds", "x", "it is no checkpoint of a stage"),
    "seconds": ("seconds", float("nan"), "it is no checkpoint of a stage"),
    "a list of metrics": ("metrics", [1], "it is no checkpoint of a stage"),
    "metrics": ("metrics", {"x": 1}, "it is no checkpoint of a stage"),
    "no weights": ("state_dict", {}, "its weights are those of another network"),
    "other weights": ("state_dict", {"a": torch.zeros(2)}, "its weights are those of another network"),
    "no loops": ("loops", {}, "it is no checkpoint of a stage"),
    "an empty loop": (LOOPS, {}, "it is no checkpoint of a stage"),
    "text in a loop": (f"{STEPS_DONE}/ready", "5", "it is that of another training"),
    "more steps": (f"{STEPS_DONE}/completed", 21, "it is that of another training"),
    "no schedule": ("lr_schedulers", [], "it is that of another training"),
    "another schedule": ("lr_schedulers/0", {"T_max": 3}, "it is that of another training"),
    "an infinite rate": ("optimizer_states/0/param_groups/0/lr", float("inf"), "it is that of another training"),
    "a state": (
        "optimizer_states/0/state",
        {0: {"exp_avg": torch.zeros(3)}},
        "its optimiser is that of another network",
    ),
    "a state of none": ("optimizer_states/0/state", {99: {}, 98: {"step": torch.tensor(1.0)}}, "its optimiser is that"),
    "a callback": ("callbacks", {"ModelCheckpoint": {}}, "it is that of another training"),
}


@pytest.fixture(scope="module")
def whole_fit(tmp_path_factory) -> tuple[TeacherModule, Path]:
    """A trained network, and the checkpoint of its last step."""
    folder = tmp_path_factory.mktemp("whole")
    made = classifier("teacher", 1e-3, "adamw")
    trained(made, "teacher", folder)
    return made, folder / "teacher.ckpt"


@pytest.mark.parametrize("torn", TORN)
def test_a_checkpoint_that_torch_reads_but_is_none_of_the_stage_is_not_resumed(whole_fit, tmp_path, caplog, torn):
    whole, checkpoint = whole_fit
    found = torch.load(checkpoint, weights_only=True)
    where, value, reason = TORN[torn]
    *path, last = where.split("/")
    node = found
    for part in path:
        node = node[int(part) if isinstance(node, list) else part]
    node[int(last) if isinstance(node, list) else last] = value
    assert_starts_again(whole, found, tmp_path, caplog, reason)


@pytest.mark.parametrize("content", [{}, [], 5, {"optimizer_states": [], "state_dict": {}, "global_step": 5}])
def test_a_checkpoint_of_another_shape_is_not_resumed(whole_fit, tmp_path, caplog, content):
    assert_starts_again(whole_fit[0], content, tmp_path, caplog, "it is no checkpoint of a stage")


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adamw"])
def test_a_training_that_was_stopped_ends_as_the_unbroken_one(tmp_path, caplog, optimizer, schedule):
    def fitted(folder: Path | None, last: int = STEPS) -> TeacherModule:
        made = classifier("teacher", 1e-3, optimizer)
        made.task = replace(made.task, optimiser=replace(made.task.optimiser, schedule=schedule))
        draw = partial(until, last)
        fit(made, loader(Indices(), draw, STEPS), 0, folder, "teacher", ONE)
        return made

    with pytest.raises(RuntimeError, match="broken off"):
        fitted(tmp_path, 11)
    assert 8 <= torch.load(tmp_path / "teacher.ckpt", weights_only=True)["global_step"] <= 11
    whole, again = fitted(None).state_dict(), fitted(tmp_path).state_dict()
    assert "cannot be resumed" not in caplog.text
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


def until(last: int, step: int) -> torch.Tensor:
    """Batches up to ``last``; then the training stops."""
    if step >= last:
        raise RuntimeError("broken off")
    return cycling(12, 4, step)


def test_the_checkpoint_of_another_network_is_not_resumed(whole_fit, tmp_path, caplog):
    task = whole_fit[0].task
    other = TeacherModule("t", build("convnet_deep", 3, 1, 8), task)
    other.resident = Noise(soft=False)
    (tmp_path / "other").mkdir()
    trained(other, "teacher", tmp_path / "other")
    found = torch.load(tmp_path / "other" / "teacher.ckpt", weights_only=True)
    assert_starts_again(whole_fit[0], found, tmp_path, caplog, "its weights are those of another network")


def assert_starts_again(whole: TeacherModule, content: object, folder: Path, caplog, reason: str) -> None:
    """One warning says why the checkpoint is not resumed, and the stage ends as the unbroken one does."""
    torch.save(content, folder / "teacher.ckpt")
    again = classifier("teacher", 1e-3, "adamw")
    with caplog.at_level(logging.WARNING, "infer"):
        trained(again, "teacher", folder)
    (line,) = [record.getMessage() for record in caplog.records if "cannot be resumed" in record.getMessage()]
    assert line.startswith(f"{folder / 'teacher.ckpt'} cannot be resumed ({reason}")
    assert line.endswith("); its stage starts again")
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
