"""The choice of micro-batches: given values, memory, measured speed, and no side effects; compiled passes."""

import shutil

import pytest
import torch
from compensator_fits import identity, module, problem

from infer.models.compensator import CompensatorModule, MicroBatch
from infer.models.compiled import Compiled
from infer.training import microbatching

CPU = torch.device("cpu")


def chosen(rounds: int | None = None, classes: int | None = None) -> MicroBatch:
    return microbatching.choose(problem(), CPU, "32-true", rounds, classes)


def add_gradient(made: CompensatorModule) -> None:
    """Add the gradient of all rounds as a training step does, with the module's objective and micro-batch."""
    made.problem.add_gradient(
        made.u, slice(0, 3), identity, made.micro_batch.classes, torch.Tensor.backward, made.objective
    )


def test_given_values_are_kept():
    assert chosen(2, 3) == MicroBatch(2, 3)
    assert chosen(99, 99) == MicroBatch(3, 4)
    assert chosen(2, None) == MicroBatch(2, 4)
    assert chosen(None, 3) == MicroBatch(1, 3)


def test_scarce_memory_cuts_rounds_and_then_classes(monkeypatch):
    size = microbatching._Trial(problem(), CPU, "32-true").bytes_an_image()
    for images, expected in ((12, {1, 2, 3}), (7, {1}), (4, {1})):
        monkeypatch.setattr(microbatching, "memory", lambda _, n=images: n * size / microbatching.HEADROOM)
        found = chosen()
        assert found.rounds in expected
        assert found.classes == 4
    monkeypatch.setattr(microbatching, "memory", lambda _: 3.9 * size / microbatching.HEADROOM)
    found = chosen()
    assert found.rounds == 1
    assert found.classes in (1, 2, 3)
    monkeypatch.setattr(microbatching, "memory", lambda _: 0)
    assert chosen() == MicroBatch(1, 1)


def test_the_fastest_count_that_fits_and_pays_is_found():
    tried = []

    def seconds(cost):
        def timed(count):
            tried.append(count)
            return count * cost[count]

        return timed

    fastest = microbatching._fastest
    assert fastest(seconds({1: 4.0, 2: 3.0, 4: 2.0, 5: 1.0}), 5, 100) == 5
    assert fastest(seconds({1: 4.0, 2: 3.0, 4: 2.0}), 5, 4) == 4  # 5 do not fit
    assert fastest(seconds({1: 4.0, 2: 3.9}), 2, 100) == 1  # not worth the memory
    tried.clear()
    assert fastest(seconds({1: 4.0, 2: 2.0, 4: 3.0}), 64, 100) == 2  # and 8 are not tried
    assert tried == [1, 2, 4]
    assert fastest(seconds({1: 1.0}), 9, 0) == 1  # never less than one


def test_bytes_an_image_are_those_of_its_graph():
    """The narrow ConvNet keeps, for each of three blocks, some feature maps of 32 channels: 8x8, 4x4, 2x2 floats."""
    maps = 4 * 32 * (64 + 16 + 4)
    assert 2 * maps < microbatching._Trial(problem(), CPU, "32-true").bytes_an_image() < 8 * maps


def test_choosing_leaves_the_problem_and_the_generator_as_they_were():
    made = problem()
    naturals, targets = made.naturals.clone(), made.targets.clone()
    weights = {name: value.clone() for name, value in made.objective.state_dict().items()}
    draws = torch.get_rng_state()
    microbatching.choose(made, CPU, "bf16-mixed", None, None)
    assert torch.equal(torch.get_rng_state(), draws)
    assert torch.equal(made.naturals, naturals)
    assert torch.equal(made.targets, targets)
    assert all(torch.equal(weights[name], value) for name, value in made.objective.state_dict().items())
    assert all(parameter.grad is None for parameter in made.objective.parameters())
    assert not made.zeros().any()


def test_a_module_takes_all_rounds_and_classes_in_one_pass_unless_told():
    assert module().micro_batch == MicroBatch(3, 4)


def test_a_compiler_that_fails_is_replaced_by_the_plain_objective(caplog):
    made, plain = module(), module()

    def broken(*_):
        raise RuntimeError("no C++ compiler")

    made.compiled = Compiled(made.problem.objective.__call__, "default", "distill.compile")
    made.compiled.compiled = broken
    for each in (made, plain):
        add_gradient(each)
    assert torch.equal(made.u.grad, plain.u.grad)
    assert "distill.compile=default fails (RuntimeError: no C++ compiler)" in caplog.text
    assert made.compiled.compiled is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_passes_have_the_same_gradient(caplog):
    made, plain = module(), module()
    made.compile_mode = "default"
    made.on_fit_start()
    for each in (made, plain):
        each.micro_batch = MicroBatch(3, 3)  # in parts: the compiled objective with known moments too
        add_gradient(each)
    assert made.compiled.compiled is not None, caplog.text
    assert (made.u.grad - plain.u.grad).norm() < 1e-5 * plain.u.grad.norm()
