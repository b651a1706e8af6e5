"""Trials and the processes that run them: trials of a process that died are marked as failed and tried again, once."""

from __future__ import annotations

import logging
import os
import platform
from typing import Any

import psutil
from optuna.study import Study
from optuna.trial import TrialState

log = logging.getLogger("infer")

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
