"""Recorded steps: with a graph of the CPU in place of CUDA's, a training is the same as without."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import infer
from infer.distilled import DistilledSet, Header
from infer.models.classifier import Classifier
from infer.models.recorded import RecordedObjective, RecordedStep
from infer.training.options import StudentOptions, TrainerOptions


class CpuGraph:
    """Runs the work again at each replay; like CUDA's, it does not run while it is recorded."""

    def __init__(self) -> None:
        self.replays = 0

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        return work()

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        self.work, self.found = work, torch.zeros(())
        return self.found

    def replay(self) -> None:
        self.replays += 1
        self.found.copy_(self.work())


def trained(recorded: bool, capturable: bool, graph: CpuGraph | None = None) -> tuple[Tensor, list[float]]:
    torch.manual_seed(0)
    network, losses = nn.Linear(4, 3), []
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    optimiser.defaults["capturable"] = capturable
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 8)

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(inputs), targets)

    step = RecordedStep(loss, optimiser, graph or CpuGraph()) if recorded else None
    for _ in range(8):
        batch = torch.randn(5, 4), torch.randint(3, (5,))
        if step:
            found = step(*batch)
        else:
            optimiser.zero_grad()
            found = loss(*batch)
            found.backward()
        if not (step and step.has_optimiser):
            optimiser.step()
        schedule.step()
        losses.append(found.item())
    return network.weight.detach(), losses


@pytest.mark.parametrize("capturable", [False, True])
def test_a_recorded_training_is_the_plain_one(capturable: bool) -> None:
    weights, losses = trained(recorded=True, capturable=capturable)
    plain, expected = trained(recorded=False, capturable=False)
    torch.testing.assert_close(weights, plain)
    assert losses == pytest.approx(expected)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(CpuGraph):
        def record(self, work: Callable[[], Tensor]) -> Tensor:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    weights, losses = trained(recorded=True, capturable=True, graph=Refusing())
    plain, expected = trained(recorded=False, capturable=False)
    torch.testing.assert_close(weights, plain)
    assert losses == pytest.approx(expected)
    assert caplog.messages == [
        "trainer.compile=graph fails (operation not permitted when stream is capturing); going on without it"
    ]


def small_set() -> DistilledSet:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 3, 16, 16), generator=draw, dtype=torch.uint8)
    header = Header(["a", "b"], [0.5] * 3, [0.2] * 3, "static", "logits", 4.0, 0)
    none = torch.empty(0, 3, 16, 16, dtype=torch.int8)
    return DistilledSet(images, torch.arange(12) % 2, none, torch.randn(12, 2, generator=draw).half(), header)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_student_is_the_same_with_recorded_steps(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = StudentOptions(optimizer=optimizer, lr=1e-2, schedule="one_cycle", batch=8)
    graph = CpuGraph()

    def record(module: Classifier) -> None:
        chosen = module.trainer.optimizers[0]
        chosen.defaults["capturable"] = optimizer == "muon"  # as on a GPU
        module.recorded = RecordedStep(module.loss, chosen, graph)

    def student() -> nn.Module:
        return infer.train_student(small_set(), "convnet_narrow", steps=7, options=recipe, trainer=cpu)

    cpu = TrainerOptions("cpu", compile="graph")
    plain = student().state_dict()
    monkeypatch.setattr(Classifier, "on_train_start", record)
    recorded = student().state_dict()
    assert graph.replays == 4
    for name, value in plain.items():
        # Muon's directions are bfloat16, and a rate that is a tensor multiplies them so.
        torch.testing.assert_close(recorded[name], value, atol=2e-3 if optimizer == "muon" else 1e-5, rtol=1e-4)


def test_an_objective_is_recorded_once_for_each_shape_and_called_where_it_has_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = []

    def graphed(function: Callable[..., Tensor], sample: tuple[Tensor, Tensor]) -> Callable[..., Tensor]:
        assert sample[0].requires_grad
        recorded.append(sample[0].shape)
        return function

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    objective = RecordedObjective(lambda images, targets, share=1.0: share * images.sum() + targets.sum())
    ones = torch.ones(2, 3)
    assert objective(ones, torch.ones(2)) == 8
    assert objective(2 * ones, torch.ones(2)) == 14
    assert objective(ones[:1], torch.ones(1)) == 4
    assert objective(ones, torch.ones(2), 0.5) == 5
    assert recorded == [(2, 3), (1, 3)]
