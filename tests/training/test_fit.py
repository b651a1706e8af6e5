"""Fits that stop and resume, with one process and with two."""

import csv
import errno
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from compensator_fits import ONE, STEPS, TWO, fitted, identity, module, problem

from infer.core import ufc
from infer.core.errors import UserError
from infer.core.options import AugmentOptions, UFCOptions
from infer.core.ufc import STEP, compose, normalise, quantise
from infer.data.batches import Indices, in_order, loader
from infer.models.classifier import Task
from infer.models.compensator import CompensatorModule, MicroBatch
from infer.models.networks import build
from infer.models.options import OptimiserOptions
from infer.models.teacher import TeacherModule
from infer.training.callbacks import AccuracyCurve, SeededSteps
from infer.training.fit import delete_checkpoint, fit
from infer.training.options import TrainerOptions


class StoppedError(Exception):
    pass


def until(last: int, step: int) -> torch.Tensor:
    """Batches up to ``last``; then the run stops, as on a full disk or a lost machine."""
    if step >= last:
        raise StoppedError("broken off")
    return in_order(STEPS, 1, step)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> torch.Tensor:
    return fitted(module(), tmp_path_factory.mktemp("u"))


def break_off(folder: Path, trainer: TrainerOptions) -> None:
    with pytest.raises(Exception, match="broken off"):
        fit(module(), loader(Indices(), partial(until, 11), STEPS), 0, folder, "u", trainer)
    assert 8 <= torch.load(folder / "u.ckpt", weights_only=True)["global_step"] <= 11


def resumed(folder: Path, trainer: TrainerOptions) -> torch.Tensor:
    u = fitted(module(), folder, trainer)
    delete_checkpoint(folder, "u")
    assert not list(folder.glob("*.ckpt"))
    return u


def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path, unbroken):
    break_off(tmp_path, ONE)
    assert torch.equal(resumed(tmp_path, ONE), unbroken)
    assert "distill/t/loss" in (tmp_path / "metrics.csv").read_text()


def test_a_fit_without_a_folder_writes_nothing_and_ends_the_same(tmp_path, unbroken, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert torch.equal(fitted(module(), None), unbroken)
    assert not list(tmp_path.rglob("*"))


def test_optimise_equals_the_fit_of_the_module(tmp_path):
    """Without jitter nothing is drawn, so the plain loop of core and Lightning's take the same steps."""
    whole = problem(jitter=0)
    u = ufc.optimise(whole.objective.teacher, whole.naturals, whole.targets, whole.options, whole.mean, whole.std)
    assert u.abs().max() > 0.5
    torch.testing.assert_close(u, fitted(module(jitter=0), tmp_path), rtol=0, atol=1e-6)


def test_optimise_with_the_seeds_of_the_steps_equals_the_fit_with_jitter(unbroken, monkeypatch):
    """The draws of a step are the same ones where torch is seeded as SeededSteps seeds it."""
    seeded, step = SeededSteps(0, same_on_all=True), iter(range(STEPS))
    draw = ufc.Problem.draw_transform

    def seeded_draw(self):
        seeded.on_train_batch_start(SimpleNamespace(global_rank=0, global_step=next(step)))
        return draw(self)

    monkeypatch.setattr(ufc.Problem, "draw_transform", seeded_draw)
    whole = problem()
    u = ufc.optimise(whole.objective.teacher, whole.naturals, whole.targets, whole.options, whole.mean, whole.std)
    torch.testing.assert_close(u, unbroken, rtol=0, atol=1e-6)


def test_all_rounds_at_once_give_what_each_round_alone_gives(tmp_path, unbroken):
    """The module itself, through Lightning: the result of a round does not depend on the other rounds."""
    for k in range(3):
        alone = problem()
        alone.naturals, alone.targets = alone.naturals[k : k + 1], alone.targets[k : k + 1]
        u = fitted(CompensatorModule("t", alone), tmp_path, name=f"u{k}")
        assert unbroken[k].abs().max() > 0.5
        torch.testing.assert_close(u[0], unbroken[k], rtol=1e-3, atol=1e-3)


def test_the_module_optimises_the_images_that_a_reader_composes(tmp_path):
    """The last logged loss is that of the 8-bit images of the file, not of the float tensor."""
    still = problem(jitter=0)
    still.options = UFCOptions(steps=STEPS, lr=0.0, jitter=0)
    made = CompensatorModule("t", still)
    made.u.data.normal_(std=2)
    kept = STEP * quantise(made.u.detach(), still.std).short().unsqueeze(1)
    images = normalise(compose(still.naturals.short(), kept), still.mean, still.std)
    terms = still.objective(images, still.targets)
    fitted(made, tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        logged = [row["distill/t/loss"] for row in csv.DictReader(file)]
    assert float(logged[-1]) == pytest.approx(terms.loss.mean().item(), rel=1e-5)


def test_mixed_precision_ends_near_full_precision(tmp_path, unbroken):
    """How far bfloat16 moves the result: the float32 objective of both ends."""
    start = module().u.detach()
    mixed = fitted(module(), tmp_path, TrainerOptions(accelerator="cpu", precision="bf16-mixed"))
    losses = []
    for u in (start, unbroken, mixed):
        judge = problem()
        terms = judge.add_gradient(u.clone().requires_grad_(), slice(0, 3), identity, 4)
        losses.append(terms.loss.mean().item())
    assert not torch.equal(unbroken, mixed)
    assert losses[1] < 0.95 * losses[0]
    assert losses[2] == pytest.approx(losses[1], rel=0.03)


def test_micro_batches_of_rounds_and_classes_end_alike(tmp_path, unbroken):
    made = module()
    made.micro_batch = MicroBatch(2, 3)
    torch.testing.assert_close(fitted(made, tmp_path), unbroken, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_that_cannot_be_read_restarts_the_stage(tmp_path, unbroken):
    (tmp_path / "u.ckpt").write_bytes(b"half of")
    assert torch.equal(resumed(tmp_path, ONE), unbroken)


def test_another_process_of_the_job_may_delete_the_damaged_checkpoint_first(tmp_path, unbroken, monkeypatch):
    (tmp_path / "u.ckpt").write_bytes(b"half of")
    load = torch.load

    def deleted(path, **options):
        monkeypatch.undo()
        path.unlink()
        return load(path, **options)

    monkeypatch.setattr(torch, "load", deleted)
    assert torch.equal(resumed(tmp_path, ONE), unbroken)


NO_MEMORY = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(NO_MEMORY)], ids=["Python", "torch"])
def test_too_little_memory_for_a_checkpoint_does_not_delete_it(tmp_path, unbroken, monkeypatch, error):
    break_off(tmp_path, ONE)
    whole = (tmp_path / "u.ckpt").read_bytes()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(MemoryError):
        fitted(module(), tmp_path)
    assert (tmp_path / "u.ckpt").read_bytes() == whole
    monkeypatch.undo()
    assert torch.equal(resumed(tmp_path, ONE), unbroken)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading is an error of the disk")
def test_a_checkpoint_that_the_disk_does_not_give_is_not_deleted(tmp_path):
    (tmp_path / "u.ckpt").symlink_to("/proc/self/mem")
    with pytest.raises(UserError) as told:
        fitted(module(), tmp_path)
    assert str(told.value) == (
        f"{tmp_path}/u.ckpt: cannot be read (Input/output error); remove it or choose another output="
    )
    assert (tmp_path / "u.ckpt").is_symlink()


def fit_that_fails(folder: Path, error: OSError) -> None:
    def fail(_: int) -> torch.Tensor:
        raise error

    fit(module(), loader(Indices(), fail, STEPS), 0, folder, "u", ONE)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_a_file_is_told_with_the_folder_and_the_cure(tmp_path, number):
    with pytest.raises(UserError) as told:
        fit_that_fails(tmp_path, OSError(number, os.strerror(number)))
    line = str(told.value)
    assert line.startswith(f"{tmp_path}: cannot be written ({os.strerror(number)}); ")
    assert ("free space" in line) == (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), TimeoutError("late"), OSError(errno.EIO, "I/O")])
def test_other_errors_of_the_system_are_not_told_as_those_of_the_disk(tmp_path, error):
    with pytest.raises(OSError, match=str(error.args[-1])) as told:
        fit_that_fails(tmp_path, error)
    assert told.value is error


def test_a_full_disk_ends_a_fit_in_one_line(tmp_path):
    """The kernel refuses every file beyond 2 kB, and so the checkpoint."""
    code = """
import resource, sys, pathlib
sys.path.insert(0, sys.argv[1])
import infer
import test_fit as t
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    t.resumed(pathlib.Path(sys.argv[2]), t.ONE)
except infer.UserError as error:
    print(error)
"""
    words = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "u.ckpt: cannot be written" in done.stdout, done.stderr
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".ckpt", ".tmp")]


def test_two_processes_that_resume_a_completed_fit_do_not_sum_twice(tmp_path, unbroken):
    """A run that is killed between the last checkpoint and the result has nothing left to train or to sum."""
    for _ in range(2):
        torch.testing.assert_close(fitted(module(), tmp_path, TWO), unbroken, rtol=1e-3, atol=1e-3)
        with (tmp_path / "metrics.csv").open() as file:
            assert [int(row["step"]) for row in csv.DictReader(file)] == [*range(STEPS)]


def test_two_processes_share_the_rounds_and_one_may_resume(tmp_path, unbroken):
    """Three rounds over two processes; the checkpoint of both resumes in two, or in one."""
    for folder, trainer in ((tmp_path / "two", TWO), (tmp_path / "one", ONE)):
        folder.mkdir()
        break_off(folder, TWO)
        torch.testing.assert_close(resumed(folder, trainer), unbroken, rtol=1e-3, atol=1e-3)


def test_the_largest_seeds_draw_and_each_step_draws_differently():
    seeded, first = SeededSteps(2**31 * 1000, same_on_all=True), []  # a run's largest seed, of its last student
    for step in (0, 1):
        seeded.on_train_batch_start(SimpleNamespace(global_rank=0, global_step=step))
        first.append(torch.rand(()).item())
    assert first[0] != first[1]


def test_an_accuracy_curve_is_measured_ten_times():
    torch.manual_seed(0)
    images, targets = torch.randint(256, (12, 1, 8, 8), dtype=torch.uint8), torch.arange(12) % 3
    moments = (torch.tensor([0.5]), torch.tensor([0.25]))
    task = Task(3, moments, AugmentOptions(crop=0, flip=False), OptimiserOptions(batch=4, lr=0.01), STEPS)
    made = TeacherModule("t", build("convnet_narrow", 3, 1, 8), task)
    dataset = torch.utils.data.TensorDataset(images, targets)
    batches = loader(dataset, partial(in_order_of, 12, 4), STEPS)
    measured = []
    curve = AccuracyCurve(images, targets, lambda step, accuracy: measured.append((step, accuracy)))
    fit(made, batches, 0, None, "teacher", ONE, curve=curve)
    assert [step for step, _ in measured] == list(range(2, STEPS + 1, 2))
    with torch.no_grad():
        last = (made.eval()(images).argmax(dim=1) == targets).float().mean().item()
    assert measured[-1][1] == last


def in_order_of(size: int, batch: int, step: int) -> torch.Tensor:
    return in_order(size, batch, step % (size // batch))
