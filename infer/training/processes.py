"""The processes of one job that a launcher started: the first one decides, holds the locks and tells the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from pytorch_lightning import Trainer
from torch import distributed

from infer.core.errors import UserError
from infer.core.files import exclusive_lock
from infer.training.options import TrainerOptions
from infer.training.strategies import strategy

Answer = TypeVar("Answer")

_PATIENCE = timedelta(days=30)
"""The others wait this long while the first process waits for a lock of another job."""


@dataclass
class Job:
    """The processes of a job.

    Args:
        group: of all of them, for objects on the CPU.
        whole: False once an error has left a block that they share: the others may be elsewhere.
    """

    group: distributed.ProcessGroup
    whole: bool = True

    def from_first(self, what: str, compute: Callable[[], Answer]) -> Answer:
        """Return what ``compute`` returns on the first process; the others do not call it.

        None returns before all have called. Where ``compute`` fails, all of them raise.

        Args:
            what: the name of the decision, by which processes notice that they do not take the same one.
            compute: returns what can be pickled.

        Raises:
            UserError: where a process has ended or has come to another decision, or ``compute`` fails on the first.
        """
        self._require_whole()
        told: list = [what, None, None]
        failure: Exception | None = None
        if self._rank == 0:
            try:
                told[1] = compute()
            except Exception as error:
                failure, told[2] = error, " ".join(str(error).split()) or type(error).__name__
        with self._noticing():
            distributed.broadcast_object_list(told, src=0, group=self.group)
            if told[0] != what:
                raise UserError(
                    f"process {self._rank} is at {what} where process 0 is at {told[0]}: they do not see the same "
                    "files or settings; give all of them the same folders and command"
                )
            distributed.barrier(group=self.group)
        if failure:
            raise failure
        if told[2]:
            raise UserError(told[2])
        return told[1]

    @contextmanager
    def lock(self, path: Path, title: str) -> Iterator[None]:
        """Hold an exclusive lock between concurrent jobs: the first process takes it and keeps it until all are done.

        Raises:
            UserError: as :meth:`from_first` and :func:`exclusive_lock` do, and where another process ends in the block.
        """
        with ExitStack() as held, self._noticing():
            self.from_first(f"the lock {path}", lambda: held.enter_context(exclusive_lock(path, title)))
            yield
            self.from_first(f"the end of {path}", lambda: None)

    @property
    def _rank(self) -> int:
        return distributed.get_rank()

    def _require_whole(self) -> None:
        if not self.whole:
            raise UserError("the processes of this job are not together after an error; start the command again")

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Note that an error has left the block, and tell in one line where it is that another process has ended."""
        try:
            yield
        except Exception as error:
            self.whole = False
            if not _is_of_connection(error):
                raise
            raise UserError(
                f"process {self._rank} of {distributed.get_world_size()}: another process of this job has ended; its "
                "own message says why, and the same command goes on where this one stopped"
            ) from error


@cache
def job(trainer: TrainerOptions) -> Job:
    """Join the other processes of the job; its trainings use the same process group.

    Raises:
        UserError: where they cannot be reached.
    """
    said = logging.root.manager.disable
    logging.disable(logging.INFO)  # what Lightning says of the devices it finds
    try:
        lightning = Trainer(
            accelerator="gpu" if trainer.device.type == "cuda" else trainer.device.type,
            devices=trainer.devices,
            num_nodes=trainer.nodes,
            strategy=strategy(False, trainer),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        lightning.strategy.setup_environment()
        group = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        assert isinstance(group, distributed.ProcessGroup)
        return Job(group)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"trainer.strategy=ddp: the processes of this job do not meet ({reason})") from error
    finally:
        logging.disable(said)


def _is_of_connection(error: Exception) -> bool:
    """Return whether NCCL or Gloo raised ``error``; Gloo's are RuntimeErrors that name its source file."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
