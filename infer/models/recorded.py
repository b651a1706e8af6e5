"""Training steps recorded as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger("infer")

_WARM_UP = 3
"""Steps that run as they are called, so that libraries choose their kernels before the recording."""


class Graph(Protocol):
    """Work that is recorded once and then repeated as a whole."""

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """Run the work where it will be recorded, and return its result."""

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """Record the work without running it, and return the tensor that each replay writes its result to."""

    def replay(self) -> None:
        """Run the recorded work."""


class CudaGraph:
    """A CUDA graph, recorded on a stream of its own, and launched on the current one."""

    def __init__(self) -> None:
        self.graph, self.stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()

    def warm_up(self, work: Callable[[], Tensor]) -> Tensor:
        """Run the work on the stream of the recording."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            found = work()
        current.wait_stream(self.stream)
        return found

    def record(self, work: Callable[[], Tensor]) -> Tensor:
        """Record the work; other threads may use the GPU meanwhile."""
        with torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        """Launch the graph."""
        self.graph.replay()


class RecordedStep:
    """The passes of a training step, and the optimiser's step where it can be recorded, as one graph.

    The step of a small network is hundreds of short kernels. To launch them one by one from Python takes longer than
    they run.

    Args:
        loss: function of a batch's inputs and targets; it draws nothing on the CPU, and every batch has one shape.
        optimiser: of the weights. Its step is recorded where it is ``capturable``.
        graph: records and repeats the work.
    """

    def __init__(
        self, loss: Callable[[Tensor, Tensor], Tensor], optimiser: torch.optim.Optimizer, graph: Graph | None = None
    ) -> None:
        self.loss, self.optimiser, self.graph = loss, optimiser, graph or CudaGraph()
        self.has_optimiser = bool(optimiser.defaults.get("capturable"))
        self.calls = 0
        self.batch: tuple[Tensor, Tensor] | None = None  # what a replay reads
        self.found: Tensor | None = None  # what it writes

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take a step; return its loss, without gradients."""
        self.calls += 1
        if self.calls <= _WARM_UP:
            return self.graph.warm_up(lambda: self._step(inputs, targets))
        if self.batch is None or self.found is None:
            self.batch = (inputs.clone(), targets.clone())
            self.found = self._recorded(*self.batch)
        for kept, new in zip(self.batch, (inputs, targets), strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.found.clone()

    def _recorded(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Record a step; what changes from step to step becomes a tensor that the graph reads."""
        if self.has_optimiser:
            for group in self.optimiser.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=inputs.device)
        return self.graph.record(lambda: self._step(inputs, targets))

    def _step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.optimiser.zero_grad()
        loss = self.loss(inputs, targets)
        loss.backward()
        if self.has_optimiser:
            self.optimiser.step()
        return loss.detach()
