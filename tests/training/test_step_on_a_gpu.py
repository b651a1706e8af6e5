"""What a step does on a GPU: it waits for no copy, and it multiplies in TF32. No GPU is needed to see it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from infer.core.devices import moved
from infer.core.options import AugmentOptions
from infer.models.classifier import Task
from infer.models.options import OptimiserOptions
from infer.models.teacher import TeacherModule
from infer.training.callbacks import TensorFloat32

GPU = torch.device("cuda", 0)


class Recorded:
    """A tensor that records how it is copied."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.calls: list[Any] = []

    def pin_memory(self) -> "Recorded":
        self.calls.append("pinned")
        return self

    def to(self, device: torch.device, **options: bool) -> "Recorded":
        self.calls.append((device.type, options))
        return self


@pytest.mark.parametrize(
    ("where", "device", "calls"),
    [
        ("cpu", GPU, ["pinned", ("cuda", {"non_blocking": True})]),
        ("cuda", GPU, [("cuda", {})]),
        ("cpu", torch.device("cpu"), [("cpu", {})]),
        ("cuda", torch.device("cpu"), [("cpu", {})]),  # which must wait: the numbers are read at once
    ],
)
def test_a_copy_to_a_gpu_goes_through_pinned_memory_and_waits_for_nothing(where, device, calls):
    tensor = Recorded(where)
    moved(tensor, device)
    assert tensor.calls == calls


def test_the_indices_of_a_resident_set_are_not_copied_to_the_device_first():
    task = Task(2, (torch.zeros(1), torch.ones(1)), AugmentOptions(), OptimiserOptions(), 1)
    module = TeacherModule("t", torch.nn.Flatten(), task)
    module._trainer = SimpleNamespace(training=True)  # Lightning's own
    indices = torch.arange(3)
    assert module.transfer_batch_to_device(indices, torch.device("meta"), 0).device.type == "meta"
    module.resident = object()
    assert module.transfer_batch_to_device(indices, torch.device("meta"), 0) is indices


@pytest.mark.parametrize("end", ["teardown", "on_exception"])
@pytest.mark.parametrize(("device", "during"), [(GPU, "high"), (torch.device("cpu"), "highest")])
def test_matrices_are_multiplied_in_tf32_on_a_gpu_during_a_stage_alone(device, during, end):
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=device))
    assert torch.get_float32_matmul_precision() == "highest"
    callback = TensorFloat32()
    try:
        callback.setup(trainer, torch.nn.Identity(), "fit")
        assert torch.get_float32_matmul_precision() == during
        getattr(callback, end)(trainer, torch.nn.Identity(), "fit")
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")
