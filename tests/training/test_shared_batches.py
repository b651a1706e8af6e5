"""Two data-parallel processes: each trains on its part of every batch, and both together on the whole batch."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
import torch
from compensator_fits import ONE, TWO
from torch import nn

from infer.core.mixing import student_batch
from infer.core.options import AugmentOptions
from infer.data.batches import Indices, StepSampler, loader
from infer.models.classifier import Task
from infer.models.options import OptimiserOptions
from infer.models.teacher import TeacherModule
from infer.training.fit import fit

STEPS, SIZE, BATCH = 6, 18, 6


class RecordedPictures:
    """Labelled noise that writes down the indices which each process asks for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (SIZE, 1, 4, 4), generator=generator, dtype=torch.uint8)
        self.targets = torch.arange(SIZE) % 3
        self.device, self.nbytes = torch.device("cpu"), self.images.nbytes

    def to(self, device: torch.device) -> "RecordedPictures":
        return self

    def __getitem__(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        with (self.folder / f"process-{rank}.txt").open("a") as file:
            file.write(" ".join(map(str, indices.tolist())) + "\n")
        return self.images[indices], self.targets[indices]

    def batches(self, rank: int) -> list[list[int]]:
        """The indices of each batch of a process."""
        lines = (self.folder / f"process-{rank}.txt").read_text().splitlines()
        return [[int(word) for word in line.split()] for line in lines]


DRAW = partial(student_batch, SIZE, 0, BATCH, None, 3)


def trained(folder: Path, trainer) -> tuple[nn.Module, RecordedPictures]:
    """A linear classifier after STEPS steps: without BatchNorm, so that parts of a batch do not interact."""
    folder.mkdir()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))  # the first draws of the seed
    moments = (torch.tensor([0.5]), torch.tensor([0.25]))
    task = Task(3, moments, AugmentOptions(crop=0, flip=False), OptimiserOptions(lr=0.1), STEPS)
    module = TeacherModule("t", network, task)
    module.resident = RecordedPictures(folder)
    fit(module, loader(Indices(), DRAW, STEPS), 0, folder, "teacher", trainer)
    return module.network, module.resident


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> tuple[nn.Module, RecordedPictures]:
    return trained(tmp_path_factory.mktemp("shared") / "two", TWO)


def test_two_processes_see_different_parts_and_together_the_whole_of_every_batch(two_processes):
    _, pictures = two_processes
    first, second = pictures.batches(0), pictures.batches(1)
    assert len(first) == len(second) == STEPS
    for step, (own, other) in enumerate(zip(first, second, strict=True)):
        assert len(own) == len(other) == BATCH // 2
        assert not set(own) & set(other)
        assert sorted(own + other) == sorted(DRAW(step).tolist())


def test_two_processes_train_the_network_that_one_process_trains(two_processes, tmp_path):
    """Mean gradients of halves of a batch are the gradient of the batch."""
    network, pictures = trained(tmp_path / "one", ONE)
    assert pictures.batches(0) == [DRAW(step).tolist() for step in range(STEPS)]
    torch.manual_seed(0)
    start = nn.Linear(16, 3)
    for shared, alone in zip(two_processes[0].parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-5)
    assert (network[1].weight - start.weight).abs().max() > 0.05


@pytest.mark.parametrize(("batch", "processes"), [(6, 2), (5, 2), (7, 3), (1, 2)])
def test_parts_of_a_batch_are_disjoint_and_complete_for_any_number_of_processes(monkeypatch, batch, processes):
    seen = defaultdict(list)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        sampler = StepSampler(partial(student_batch, SIZE, 0, batch, None, 0), STEPS)
        sampler.shared = True
        for step, part in enumerate(sampler):
            assert abs(len(part) - batch / processes) < 1
            seen[step] += part.tolist()
    for step in range(STEPS):
        assert sorted(seen[step]) == sorted(student_batch(SIZE, 0, batch, None, 0, step).tolist())
    assert len(seen) == STEPS


def test_an_unshared_sampler_gives_every_process_the_whole_batch():
    sampler = StepSampler(DRAW, STEPS)
    assert [part.tolist() for part in sampler] == [DRAW(step).tolist() for step in range(STEPS)]
