"""Fitting that stops and goes on, with one process and with two."""

from functools import partial

import pytest
import torch

from infer.backbones import build, frozen
from infer.data.batches import in_order, loader
from infer.fitting import Hardware, fit, forget
from infer.lit import CompensatorModule
from infer.schema import backbone
from infer.ufc import batch_norms

STEPS = 20


class Indices:
    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        return indices


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
    return CompensatorModule(
        "t", teacher, naturals, targets, (torch.tensor([0.5]), torch.tensor([0.25])), STEPS, 0.25, 1.0, 10.0, 1
    )


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


def test_two_processes_share_the_rounds_and_may_go_on_as_one(tmp_path, unbroken):
    """Three rounds over two processes; the checkpoint of both resumes in two, or in one."""
    two = Hardware(devices=2, strategy="ddp_spawn")
    for folder, hardware in ((tmp_path / "two", two), (tmp_path / "one", Hardware())):
        folder.mkdir()
        broken_off(folder, two)
        torch.testing.assert_close(go_on(folder, hardware), unbroken, rtol=1e-3, atol=1e-3)
