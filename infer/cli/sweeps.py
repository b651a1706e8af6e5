"""Sweeps: a line for each job, and at the end a table and a plot of them all."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from infer.cli.mistakes import fail, one_line
from infer.core.durations import rough
from infer.core.errors import UserError
from infer.core.extras import missing_extra, require
from infer.core.files import digest, sweep_temporaries, write_json
from infer.core.paths import user_path

if TYPE_CHECKING:
    from infer.pipeline.options import BaseOptions

log = logging.getLogger("infer")

_SWEEP = "INFER_SWEEP"
"""The environment variable that holds the sweep's folder: processes of a launcher inherit it."""


@contextmanager
def _ended_by_errors() -> Iterator[None]:
    """End the command on an error: Hydra turns an exception of a callback into a warning, and goes on without it."""
    try:
        yield
    except (UserError, OmegaConfBaseException) as error:
        fail(one_line(error, "distill"))
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(1) from error


class SweepTable(Callback):
    """Hydra callback that prints the table of a sweep's jobs and writes it, with a plot, to <output>/sweeps/<name>.

    The name comes from sweep= and the overrides, so the same command writes to the same place again. Jobs that failed
    come last, each with its error, and the exit code is then 1. With ``dry_run`` each job prints its state and nothing
    is created.
    """

    @_ended_by_errors()
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Create the folder in which the jobs leave their results."""
        given, chosen = list(config.hydra.overrides.task), config.hydra.runtime.choices.get("sweep")
        own = config.hydra.sweeper.get("params") or {}
        for word in given:
            if (key := word.partition("=")[0]) in own:
                cure = f"\"hydra.sweeper.params.{key}='<values>'\""
                fail(f"{word}: sweep={chosen} gives its values; leave it, or give {cure}")
        sweeper = [word for word in config.hydra.overrides.hydra if word.startswith("hydra.sweeper.")]
        named = sorted(word for word in [*given, *sweeper] if not word.startswith("output="))  # its place, not its name
        name = "-".join(filter(None, [chosen, digest("\n".join(named).encode())]))
        folder = Path(tempfile.mkdtemp()) if _is_listing(config) else user_path(config.output) / "sweeps" / name
        os.environ[_SWEEP] = str(folder)
        self.grouped = "WANDB_RUN_GROUP" not in os.environ
        os.environ.setdefault("WANDB_RUN_GROUP", name)
        for old in (folder / "jobs").glob("*.json"):
            old.unlink()
        sweep_temporaries(folder)  # of processes that were killed
        try:
            require("matplotlib")  # of the plot at the end
        except ModuleNotFoundError as error:
            fail(str(missing_extra(error, "a sweep")))
        swept, jobs = _swept([*(f"{key}={own[key]}" for key in own), *given])
        write_json(folder / "sweep.json", {"swept": swept, "jobs": jobs, "began": time.time()})

    @_ended_by_errors()
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print and draw the jobs that ended well; name those that failed."""
        folder = Path(os.environ.pop(_SWEEP))
        if self.grouped:
            os.environ.pop("WANDB_RUN_GROUP")
        from infer.cli.jobs import read_jobs  # pydantic takes time, which --help has not

        kept = read_jobs(folder)
        wrong = _failures(kept)
        if _is_listing(config):
            shutil.rmtree(folder)
            states = [job["result"]["state"] for job in kept if "result" in job]
            print(f"{len(kept)} jobs:", ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
        try:
            _draw([job for job in kept if "students" in (job.get("result") or {})], folder)
        except UserError as error:
            wrong.append(f"error: {error}")
        print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
        if wrong:
            raise SystemExit(1)


def _swept(words: list[str]) -> tuple[list[str], int | None]:
    """Return the keys that ``words`` sweep over, and the number of jobs; None where a glob hides it."""
    parsed = OverridesParser.create().parse_overrides(words)
    swept = [word for word in parsed if word.is_sweep_override()]
    try:
        jobs = math.prod(len([*word.sweep_string_iterator()]) for word in swept)
    except HydraException:
        jobs = None
    return [word.key_or_group for word in swept], jobs


def _failures(jobs: list[dict[str, Any]]) -> list[str]:
    """Return a line for each job that failed, by the overrides that are its own, and one for them all."""
    failed = [job for job in jobs if "error" in job]
    common = set.intersection(*(set(job["overrides"]) for job in jobs)) if len(jobs) > 1 else set()
    lines = []
    for job in failed:
        own = " ".join(word for word in job["overrides"] if word not in common)
        lines.append(f"failed: {own}: {job['error']}")
    if failed:
        lines.append(f"error: {len(failed)} of {len(jobs)} jobs failed; the same command tries these again")
    return lines


def _is_listing(config: DictConfig) -> bool:
    return bool(OmegaConf.select(config, "dry_run", default=False))


def _draw(jobs: list[dict[str, Any]], folder: Path) -> None:
    """Print the table of the jobs and write it with its plot."""
    if not jobs:
        return
    from infer.report import sweep

    settings = [[word for word in job["overrides"] if not word.startswith(("seed=", "ipc="))] for job in jobs]
    common = set.intersection(*map(set, settings))
    names = [" ".join(word for word in words if word not in common) or "all" for words in settings]
    results = [(name, job["result"]) for name, job in zip(names, jobs, strict=True)]
    sweep.show(results)
    print("table and plots:", *sweep.write(results, folder), sep="  ")


def asked_for(result: dict[str, Any] | None, options: BaseOptions) -> dict[str, Any] | None:
    """Return the result without the rows that another command added to the run's table."""
    if not result or "students" not in result:
        return result
    asked = options.students
    rows = [row for row in result["students"] if row["source"] in asked.sources and row["backbone"] in asked.backbones]
    return {**result, "students": rows}


def is_job() -> bool:
    """Return whether this process runs jobs of a sweep."""
    return _SWEEP in os.environ


def keep(**outcome: Any) -> None:
    """Write the result or the error of a job to its sweep's folder, and log how many jobs are done."""
    if not is_job():
        return
    from infer.cli.jobs import read_sweep

    job, folder = HydraConfig.get(), Path(os.environ[_SWEEP])
    overrides = list(job.overrides.task)
    write_json(folder / "jobs" / f"{int(job.job.num):05d}.json", {"overrides": overrides, **outcome})
    sweep = read_sweep(folder)
    if sweep is None or "state" in (outcome.get("result") or {}):
        return
    done, spent = len([*(folder / "jobs").glob("*.json")]), time.time() - sweep["began"]
    own = " ".join(word for word in overrides if word.partition("=")[0] in sweep["swept"])
    of = f"{done} of {sweep['jobs']}" if sweep["jobs"] else f"{done}"
    left = f"; about {rough(spent / done * max(0, sweep['jobs'] - done))} left" if sweep["jobs"] else ""
    ended = outcome.get("error") or "; ".join(_outcomes(outcome.get("result") or {}))
    log.info("job %s %s: %s%s%s", of, "failed" if "error" in outcome else "done", own, ended and f": {ended}", left)


def _outcomes(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the accuracies of a job, a student each: of the file, and of random pictures of the same bytes."""
    from infer.report import table

    rows = {(row["backbone"], row["source"]): row for row in result.get("students", [])}
    for (name, source), row in rows.items():
        if source == "distilled":
            random = rows.get((name, "random"))
            beside = f" (random images {table.accuracy(random)} %)" if random else ""
            yield f"{name} {table.accuracy(row)} %{beside}"
    if "accuracy" in result:  # of train.py
        yield f"{100 * result['accuracy']:.1f} %"
