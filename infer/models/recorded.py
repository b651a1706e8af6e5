"""Training steps and objectives recorded as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningModule
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
        if self.calls == _WARM_UP + 1:
            self.batch = (inputs.clone(), targets.clone())
            self.found = self._recorded(*self.batch)
        if self.found is None or self.batch is None:
            return self._step(inputs, targets)
        for kept, new in zip(self.batch, (inputs, targets), strict=True):
            kept.copy_(new)
        self.graph.replay()
        return self.found.clone()

    def _recorded(self, inputs: Tensor, targets: Tensor) -> Tensor | None:
        """Record a step, if that is possible; what changes from step to step becomes a tensor that the graph reads."""
        if self.has_optimiser:
            for group in self.optimiser.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=inputs.device)
        try:
            return self.graph.record(lambda: self._step(inputs, targets))
        except RuntimeError as error:
            _warn("trainer.compile", error)
            return None

    def _step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.optimiser.zero_grad()
        loss = self.loss(inputs, targets)
        loss.backward()
        if self.has_optimiser:
            self.optimiser.step()
        return loss.detach()


class RecordableModule(LightningModule):
    """A module whose :meth:`loss` is trained on; where ``compile_mode`` is ``graph``, steps on one GPU are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.compile_mode: str | None = None
        self.recorded: RecordedStep | None = None

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch; nothing is drawn on the CPU."""
        raise NotImplementedError

    def on_train_start(self) -> None:
        """Record steps on one GPU; the scaler of 16-mixed decides in each step whether it counts."""
        alone = self.device.type == "cuda" and self.trainer.world_size == 1
        if self.compile_mode == "graph" and alone and self.trainer.precision != "16-mixed":
            self.recorded = RecordedStep(self.loss, self.trainer.optimizers[0])

    def passes(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss; where steps are recorded, its gradients too, and take the step if it is recorded."""
        return (self.recorded or self.loss)(inputs, targets)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        if not self.recorded:
            loss.backward()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Forget the gradients of the step before."""
        if not self.recorded:
            optimizer.zero_grad()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take a step, unless it was recorded with the rest."""
        if self.recorded and self.recorded.has_optimiser:
            optimizer_closure()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


class RecordedObjective:
    """A function of images whose passes, forward and backward, are recorded at the first call with their shape.

    Args:
        function: of images [K, c, ch, H, W] and targets [K, c] to a tuple of tensors. With further arguments it is
            called as it is.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.recorded: dict[torch.Size, Callable[..., Any]] = {}

    def __call__(self, images: Tensor, targets: Tensor, *more: Any) -> Any:
        """Return what the function returns."""
        if more:
            return self.function(images, targets, *more)
        if images.shape not in self.recorded:
            device = images.device.type
            half = torch.autocast(
                device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), cache_enabled=False
            )
            with half:  # a cache would outlive the recording
                sample = (images.detach().clone().requires_grad_(), targets.clone())
                try:
                    self.recorded[images.shape] = torch.cuda.make_graphed_callables(self.function, sample)
                except RuntimeError as error:
                    _warn("distill.compile", error)
                    self.recorded[images.shape] = self.function
        return self.recorded[images.shape](images, targets)


def _warn(key: str, error: RuntimeError) -> None:
    """Tell that a network waits for the GPU within a pass, say, which a graph cannot."""
    log.warning("%s=graph fails (%s); going on without it", key, (str(error).splitlines() or [""])[0])
