"""How a step of compensators is cut into passes: as memory allows, and as a short measurement finds fastest."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from infer.models.modules import CompensatorModule, Passes

HEADROOM = 0.5
"""Share of the memory at hand that the graph of a pass may take; the rest is for what a pass makes and drops."""

WORTH, HOPELESS = 0.97, 1.25
"""A larger pass is worth its memory where it takes less than this share of the best time an image so far; where it
takes so many times the best, the cache or the device is full, and larger ones are not tried."""

_LONG = 0.5
"""Seconds of a pass that tell what they should without a repetition."""


def choose(
    module: CompensatorModule, device: torch.device, precision: str, rounds: int | None, classes: int | None
) -> Passes:
    """Passes for ``module`` on ``device``; ``rounds`` and ``classes`` are kept where they are given.

    Whole rounds where memory holds one, else the parts of one that go fastest; and as many rounds a pass as go fastest:
    1, 2, 4, ... are timed on real passes, while they fit and pay.
    """
    most_rounds, most_classes = module.targets.shape
    if rounds and classes:
        return Passes(min(rounds, most_rounds), min(classes, most_classes))
    with _Trial(module, device, precision) as trial:
        images = max(1, int(HEADROOM * memory(device) / trial.bytes_an_image()))
        if classes is None:
            classes = most_classes if images >= most_classes else _fastest(trial.part_seconds, images, images)
        classes = min(classes, most_classes)
        if rounds is None:
            whole = classes == most_classes
            rounds = _fastest(trial.seconds, most_rounds, images // classes) if whole else 1
    return Passes(min(rounds, most_rounds), classes)


def memory(device: torch.device) -> int:
    """Bytes that are free on ``device`` now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def _fastest(seconds: Callable[[int], float], most: int, fitting: int) -> int:
    """Of 1, 2, 4, ..., ``most``, as far as they are ``fitting``, the one that takes the least seconds for each."""
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
    """Passes of a module that leave it as it was."""

    def __init__(self, module: CompensatorModule, device: torch.device, precision: str) -> None:
        self.module, self.device = module.to(device), device
        module.frozen[0].to(device)
        self.half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)

    def __enter__(self) -> _Trial:
        return self

    def __exit__(self, *_: object) -> None:
        """Back to where processes that are spawned can take the module from."""
        self.module.cpu()
        self.module.frozen[0].cpu()

    def seconds(self, rounds: int) -> float:
        """Of a pass of so many whole rounds."""
        return self._timed(lambda: self._step(rounds, self.module.targets))

    def part_seconds(self, images: int) -> float:
        """Of a pass of so many images of one round."""
        return self._timed(lambda: self._step(1, self.module.targets[:, :images]))

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
                self._step(1, self.module.targets[:, :images])
            counts.append(sum(held.values()))
        return max(1, counts[1] - counts[0])

    def _step(self, rounds: int, targets: Tensor) -> None:
        """One pass over the first rounds and those of their classes that ``targets`` [K, c] has."""
        module = self.module
        kept = module.passes, module.targets
        module.passes, module.targets = Passes(rounds, targets.shape[1]), targets
        module.u.grad = torch.zeros_like(module.u)
        try:
            with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
                module.descend(slice(0, rounds), lambda images: images, Tensor.backward)
        finally:
            (module.passes, module.targets), module.u.grad = kept, None

    def _timed(self, work: Callable[[], None]) -> float:
        """The least of three; one that takes long enough is enough."""
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
