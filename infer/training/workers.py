"""Worker processes: one does a task after the other, and passes on what it logs."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import partial
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from infer.core.progress import relayed
from infer.training.metrics_file import MetricsLogger

log = logging.getLogger("infer")


class Worker:
    """A process for one task after the other; it ends when this one does."""

    def __init__(self) -> None:
        method = multiprocessing.get_start_method(allow_none=True)
        if method and method not in multiprocessing.get_all_start_methods():  # joblib's, which the process cannot know
            multiprocessing.set_start_method("spawn", force=True)
        spawn = torch.multiprocessing.get_context("spawn")  # whose tensors are in shared memory
        self._connection, theirs = spawn.Pipe()
        self._executor = ProcessPoolExecutor(1, spawn, _begin, (theirs,))
        self._processes: set[BaseProcess] = set()

    def submit(self, task: Callable[..., None], *given: Any) -> Future[None]:
        """Start a task; the first one starts the process."""
        others = {*multiprocessing.active_children()}
        with _uninterrupted():
            future = self._executor.submit(task, *given)
        self._processes |= {*multiprocessing.active_children()} - others
        return future

    def told(self) -> Iterator[tuple[str, Any]]:
        """Yield what the process has told."""
        with suppress(EOFError, OSError):  # of one that has died
            while self._connection.poll():
                yield self._connection.recv()

    def end(self) -> None:
        """End the process at once, whatever it does: what is on disk is whole."""
        for process in self._processes:
            process.kill()
        self._executor.shutdown(cancel_futures=True)
        self._connection.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that Ctrl-C in a terminal, which reaches them too, does not interrupt: this one ends them."""
    if threading.current_thread() is not threading.main_thread():  # which alone has signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_idle: ContextVar[list[Worker]] = ContextVar("idle")


@contextmanager
def workers() -> Iterator[list[Worker]]:
    """Keep the worker processes of the block for all its trainings: starting one takes seconds."""
    if (outer := _idle.get(None)) is not None:
        yield outer
        return
    idle: list[Worker] = []
    token = _idle.set(idle)
    try:
        yield idle
    finally:
        _idle.reset(token)
        for worker in idle:
            worker.end()


_told: Connection
"""Of a worker process: the connection to the one that started it."""

_telling = threading.Lock()


def _begin(connection: Connection) -> None:
    """Begin a worker process."""
    global _told
    _told = connection
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log.addHandler(_Records())
    log.propagate = False


def _end_with_parent() -> None:
    with suppress(EOFError, OSError):
        _told.recv()
    os._exit(1)


def _tell(kind: str, *told: Any) -> None:
    with _telling:
        _told.send((kind, told[0] if len(told) == 1 else told))


def in_worker(threads: int, level: int, shown: bool, task: Callable[[], Any]) -> None:
    """Do ``task`` in a worker process; what it returns stays there.

    Args:
        threads: of its arithmetic.
        level: of the log records that are passed on.
        shown: whether the progress is passed on.
        task: can be pickled.
    """
    torch.set_num_threads(threads)
    log.setLevel(level)
    with relayed(partial(_tell, "share")) if shown else nullcontext():
        task()


class _Records(QueueHandler):
    """Passes log records on."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        """Pass a record on, which can be pickled."""
        _tell("log", record)


class RelayedMetrics(MetricsLogger):
    """Passes metrics on to the loggers of the process that started this one."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass the values of a step on."""
        _tell("metrics", dict(metrics), step)
