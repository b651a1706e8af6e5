"""A command: Hydra composes the options, they are checked, a task runs; a user's mistake prints one line."""

from __future__ import annotations

import logging
import os
import sys
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
from infer.cli.mistakes import diagnosed, fail, one_line
from infer.core.errors import UserError
from infer.core.extras import missing_extra
from infer.core.progress import reporting
from infer.pipeline.invocation import record_command

log = logging.getLogger("infer")

Task = Callable[[Any, Mapping[str, Any]], Any]

_MISTAKES = (UserError, HydraException, OmegaConfBaseException, OSError)


def _distill(options: Any, backbones: Mapping[str, Any]) -> Any:
    # torch is imported late, so that --help and mistakes answer at once.
    if options.tune:
        from infer.pipeline.tune import tune

        return tune(options, backbones)
    from infer.pipeline.run import distill

    return distill(options, backbones)


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
    sys.argv[1:] = [part for word in sys.argv[1:] for part in _quoted(word)]
    helped = {"--help", "-h"}.intersection(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors instead of printing them
    try:
        if helped:
            show_help(name, [given for given in sys.argv[1:] if given not in helped])
        else:
            _hydra_main(name, task, full)()
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where this one stopped", code=130)
    except _MISTAKES as error:
        if full:
            raise
        fail(one_line(error, name))
    except (AssertionError, ValueError):  # which OmegaConf raises for a key below a list, or below null
        line = diagnosed(name, sys.argv[1:])
        if full or line is None:
            raise
        fail(line)


def _hydra_main(name: str, task: Task, full: bool) -> Callable[[], Any]:
    schema.register()

    @hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name=name)
    def run(config: DictConfig) -> None:
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            options = schema.typed(config)
            with reporting(True):
                result = task(options, schema.backbones(options))
            if several:
                sweeps.keep(result=sweeps.asked_for(result, options))
        except Exception as error:
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


def _quoted(word: str) -> list[str]:
    """Return an override as Hydra's grammar has it.

    A value with letters that Hydra does not know, as in 写真, is quoted, and so is each of several values of a sweep.
    source=wandb:<artifact> becomes the path of a distilled file.
    """
    key, given, value = word.partition("=")
    if key == "source" and value.startswith("wandb:"):
        return ["source=distilled", f"source.path='{value}'"]
    if not given or word.startswith("-") or value.isascii() or set(value) & set("'\"[]{}()"):
        return [word]
    return [f"{key}=" + ",".join(f"'{part}'" for part in value.split(","))]
