"""What the processes of a study share: its journal, and the trials of a process that died.

Such trials are marked as failed and tried again, once. The journal is a file of JSON lines, whose last one is torn
where a process died while it wrote.
"""

from __future__ import annotations

import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import TrialState

from infer.core.errors import UserError
from infer.core.files import refused

log = logging.getLogger("infer")

_BLOCK = 2**16
_ENTRY = b'{"op_code"'
"""How a line of a journal begins."""

_SAME = 10
"""Seconds by which the clock may have been set since a process began."""


def this_process() -> list[Any]:
    """Return what identifies this process: machine, number, and time of its start."""
    return [platform.node(), os.getpid(), psutil.Process().create_time()]


def take_over(study: Study) -> None:
    """Fail the trials of this machine whose process died, and enqueue their settings once: what they did is kept."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        node, pid, began = trial.user_attrs.get(
            "process", [platform.node(), 0, 0.0]
        )  # it died before it recorded itself
        if node == platform.node() and not _lives(pid, began):
            study.tell(trial.number, state=TrialState.FAIL)
            log.info("trial %d: its process is gone", trial.number)
            if not trial.user_attrs.get("again"):  # settings that end every process are not tried for ever
                study.enqueue_trial(trial.params, user_attrs={"again": True})


def _lives(pid: int, began: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - began) < _SAME
    except psutil.Error:
        return False


class _MendingLock(JournalFileOpenLock):
    """The lock under which a journal is written; whoever gets it finds a journal that ends with a whole line."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal

    def acquire(self) -> bool:
        """Wait for the lock, then cut a torn last line."""
        held = super().acquire()
        try:
            _end_last_line(self._journal)
        except BaseException:
            self.release()
            raise
        return held


class _Journal(JournalFileBackend):
    """A journal whose error names its path where it cannot be written, as on a full disk."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines."""
        try:
            super().append_logs(logs)
        except OSError as error:
            raise refused(Path(self._file_path), error) from error


def open_journal(path: Path) -> JournalStorage:
    """Open or create the journal of a study.

    Raises:
        UserError: where a line other than the last is damaged, or the file is no journal.
    """
    try:
        lock = _MendingLock(path)
        backend = _Journal(str(path), lock)
        lock.acquire()
        try:
            _check_lines(path)
        finally:
            lock.release()
        return JournalStorage(backend)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror or error}); choose another output=") from error
    except Exception as error:  # replaying damaged lines raises errors of many types
        raise _no_journal(path, f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _end_last_line(path: Path) -> None:
    """Cut the last line of a journal where it is torn; end it where only the line break is missing."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start, tail = size, b""
        while start and b"\n" not in tail:
            step = min(_BLOCK, start)
            start -= step
            file.seek(start)
            tail = file.read(step) + tail
        tail = tail.rpartition(b"\n")[2]
        if not tail:
            return
        if _is_entry(tail):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        elif tail.strip(b"\0") and not tail.startswith(_ENTRY[: len(tail)]):
            raise _no_journal(path, "its last line is no entry")
        else:
            file.truncate(size - len(tail))
            log.warning("%s: its last line was torn by a process that died; %d bytes are cut", path, len(tail))
        file.flush()
        os.fsync(file.fileno())


def _check_lines(path: Path) -> None:
    """Raise :class:`UserError` where a line is no entry; Optuna finds the last one only when it has written another."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not _is_entry(line):
                raise _no_journal(path, f"line {number} is no entry")


def _is_entry(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _no_journal(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path}: is damaged, or not the journal of a study ({reason}); move it away, and the study starts again: runs "
        "that it finished are found"
    )
