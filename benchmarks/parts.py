"""The parts of the steps of a training, counted in the code that ``distill.py`` runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any
from unittest.mock import patch

from torch import Tensor

import infer.core.augment
import infer.core.mixing
import infer.models.classifier
import infer.models.student
from infer.data.batches import StepSampler
from infer.models.classifier import Classifier

Clock = Callable[[], float]
PARTS = ("draw", "transfer", "compose", "augment", "forward", "backward", "optimiser", "rest")
DATA = PARTS[:4]


class EnoughError(Exception):
    """The steps that are measured are done."""


class Parts:
    """Seconds of each part of the steps; what runs within a part and is one itself counts for that alone.

    Args:
        clock: tells the seconds, once the device has done its work.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seconds: Counter[str] = Counter()
        self._inside, self._since = ["rest"], clock()

    def reset(self) -> None:
        """Forget the steps so far, as those of the warm-up."""
        self._count()
        self.seconds.clear()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block as the part ``name``."""
        self._count()
        self._inside.append(name)
        try:
            yield
        finally:
            self._count()
            self._inside.pop()

    def of(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``work``, counted as the part ``name``."""

        def counted(*args: Any, **options: Any) -> Any:
            with self.part(name):
                return work(*args, **options)

        return counted

    def _count(self) -> None:
        now = self.clock()
        self.seconds[self._inside[-1]] += now - self._since
        self._since = now


def counted(parts: Parts) -> ExitStack:
    """Return a context in which trainings count their parts."""
    places: list[tuple[str, Any, str]] = [
        ("transfer", Classifier, "transfer_batch_to_device"),
        *(("transfer", module, "moved") for module in (infer.core.augment, infer.core.mixing, infer.models.classifier)),
        ("compose", Classifier, "on_after_batch_transfer"),
        *(("augment", owner, name) for owner, name in ((Classifier, "augment"), (Classifier, "inputs"))),
        *(("augment", infer.models.student, name) for name in ("mix", "mix_labels")),
        ("forward", Classifier, "passes"),
        ("rest", Classifier, "log"),
        ("backward", Classifier, "backward"),
        ("optimiser", Classifier, "optimizer_zero_grad"),
    ]
    step = Classifier.optimizer_step

    def optimizer_step(*args: Any) -> None:  # whose last argument is the whole rest of the step
        with parts.part("optimiser"):
            step(*args[:-1], parts.of("rest", args[-1]))

    stack = ExitStack()
    for name, owner, attribute in places:
        stack.enter_context(patch.object(owner, attribute, parts.of(name, getattr(owner, attribute))))
    stack.enter_context(patch.object(Classifier, "optimizer_step", optimizer_step))
    return stack


def steps_of(train: Callable[[], Any], warm_up: int, steps: int, clock: Clock, parts: Parts | None) -> float:
    """Run the first steps of a training; return the seconds of one after the warm-up."""
    times: list[float] = []
    batches = StepSampler.__iter__

    def drawn(sampler: StepSampler) -> Iterator[Tensor]:
        found = batches(sampler)
        for step in range(warm_up + steps + 1):
            if step in (warm_up, warm_up + steps):
                times.append(clock())
                if step > warm_up:
                    raise EnoughError
                if parts:
                    parts.reset()
            with parts.part("draw") if parts else nullcontext():
                indices = next(found)
            yield indices

    with ExitStack() as stack:
        stack.enter_context(patch.object(StepSampler, "__iter__", drawn))
        stack.enter_context(suppress(EnoughError))
        if parts:
            stack.enter_context(counted(parts))
        train()
    first, last = times
    return (last - first) / steps
