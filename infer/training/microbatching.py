"""Micro-batches of a step of compensators: those that fit into memory and are fastest in a short measurement."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from infer.core.ufc import Problem
from infer.models.compensator import MicroBatch

HEADROOM = 0.5
"""Share of the free memory that the graph of a pass may take; the rest is for temporary tensors."""

WORTH, HOPELESS = 0.97, 1.25
"""A larger pass is worth its memory where it takes less than WORTH of the best time per image so far. Where it takes
HOPELESS times the best, the cache or the device is full, and larger ones are not tried."""

_LONG = 0.5
"""A pass of this number of seconds is measured only once."""


def choose(
    problem: Problem, device: torch.device, precision: str, rounds: int | None, classes: int | None
) -> MicroBatch:
    """Choose the micro-batch for ``problem`` on ``device``; ``rounds`` and ``classes`` that are not None are kept.

    A pass has whole rounds where one fits into memory, else the part of one that is fastest per image. The number of
    rounds is the fastest one: real passes of 1, 2, 4, ... rounds are timed while they fit and get faster.
    """
    most_rounds, most_classes = problem.targets.shape
    if rounds and classes:
        return MicroBatch(min(rounds, most_rounds), min(classes, most_classes))
    with _Trial(problem, device, precision) as trial:
        images = max(1, int(HEADROOM * memory(device) / trial.bytes_an_image()))
        if classes is None:
            classes = most_classes if images >= most_classes else _fastest(trial.part_seconds, images, images)
        classes = min(classes, most_classes)
        if rounds is None:
            whole = classes == most_classes
            rounds = _fastest(trial.seconds, most_rounds, images // classes) if whole else 1
    return MicroBatch(min(rounds, most_rounds), classes)


def memory(device: torch.device) -> int:
    """Return the free bytes of ``device``."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _fastest(seconds: Callable[[int], float], most: int, fitting: int) -> int:
    """Return which of 1, 2, 4, ..., ``most``, up to ``fitting``, takes the least seconds for each."""
    best, least = 1, float("inf")
    for count in [2**n for n in range(most.bit_length()) if 2**n < most] + [most]:
        if count > max(1, fitting):
            break
        took = seconds(count) / count
        if took > HOPELESS * least:
            break
        if took < least * WORTH:
            best, least = count, took
    return best


class _Trial:
    """Timed passes of a problem."""

    def __init__(self, problem: Problem, device: torch.device, precision: str) -> None:
        self.problem, self.device = problem.to(device), device
        self.half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)

    def __enter__(self) -> _Trial:
        return self

    def __exit__(self, *_: object) -> None:
        """Move the problem back to where spawned processes can take it from."""
        self.problem.to(torch.device("cpu"))

    def seconds(self, rounds: int) -> float:
        """Time a pass of ``rounds`` whole rounds."""
        return self._timed(lambda: self._step(rounds, self.problem.targets.shape[1]))

    def part_seconds(self, images: int) -> float:
        """Time a pass of ``images`` images of one round."""
        return self._timed(lambda: self._step(1, images))

    def bytes_an_image(self) -> int:
        """Measure the bytes that the graph of one more image keeps."""
        counts = []
        for images in (1, 2):
            held: dict[int, int] = {}

            def note(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
                storage = tensor.untyped_storage()
                held[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                self._step(1, images)
            counts.append(sum(held.values()))
        return max(1, counts[1] - counts[0])

    def _step(self, rounds: int, images: int) -> None:
        """Take one pass over the first ``rounds`` and the first ``images`` of each."""
        whole = self.problem
        part = copy.copy(whole)
        part.targets = whole.targets[:, :images]
        u = whole.zeros().requires_grad_()
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            part.add_gradient(u, slice(0, rounds), lambda images: images, images)

    def _timed(self, work: Callable[[], None]) -> float:
        """Return the least of three times, or one time that is long enough."""
        took: list[float] = []
        while len(took) < 3 and (not took or min(took) < _LONG):
            self._wait()
            start = time.perf_counter()
            work()
            self._wait()
            took.append(time.perf_counter() - start)
        return min(took)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
