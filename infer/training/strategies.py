"""Strategies of several processes."""

from __future__ import annotations

import atexit
import logging
import multiprocessing

import torch
from pytorch_lightning.strategies import DDPStrategy

from infer.training.options import TrainerOptions


class Processes(DDPStrategy):
    """DDP that destroys its process group at exit: gloo's threads may abort a process that exits before them."""

    def setup_environment(self) -> None:
        """Register the end of the group; Lightning ends only NCCL's groups."""
        if multiprocessing.parent_process():  # the levels of loggers are those of a new process
            logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        super().setup_environment()
        atexit.register(_leave)


class IndependentRounds(Processes):
    """DDP's processes without its gradient exchange: compensators are independent problems."""

    def configure_ddp(self) -> None:
        """Wrap nothing."""


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def strategy(independent: bool, trainer: TrainerOptions) -> DDPStrategy:
    """Return the strategy of several processes; ``independent`` ones exchange no gradients."""
    start = "spawn" if trainer.strategy == "ddp_spawn" else "popen"
    return IndependentRounds(start_method=start) if independent else Processes(start_method=start)  # type: ignore
