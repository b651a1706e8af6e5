"""Measurements of a student in the course of its training: when they are made, and that they change nothing."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import infer
from infer.core.options import AugmentOptions, MixingOptions
from infer.data import Pictures, Splits
from infer.data.batches import Indices, in_order, loader
from infer.data.datasets import digits_splits
from infer.metrics.scores import scores
from infer.models.classifier import Task
from infer.models.networks import build
from infer.models.options import OptimiserOptions
from infer.models.teacher import TeacherModule
from infer.training import callbacks
from infer.training.callbacks import AccuracyCurve, Stopwatch
from infer.training.context import Context, context_of_call
from infer.training.fit import fit
from infer.training.records import StudentRecord, read_trained
from infer.training.students import Student, student_in_folder
from infer.training.training_set import TrainingSet

CPU = infer.TrainerOptions(accelerator="cpu")
STEPS = 25


@pytest.fixture(scope="module")
def data() -> Splits:
    return digits_splits("digits", 0.2, 0)


def trained(context: Context, folder: Path, points: int) -> dict:
    """A student of 25 steps that is measured at ``points`` of them."""
    options = infer.StudentOptions(epochs=None, steps=STEPS)
    student = Student("s", "convnet_narrow", options, MixingOptions("mixup"), STEPS, 0, points)
    student_in_folder(context, student, TrainingSet.of_real(context.data), folder)
    found = read_trained(folder, "student.safetensors", StudentRecord)
    assert found == json.loads((folder / "result.json").read_text())
    return found


def test_a_measured_student_is_the_same_bit_for_bit(data, tmp_path):
    context = context_of_call(data, None, CPU)
    measured, plain = (trained(context, tmp_path / str(points), points) for points in (10, 0))
    weights = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("10", "0")]
    assert weights[0] == weights[1]
    assert {key: measured[key] for key in ("accuracy", "recall")} == {key: plain[key] for key in ("accuracy", "recall")}
    assert "timeline" not in plain


def test_the_last_measurement_is_at_the_end_and_the_seconds_rise(data, tmp_path):
    context = context_of_call(data, None, CPU)
    found = trained(context, tmp_path / "ten", 10)
    assert [at["step"] for at in found["timeline"]] == [3, 6, 9, 12, 15, 18, 21, 24, 25]
    last = found["timeline"][-1]
    for key in ("accuracy", "balanced_accuracy"):
        assert last[key] == pytest.approx(found[key], abs=1e-6)  # on the 360 test pictures
    assert last["pictures"] == len(data.test)
    seconds = [at["seconds"] for at in found["timeline"]]
    assert seconds == sorted(seconds)
    assert [at["step"] for at in trained(context, tmp_path / "one", 1)["timeline"]] == [STEPS]


def test_validation_pictures_are_measured_where_there_are_any(data, tmp_path):
    apart = replace(data, test=data.test.part(torch.arange(300)), validation=data.test.part(torch.arange(300, 340)))
    found = trained(context_of_call(apart, None, CPU), tmp_path, 1)["timeline"][-1]
    assert found["pictures"] == 40


def module() -> TeacherModule:
    torch.manual_seed(0)
    moments = (torch.tensor([0.5]), torch.tensor([0.25]))
    task = Task(3, moments, AugmentOptions(crop=0, flip=False), OptimiserOptions(batch=4, lr=0.01), STEPS)
    made = TeacherModule("t", build("convnet_narrow", 3, 1, 8), task)
    made.resident = Pictures(*pictures())
    return made


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (12, 1, 8, 8), dtype=torch.uint8, generator=draw), torch.arange(12) % 3


class StoppedError(Exception):
    pass


def until(last: int, step: int) -> torch.Tensor:
    if step >= last:
        raise StoppedError
    return in_order(12, 4, step % 3)


def test_a_training_that_is_resumed_keeps_the_measurements_before(tmp_path):
    curves = [AccuracyCurve(*pictures(), report=None, count=5) for _ in range(3)]
    with pytest.raises(StoppedError):
        fit(module(), loader(Indices(), partial(until, 13), STEPS), 0, tmp_path, "t", CPU, curve=curves[0])
    assert torch.load(tmp_path / "t.ckpt", weights_only=True)["timeline"] == curves[0].timeline
    fit(module(), loader(Indices(), partial(until, STEPS), STEPS), 0, tmp_path, "t", CPU, curve=curves[1])
    fit(module(), loader(Indices(), partial(until, STEPS), STEPS), 0, None, "t", CPU, curve=curves[2])
    assert [at["step"] for at in curves[1].timeline] == [5, 10, 15, 20, 25]
    assert curves[1].timeline[:2] == curves[0].timeline
    unbroken = [{**at, "seconds": 0} for at in curves[2].timeline]
    assert [{**at, "seconds": 0} for at in curves[1].timeline] == unbroken


def test_the_balanced_accuracy_counts_every_class_the_same():
    images, _ = pictures()
    targets = torch.tensor([0] * 8 + [1] * 3 + [2])
    made, curve = module(), AccuracyCurve(images, targets, None)
    with torch.no_grad():
        predicted = made.eval()(images).argmax(1)
    made.train()
    assert curve.measure(made, 7, 1.234) == pytest.approx(float((predicted == targets).float().mean()))
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    for true, guess in zip(targets.tolist(), predicted.tolist(), strict=True):
        confusion[true, guess] += 1
    (found,) = curve.timeline
    assert found["balanced_accuracy"] == pytest.approx(scores(confusion).balanced_accuracy)
    assert (found["step"], found["seconds"], found["pictures"]) == (7, 1.23, 12)
    assert made.training


def test_seconds_of_a_pause_do_not_count(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    watch = Stopwatch()
    now[0] = 103.0
    with watch.paused(torch.device("cpu")) as seconds:
        now[0] = 150.0
    now[0] = 152.0
    assert (seconds, watch.seconds) == (3.0, 5.0)
