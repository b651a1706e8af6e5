"""Fitting that stops and goes on, with one process and with two."""

import csv
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infer.cli.schema import backbone
from infer.core.ufc import STEP, batch_norms, compose, normalise, quantise
from infer.data.batches import Indices, in_order, loader
from infer.models.modules import CompensatorModule, Passes, UFCOptions
from infer.models.networks import build, frozen
from infer.training.fit import Hardware, SeededSteps, fit, forget

STEPS = 20


class StoppedError(Exception):
    pass


def until(last: int, step: int) -> torch.Tensor:
    """Batches up to ``last``; then the run breaks off, as on a full disk or a lost machine."""
    if step >= last:
        raise StoppedError("broken off")
    return in_order(STEPS, 1, step)


def module() -> CompensatorModule:
    torch.manual_seed(0)
    options = backbone("convnet_narrow")
    teacher = frozen(build(options.model, options.options, options.stem, 4, 1, 8))
    for layer in batch_norms(teacher):
        layer.running_mean.normal_()
    naturals = torch.randint(256, (3, 4, 1, 8, 8), dtype=torch.uint8)
    targets = torch.arange(4).expand(3, -1)
    moments = (torch.tensor([0.5]), torch.tensor([0.25]))
    return CompensatorModule("t", teacher, naturals, targets, moments, UFCOptions(STEPS, 0.25, 1.0, 10.0, 1))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> torch.Tensor:
    made = module()
    fit(
        made,
        loader(Indices(), partial(in_order, STEPS, 1), STEPS),
        0,
        tmp_path_factory.mktemp("u"),
        "u",
        Hardware(),
        [],
    )
    return made.u.detach()


def broken_off(folder, hardware: Hardware) -> None:
    with pytest.raises(Exception, match="broken off"):
        fit(module(), loader(Indices(), partial(until, 11), STEPS), 0, folder, "u", hardware, [])
    assert 8 <= torch.load(folder / "u.ckpt", weights_only=True)["global_step"] <= 11


def go_on(folder, hardware: Hardware) -> torch.Tensor:
    made = module()
    fit(made, loader(Indices(), partial(in_order, STEPS, 1), STEPS), 0, folder, "u", hardware, [])
    forget(folder, "u")
    assert not list(folder.glob("*.ckpt"))
    return made.u.detach()


def test_a_run_that_goes_on_is_the_unbroken_one_to_the_bit(tmp_path, unbroken):
    broken_off(tmp_path, Hardware())
    assert torch.equal(go_on(tmp_path, Hardware()), unbroken)
    assert "distill/t/loss" in (tmp_path / "metrics.csv").read_text()


def test_all_rounds_at_once_are_each_round_alone(tmp_path, unbroken):
    """The module itself, through Lightning: what a round gets does not depend on its neighbours."""
    whole = module()
    for k in range(3):
        alone = module()
        alone.naturals, alone.targets = whole.naturals[k : k + 1], whole.targets[k : k + 1]
        alone.u = torch.nn.Parameter(alone.u.data[k : k + 1].clone())
        fit(alone, loader(Indices(), partial(in_order, STEPS, 1), STEPS), 0, tmp_path, f"u{k}", Hardware(), [])
        assert unbroken[k].abs().max() > 0.5
        torch.testing.assert_close(alone.u.detach()[0], unbroken[k], rtol=1e-3, atol=1e-3)


def test_the_module_optimises_what_reading_composes(tmp_path):
    """The loss that it logs last is that of the 8-bit images the file gives, not of the tensor it holds."""
    made = module()
    made.options = UFCOptions(STEPS, 0.0, 1.0, 10.0, 0)
    made.u.data.normal_(std=2)
    kept = STEP * quantise(made.u.detach(), made.std).short().unsqueeze(1)
    images = normalise(compose(made.naturals.short(), kept), made.mean, made.std)
    terms = made.frozen[0](images, made.targets)
    fit(made, loader(Indices(), partial(in_order, STEPS, 1), STEPS), 0, tmp_path, "u", Hardware(), [])
    with (tmp_path / "metrics.csv").open() as file:
        logged = [row["distill/t/loss"] for row in csv.DictReader(file)]
    assert float(logged[-1]) == pytest.approx(terms.loss.mean().item(), rel=1e-5)


def test_mixed_precision_ends_near_the_full_one(tmp_path, unbroken):
    """How far the result moves in bfloat16: the float32 objective of both ends."""
    mixed, start = module(), module()
    steps = loader(Indices(), partial(in_order, STEPS, 1), STEPS)
    fit(mixed, steps, 0, tmp_path, "u", Hardware(precision="bf16-mixed"), [])
    losses = []
    for u in (start.u.detach(), unbroken, mixed.u.detach()):
        judge = module()
        judge.u.data = u
        losses.append(judge.descend(slice(0, 3), lambda images: images, torch.Tensor.backward)[0].mean().item())
    assert not torch.equal(unbroken, mixed.u.detach())
    assert losses[1] < 0.95 * losses[0]
    assert losses[2] == pytest.approx(losses[1], rel=0.03)


def test_parts_of_rounds_and_of_classes_end_alike(tmp_path, unbroken):
    made = module()
    made.passes = Passes(2, 3)
    fit(made, loader(Indices(), partial(in_order, STEPS, 1), STEPS), 0, tmp_path, "u", Hardware(), [])
    torch.testing.assert_close(made.u.detach(), unbroken, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_that_cannot_be_read_starts_the_stage_anew(tmp_path, unbroken):
    (tmp_path / "u.ckpt").write_bytes(b"half of")
    assert torch.equal(go_on(tmp_path, Hardware()), unbroken)


def test_a_full_disk_ends_a_fit_in_one_line(tmp_path):
    """A real refusal by the kernel: no file beyond 2 kB, and so no checkpoint."""
    code = """
import resource, sys, pathlib
sys.path.insert(0, sys.argv[1])
import infer
import test_fitting as t
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    t.go_on(pathlib.Path(sys.argv[2]), t.Hardware())
except infer.UserError as error:
    print(error)
"""
    words = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "u.ckpt: cannot be written" in done.stdout, done.stderr
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".ckpt", ".tmp")]


def test_two_processes_that_stopped_when_all_was_done_do_not_count_twice(tmp_path, unbroken):
    """Killed between the last checkpoint and the result: nothing is left to train, nor to sum."""
    two = Hardware(devices=2, strategy="ddp_spawn")
    steps = loader(Indices(), partial(in_order, STEPS, 1), STEPS)
    for _ in range(2):
        made = module()
        fit(made, steps, 0, tmp_path, "u", two, [])
        torch.testing.assert_close(made.u.detach(), unbroken, rtol=1e-3, atol=1e-3)


def test_two_processes_share_the_rounds_and_may_go_on_as_one(tmp_path, unbroken):
    """Three rounds over two processes; the checkpoint of both resumes in two, or in one."""
    two = Hardware(devices=2, strategy="ddp_spawn")
    for folder, hardware in ((tmp_path / "two", two), (tmp_path / "one", Hardware())):
        folder.mkdir()
        broken_off(folder, two)
        torch.testing.assert_close(go_on(folder, hardware), unbroken, rtol=1e-3, atol=1e-3)


def test_the_largest_seeds_draw_and_each_step_apart():
    seeded, first = SeededSteps(2**31 * 1000, same_on_all=True), []  # a run's largest seed, of its last student
    for step in (0, 1):
        seeded.on_train_batch_start(SimpleNamespace(global_rank=0, global_step=step))
        first.append(torch.rand(()).item())
    assert first[0] != first[1]
