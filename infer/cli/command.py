"""A command: Hydra composes the options, they are checked, a task runs; a user's mistake prints one line."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from infer.cli import schema, sweeps
from infer.cli.help import show_help
from infer.cli.mistakes import fail, no_study, one_line
from infer.cli.networks import with_networks
from infer.cli.stopping import is_interruption
from infer.cli.words import arranged
from infer.core.errors import UserError
from infer.core.extras import missing_extra
from infer.core.progress import reporting
from infer.pipeline.invocation import command_began, record_command

log = logging.getLogger("infer")

Task = Callable[[Any, Mapping[str, Any]], Any]

_MISTAKES = (UserError, HydraException, OmegaConfBaseException, OSError)


def _distill(options: Any, backbones: Mapping[str, Any]) -> Any:
    # torch is imported late, so that --help and mistakes answer at once.
    if options.tune:
        from infer.pipeline.tune import tune

        return tune(options, backbones)
    from infer.pipeline.run import distill
    from infer.pipeline.timed import planned

    began = time.perf_counter() if sweeps.is_job() else command_began()
    with planned(options, backbones, began) as chosen:
        return distill(chosen, backbones, quiet=sweeps.is_job())


def _train(options: Any, backbones: Mapping[str, Any]) -> Any:
    from infer.pipeline.train import train

    return train(options, backbones)


TASKS: dict[str, Task] = {"distill": _distill, "train": _train}
"""What each command runs."""


def command(name: str, task: Task) -> None:
    """Run ``task`` on the options of ``conf/<name>.yaml`` with the overrides of the command line.

    A user's mistake prints one line and exits with 2; HYDRA_FULL_ERROR=1 shows the traceback instead. A sweep goes on
    with its other jobs, and names those that failed at its end (:class:`infer.cli.sweeps.SweepTable`).
    """
    full = os.environ.get("HYDRA_FULL_ERROR", "") not in ("", "0")
    record_command()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors instead of printing them
    began: list[str] = []
    words = sys.argv[1:]
    try:
        sys.argv[1:] = words = with_networks(arranged(name, words))
        if any(word.partition("=")[0] == "--help" for word in words):
            show_help(name, words)
        else:
            _hydra_main(name, task, full, began)()
    except Exception as error:
        # What Hydra raises before a job begins, of whatever type, is about the words and the files of the user.
        if full or (began and not isinstance(error, _MISTAKES)):
            raise
        fail((not began and no_study(name, words)) or one_line(error, name))


def _hydra_main(name: str, task: Task, full: bool, began: list[str]) -> Callable[[], Any]:
    schema.register()

    @hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name=name)
    def run(config: DictConfig) -> None:
        began.append(name)
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            options = schema.typed(config)
            schema.require_places(options)
            with reporting(True):
                result = task(options, schema.backbones(options))
            if several:
                sweeps.keep(result=sweeps.asked_for(result, options))
        except Exception as error:
            if is_interruption(error):  # a library changed it; no other job begins
                raise KeyboardInterrupt from error
            error = missing_extra(error, f"infer-{name}") or error
            mistake = isinstance(error, _MISTAKES)
            if several:  # the other jobs of a sweep go on
                if full or not mistake:
                    log.exception("this job failed")
                line = one_line(error, name)
                sweeps.keep(error=line if mistake else f"{type(error).__name__}: {line}")
            elif full or not mistake:
                raise
            else:  # here, because Hydra prints a line of its own about an exception
                fail(one_line(error, name))

    return run
