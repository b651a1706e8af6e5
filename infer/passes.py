"""How a step of compensators is cut into passes: as memory allows, and as a short measurement finds fastest."""

from __future__ import annotations

import time

import psutil
import torch
from torch import Tensor

from infer.lit import CompensatorModule, Passes

HEADROOM = 0.5
"""Share of the memory at hand that the graph of a pass may take; the rest is for what a pass makes and drops."""

WORTH = 0.95
"""More rounds a pass are kept on being tried while they take less than this share of the best time a round so far."""

_LONG = 0.5
"""Seconds of a step that tell what they should without a repetition."""


def choose(
    module: CompensatorModule, device: torch.device, precision: str, rounds: int | None, classes: int | None
) -> Passes:
    """Passes for ``module`` on ``device``; ``rounds`` and ``classes`` are kept where they are given.

    Classes: all of a round, or as many as memory holds. Rounds: one where a round has to be cut; else 1, 2, 4, ... are
    timed on real steps, while they fit and pay.
    """
    most_rounds, most_classes = module.targets.shape
    if rounds and classes:
        return Passes(min(rounds, most_rounds), min(classes, most_classes))
    trial = _Trial(module, device, precision)
    try:
        return _measured(trial, device, rounds, classes, most_rounds, most_classes)
    finally:
        trial.over()


def _measured(
    trial: _Trial, device: torch.device, rounds: int | None, classes: int | None, most_rounds: int, most_classes: int
) -> Passes:
    images = max(1, int(HEADROOM * memory(device) / trial.bytes_an_image()))
    classes = min(classes or images, most_classes)
    if rounds or classes < most_classes:
        return Passes(min(rounds or 1, most_rounds), classes)
    candidates = [2**n for n in range(16) if 2**n < most_rounds] + [most_rounds]
    best, least = 1, float("inf")
    for count in candidates:
        if count * classes > images and count > 1:
            break
        took = trial.seconds(Passes(count, classes)) / count
        if took > least / WORTH**2:  # beyond the cache, or the device is full: what follows is slower still
            break
        if took < least * (WORTH if count > 1 else 1):
            best, least = count, took
    return Passes(best, classes)


def memory(device: torch.device) -> int:
    """Bytes that are free on ``device`` now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


class _Trial:
    """Steps of a module that leave it as it was."""

    def __init__(self, module: CompensatorModule, device: torch.device, precision: str) -> None:
        self.module, self.device = module.to(device), device
        module.frozen[0].to(device)
        self.half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)

    def over(self) -> None:
        """Back to where processes that are spawned can take the module from."""
        self.module.cpu()
        self.module.frozen[0].cpu()

    def _step(self, passes: Passes, rounds: int) -> None:
        module, kept = self.module, self.module.passes
        module.passes = passes
        module.u.grad = torch.zeros_like(module.u)
        try:
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                module.descend(slice(0, rounds), lambda images: images, Tensor.backward)
        finally:
            module.passes, module.u.grad = kept, None

    def bytes_an_image(self) -> int:
        """Bytes that the graph of one more image holds on to."""
        counts = []
        for images in (1, 2):
            held: dict[int, int] = {}

            def note(tensor: Tensor, held: dict[int, int] = held) -> Tensor:
                storage = tensor.untyped_storage()
                held[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                self._part(images)
            counts.append(sum(held.values()))
        return max(1, counts[1] - counts[0])

    def _part(self, images: int) -> None:
        """One pass over so many images of the first round."""
        module = self.module
        targets = module.targets
        module.targets = targets[:1, :images]
        try:
            self._step(Passes(1, images), 1)
        finally:
            module.targets = targets

    def seconds(self, passes: Passes) -> float:
        """Of the fastest of three steps of ``passes.rounds`` rounds; one that takes long enough is enough."""
        took: list[float] = []
        while len(took) < 3 and (not took or min(took) < _LONG):
            self._wait()
            start = time.perf_counter()
            self._step(passes, passes.rounds)
            self._wait()
            took.append(time.perf_counter() - start)
        return min(took)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
