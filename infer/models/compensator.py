"""Optimising compensators with Lightning: checkpoints, devices, processes. The method is ``infer/core/ufc.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from infer.core.ufc import Problem, Terms
from infer.models.compiled import Compiled
from infer.models.recorded import RecordedObjective


@dataclass(frozen=True)
class MicroBatch:
    """The images of a pass: a number of ``rounds``, and of ``classes`` of each round."""

    rounds: int
    classes: int


class CompensatorModule(LightningModule):
    """The compensators of K rounds against one teacher; the result is ``u`` float32 [K, ch, H, W].

    Each of several processes optimises its own rounds and leaves the others at zero, so the processes exchange nothing
    until the sum over them is the whole.

    Args:
        name: of the teacher, in logs.
        problem: what is minimised.
        micro_batch: images of a pass; all if None.
        compile: a mode of torch.compile, ``graph`` (CUDA graphs, on a GPU), or None.
    """

    def __init__(
        self, name: str, problem: Problem, micro_batch: MicroBatch | None = None, compile: str | None = None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step is several passes, each of which frees its graph
        self.name = name
        self.problem = problem  # no nn.Module: its teacher enters no checkpoint and no train mode
        self.u = nn.Parameter(problem.zeros())
        self.micro_batch = micro_batch or MicroBatch(*problem.targets.shape)
        self.compile_mode = compile
        self.compiled: Compiled[..., Terms] | RecordedObjective | None = None

    def on_fit_start(self) -> None:
        """Move the problem, which Lightning does not know, to the device."""
        self.problem.to(self.device)
        if self.compile_mode == "graph":
            self.compiled = RecordedObjective(self.problem.objective.__call__) if self.device.type == "cuda" else None
        elif self.compile_mode:
            self.compiled = Compiled(self.problem.objective.__call__, self.compile_mode, "distill.compile")

    def objective(self, *args: Any) -> Terms:
        """Compute the objective, compiled where ``compile`` is set."""
        return Terms(*(self.compiled or self.problem.objective)(*args))

    def on_train_start(self) -> None:
        """Keep the process's own rounds; a resumed process has loaded all of them."""
        own = slice(self.global_rank, None, self.trainer.world_size)
        for state in (self.u.data, *self._adam_moments()):
            kept = state[own].clone()
            state.zero_()
            state[own] = kept

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step of the process's own rounds."""
        optimiser: Any = self.optimizers()
        self.u.grad = torch.zeros_like(self.u)
        transform = self.problem.draw_transform()
        ranks, own = self.trainer.world_size, range(self.global_rank, len(self.u), self.trainer.world_size)
        terms = []
        for first in range(0, len(own), self.micro_batch.rounds):
            part = own[first : first + self.micro_batch.rounds]
            rounds = slice(part.start, part.stop, ranks)
            terms.append(self._add_gradient(rounds, transform))
        optimiser.step()
        schedule: Any = self.lr_schedulers()
        schedule.step()
        if terms:
            means = [torch.cat(rounds).mean() for rounds in zip(*terms, strict=True)]
            keys = (f"distill/{self.name}/{field}" for field in Terms._fields)
            self.log_dict(dict(zip(keys, means, strict=True)), prog_bar=True)

    def _add_gradient(self, rounds: slice, transform: Callable[[Tensor], Tensor]) -> Terms:
        chunk = self.micro_batch.classes
        return self.problem.add_gradient(self.u, rounds, transform, chunk, self.manual_backward, self.objective)

    def configure_optimizers(self) -> Any:
        """Return Adam and its schedule."""
        optimiser, schedule = self.problem.optimiser(self.u)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save all rounds, which are the sum over the processes."""
        if self.trainer.world_size > 1:
            checkpoint["state_dict"]["u"] = self._summed(self.u.data)
            states = checkpoint["optimizer_states"][0]["state"]
            for number, state in states.items():  # the inner dicts are Adam's own: copy, do not write
                states[number] = {**state, **{key: self._summed(state[key]) for key in ("exp_avg", "exp_avg_sq")}}

    def on_train_end(self) -> None:
        """Give every process all rounds."""
        if self.trainer.world_size > 1:
            self.u.data = self._summed(self.u.data)

    def _summed(self, part: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(part.clone(), reduce_op="sum")

    def _adam_moments(self) -> list[Tensor]:
        state = self.trainer.optimizers[0].state.get(self.u, {})
        return [state[key] for key in ("exp_avg", "exp_avg_sq") if key in state]
