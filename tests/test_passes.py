"""How steps are cut: within memory, as measured, and without a trace in the module."""

import shutil

import pytest
import torch
from test_fitting import module

from infer.models.modules import Passes
from infer.training import microbatching as passes

CPU = torch.device("cpu")


def test_what_is_given_is_kept():
    assert passes.choose(module(), CPU, "32-true", 2, 3) == Passes(2, 3)
    assert passes.choose(module(), CPU, "32-true", 99, 99) == Passes(3, 4)
    assert passes.choose(module(), CPU, "32-true", 2, None) == Passes(2, 4)
    assert passes.choose(module(), CPU, "32-true", None, 3) == Passes(1, 3)


def test_scarce_memory_cuts_rounds_and_then_classes(monkeypatch):
    trial = passes._Trial(module(), CPU, "32-true")
    size = trial.bytes_an_image()
    for images, expected in ((12, {1, 2, 3}), (7, {1}), (4, {1})):
        monkeypatch.setattr(passes, "memory", lambda _, images=images: images * size / passes.HEADROOM)
        found = passes.choose(module(), CPU, "32-true", None, None)
        assert found.rounds in expected
        assert found.classes == 4
    monkeypatch.setattr(passes, "memory", lambda _: 3.9 * size / passes.HEADROOM)
    found = passes.choose(module(), CPU, "32-true", None, None)
    assert found.rounds == 1
    assert found.classes in (1, 2, 3)
    monkeypatch.setattr(passes, "memory", lambda _: 0)
    assert passes.choose(module(), CPU, "32-true", None, None) == Passes(1, 1)


def test_the_fastest_that_fits_and_pays_is_found():
    tried = []

    def seconds(cost):
        def timed(count):
            tried.append(count)
            return count * cost[count]

        return timed

    assert passes._fastest(seconds({1: 4.0, 2: 3.0, 4: 2.0, 5: 1.0}), 5, 100) == 5
    assert passes._fastest(seconds({1: 4.0, 2: 3.0, 4: 2.0}), 5, 4) == 4  # 5 do not fit
    assert passes._fastest(seconds({1: 4.0, 2: 3.9}), 2, 100) == 1  # not worth the memory
    tried.clear()
    assert passes._fastest(seconds({1: 4.0, 2: 2.0, 4: 3.0}), 64, 100) == 2  # and 8 are not tried
    assert tried == [1, 2, 4]
    assert passes._fastest(seconds({1: 1.0}), 9, 0) == 1  # one always is


def test_bytes_an_image_are_those_of_its_graph():
    """The narrow ConvNet keeps, for each of three blocks, some feature maps of 32 channels: 8x8, 4x4, 2x2 floats."""
    maps = 4 * 32 * (64 + 16 + 4)
    assert 2 * maps < passes._Trial(module(), CPU, "32-true").bytes_an_image() < 8 * maps


def test_choosing_leaves_the_module_as_it_was():
    made = module()
    before, draws = made.u.detach().clone(), torch.get_rng_state()
    passes.choose(made, CPU, "bf16-mixed", None, None)
    assert made.u.grad is None
    assert torch.equal(made.u, before)
    assert torch.equal(torch.get_rng_state(), draws)
    assert made.passes == Passes(3, 4)
    assert made.targets.shape == (3, 4)


def test_a_compiler_that_fails_is_done_without(monkeypatch, caplog):
    made, plain = module(), module()

    def broken(*_):
        raise RuntimeError("no C++ compiler")

    made.compile_mode, made.compiled = "default", broken
    for each in (made, plain):
        each.descend(slice(0, 3), lambda images: images, torch.Tensor.backward)
    assert torch.equal(made.u.grad, plain.u.grad)
    assert "distill.compile=default fails (RuntimeError: no C++ compiler)" in caplog.text
    assert made.compiled is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_passes_have_the_same_gradient(caplog):
    made, plain = module(), module()
    made.compile_mode = "default"
    made.on_fit_start()
    for each in (made, plain):
        each.passes = Passes(3, 3)  # in parts: the compiled objective with known moments too
        each.descend(slice(0, 3), lambda images: images, torch.Tensor.backward)
    assert made.compiled is not None, caplog.text
    assert (made.u.grad - plain.u.grad).norm() < 1e-5 * plain.u.grad.norm()
