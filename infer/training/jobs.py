"""Trainings side by side: worker processes that write what they train, each with the same number of threads."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil
import torch

from infer.core.errors import UserError
from infer.core.progress import counted, is_shown
from infer.core.together import Together
from infer.training.context import Context
from infer.training.options import TrainerOptions
from infer.training.workers import RelayedMetrics, Worker, in_worker, workers

log = logging.getLogger("infer")

Result = TypeVar("Result")

_SECONDS = 0.1
"""Between two looks at what the processes tell."""

_FULL = "shared memory"
"""How torch's error begins to say that there is no room for the tensors that processes share."""


@dataclass(frozen=True)
class Training(Generic[Result]):
    """A training that does not depend on others.

    Args:
        title: as its progress has it, such as ``teacher resnet18``.
        file: which exists once it is trained.
        run: trains it, or finds it trained, in a context; it can be pickled.
    """

    title: str
    file: Path
    run: Callable[[Context], Result]


def threads_of_each(trainer: TrainerOptions, count: int) -> int:
    """Return the threads of each of ``count`` trainings.

    Sums of floating-point numbers depend on the number of threads, so on a CPU it is the same whatever number is
    trained at once: results do not depend on ``trainer.jobs``.
    """
    if trainer.device.type != "cpu":
        count = min(count, 1 if trainer.jobs == "auto" else int(trainer.jobs))
    return trainer.threads or max(1, torch.get_num_threads() // max(1, count))


def side_by_side(context: Context, trainings: Sequence[Training[Result]], threads: int) -> Iterator[Result]:
    """Yield the results of ``trainings`` in their order; first, those that are missing are trained side by side.

    Args:
        context: of the run.
        trainings: which write what they train to their folders.
        threads: of each; see :func:`threads_of_each`.

    Raises:
        UserError: of a training, which ends the others too, and, after the others, where a process has died.
    """
    missing = [training for training in trainings if not training.file.exists()]
    jobs = _jobs(context, len(missing), threads)
    if jobs > 1:
        with workers() as idle:
            _Crew(context, threads, idle).train(missing, jobs)
    for training in trainings:
        with with_threads(threads):
            result = training.run(context)
        yield result


def _jobs(context: Context, count: int, threads: int) -> int:
    """Return how many of ``count`` trainings are trained at once."""
    trainer = context.trainer
    if trainer.several or count < 2:
        return 1
    if trainer.jobs != "auto":
        return min(int(trainer.jobs), count)
    alone = trainer.device.type != "cpu" or context.data.train.streams  # which decode with every core
    cores = 1 if alone else torch.get_num_threads() // threads
    size, free = psutil.Process().memory_info().rss, psutil.virtual_memory().available
    jobs = max(1, min(cores, count, free // size))
    if jobs < min(cores, count):
        log.info("trainer.jobs=auto: %d MiB of memory are free, for %s at once", free >> 20, counted(jobs, "training"))
    return jobs


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Calculate with ``count`` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Crew:
    """The processes of some trainings.

    Args:
        context: of the trainings.
        threads: of each training.
        idle: processes of earlier trainings; those of these are added when they are done.
    """

    def __init__(self, context: Context, threads: int, idle: list[Worker]) -> None:
        self._loggers, self._idle = context.loggers, idle
        self._context = replace(context, loggers=[RelayedMetrics()] if context.loggers else [], report=None)
        self._task = partial(in_worker, threads, log.getEffectiveLevel(), is_shown())
        self._running: dict[Future[None], tuple[Training[Any], Worker]] = {}
        self._shown: Together | None = None

    def train(self, trainings: Sequence[Training[Any]], jobs: int) -> None:
        """Train all, ``jobs`` at once.

        Raises:
            UserError: see :func:`side_by_side`.
        """
        waiting, died = deque(trainings), list[str]()
        log.info("%s side by side", counted(jobs, "training"))
        self._shown = Together([training.title for training in trainings]) if is_shown() else None
        try:
            while waiting or self._running:
                while waiting and len(self._running) < jobs:
                    self._start(waiting.popleft())
                done, _ = wait(self._running, _SECONDS, FIRST_COMPLETED)
                for _, worker in self._running.values():
                    self._pass_on(worker)
                died += [training.title for training in map(self._ended, done) if training]
        except _NoRoomError as error:
            self._log(logging.WARNING, "%s; trainings go on one after the other (docker run has --shm-size)", error)
        finally:
            for _, worker in self._running.values():
                worker.end()
            if self._shown:
                self._shown.close()
        if died:
            raise UserError(
                f"{', '.join(died)}: the process has died, perhaps for want of memory; the same command goes on where "
                "this one stopped, and trainer.jobs=1 needs less memory"
            )

    def _start(self, training: Training[Any]) -> None:
        while True:
            worker = self._idle.pop() if self._idle else Worker()
            try:
                self._running[worker.submit(self._task, partial(training.run, self._context))] = training, worker
                return
            except BrokenProcessPool:  # it died while it was idle
                worker.end()

    def _ended(self, future: Future[None]) -> Training[Any] | None:
        """Note that a training is done, or raise its error; return it where its process has died."""
        training, worker = self._running.pop(future)
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            worker.end()
            self._log(logging.WARNING, "%s: its process has died; the other trainings go on", training.title)
            return training
        self._idle.append(worker)
        if isinstance(error, RuntimeError) and _FULL in str(error):
            raise _NoRoomError(str(error).splitlines()[0])
        if error:
            raise error
        if self._shown:
            self._shown.finish(training.title)
        return None

    def _pass_on(self, worker: Worker) -> None:
        """Pass on what a process has told since the last time."""
        for kind, told in worker.told():
            if kind == "share" and self._shown:
                self._shown.update(*told)
            elif kind == "metrics":
                for logger in self._loggers:
                    logger.log_metrics(*told)
            elif kind == "log":
                with self._hidden():
                    log.handle(told)

    def _log(self, level: int, message: str, *given: object) -> None:
        with self._hidden():
            log.log(level, message, *given)

    def _hidden(self) -> AbstractContextManager[None]:
        return self._shown.hidden() if self._shown else nullcontext()


class _NoRoomError(Exception):
    """The shared memory is full."""
