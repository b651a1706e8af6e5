"""The commands' frame: Hydra's composition, our checks, and one line for a user's mistake."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from infer import schema
from infer.errors import UserError, choices
from infer.store import digest, write_json

log = logging.getLogger("infer")

_SWEEP = "INFER_SWEEP"


def command(name: str, task: Callable[[Any], Any]) -> None:
    """Run ``task`` on the checked configuration ``conf/<name>.yaml`` with the command line's overrides.

    A user's mistake prints one line and exits with 2; HYDRA_FULL_ERROR=1 shows the traceback in its place. A sweep
    goes on with its other jobs, and says at the end which failed (:class:`SweepTable`).
    """
    full = os.environ.get("HYDRA_FULL_ERROR", "") not in ("", "0")
    schema.register()

    @hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name=name)
    def run(config: DictConfig) -> None:
        several = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            result = task(schema.checked(config))
            if several:
                _keep(result=result)
        except Exception as error:
            mistake = isinstance(error, UserError | OmegaConfBaseException | OSError)
            if several:  # the other jobs of a sweep go on
                if full or not mistake:
                    log.exception("this job failed")
                _keep(error=one_line(error) if mistake else f"{type(error).__name__}: {one_line(error)}")
            elif full or not mistake:
                raise
            else:
                _fail(one_line(error))

    sys.argv[1:] = map(_quoted, sys.argv[1:])
    helped = {"--help", "-h"}.intersection(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra hands its errors over and does not print them
    try:
        if helped:
            show_help(name, [given for given in sys.argv[1:] if given not in helped])
        else:
            run()
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        if full:
            raise
        _fail(one_line(error))
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where this one stopped", code=130)


def _quoted(word: str) -> str:
    """An override as Hydra's grammar has it: a value with letters that it does not know, as in 写真, is quoted, and
    each of several in a sweep."""
    key, given, value = word.partition("=")
    if not given or value.isascii() or set(value) & set("'\"[]{}()"):
        return word
    return f"{key}=" + ",".join(f"'{part}'" for part in value.split(","))


class SweepTable(Callback):
    """What a sweep ends with: the table and the plot of its jobs, in <output>/sweeps/<name>, and on screen.

    Jobs that failed come last, each with its error; the exit code is then 1.

    The name is that of the overrides, so that the same command, run again, writes to the same place.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say where the jobs are to leave their results: processes that a launcher starts inherit it."""
        name = digest("\n".join(sorted(config.hydra.overrides.task)).encode())
        os.environ[_SWEEP] = str(Path(config.output, "sweeps", name))
        for old in Path(os.environ[_SWEEP], "jobs").glob("*.json"):
            old.unlink()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Draw it, of the jobs that came to an end; name those that did not."""
        folder = Path(os.environ.pop(_SWEEP))
        kept = [json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))]
        failed = [job for job in kept if "error" in job]
        common = set.intersection(*(set(job["overrides"]) for job in kept)) if len(kept) > 1 else set()
        wrong = []
        for job in failed:
            own = " ".join(word for word in job["overrides"] if word not in common)
            wrong.append(f"failed: {own}: {job['error']}")
        if failed:
            wrong.append(f"error: {len(failed)} of {len(kept)} jobs failed; the same command tries these again")
        try:
            _draw([job for job in kept if "students" in (job.get("result") or {})], folder)
        except UserError as error:  # Hydra would make a warning of it, and an exit code of 0
            wrong.append(f"error: {one_line(error)}")
        print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
        if wrong:
            raise SystemExit(1)


def _draw(jobs: list[dict[str, Any]], folder: Path) -> None:
    """The table and the plot of the jobs that came to an end."""
    if not jobs:
        return
    from infer.report import sweep

    settings = [[word for word in job["overrides"] if not word.startswith(("seed=", "ipc="))] for job in jobs]
    common = set.intersection(*map(set, settings))
    names = [" ".join(word for word in words if word not in common) or "all" for words in settings]
    results = [(name, job["result"]) for name, job in zip(names, jobs, strict=True)]
    sweep.show(results)
    print("table and plots:", *sweep.write(results, folder), sep="  ")


def _keep(**outcome: Any) -> None:
    """Leave a job's result, or its error, where its sweep finds it."""
    if _SWEEP in os.environ:
        job = HydraConfig.get()
        path = Path(os.environ[_SWEEP], "jobs", f"{int(job.job.num):05d}.json")
        write_json(path, {"overrides": list(job.overrides.task), **outcome})


def show_help(name: str, overrides: list[str]) -> None:
    """Print the groups with their options, and the configuration that ``overrides`` compose.

    Ours, because Hydra's copies its whole configuration store for every group it lists, and takes seconds.
    """
    groups = sorted(path for path in schema.CONF.iterdir() if path.is_dir())
    with hydra.initialize_config_dir(str(schema.CONF), version_base="1.3"):
        config = hydra.compose(name, overrides)
    print(f"python {name}.py [key=value ...]    one run")
    print(f"python {name}.py -m key=a,b ...     a run for every combination\n")
    print("Groups, chosen by group=option:")
    for group in groups:
        if group.name in config or group.name == "recipe" or (name, group.name) == ("distill", "experiment"):
            print(f"  {group.name}: {', '.join(sorted(option.stem for option in group.glob('*.yaml')))}")
    print(f"\nKeys, set by key=value; these are the values of this command:\n{OmegaConf.to_yaml(config)}")
    print("See also: --cfg job (the configuration alone), --hydra-help, --info.")


def _fail(line: str, code: int = 2) -> None:
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(code)


def one_line(error: BaseException) -> str:
    """What is wrong, where, and the cure, in one line."""
    text = str(error)
    if isinstance(error, UserError):
        return text.rpartition("UserError: ")[2].strip()  # one of a loader's worker comes with its traceback
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no value; give {error.full_key}=<value>"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, value = error.missing_cfg_file.rpartition("/")
        return str(choices(group, value, error.options))
    if found := re.search(r"Could not load '([^']+)/([^'/]+)'", text):
        return str(choices(found[1], found[2], (path.stem for path in (schema.CONF / found[1]).glob("*.yaml"))))
    if found := re.search(r"Could not override '([^']+)'", text):
        return str(_unknown_key(found[1]))
    if found := re.search(r"Error merging override (.*)", text):
        return f"{found[1]}: {str(error.__cause__).splitlines()[0]}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "object_type=" not in line)


def _unknown_key(key: str) -> UserError:
    value = next((given.partition("=")[2] for given in sys.argv if given.startswith(f"{key}=")), "")
    node = OmegaConf.structured(schema.TrainConfig if "train" in Path(sys.argv[0]).name else schema.DistillConfig)
    above, _, _ = key.rpartition(".")
    for part in filter(None, above.split(".")):
        if part not in node:
            return choices(key, value, node, given=part)
        node = node[part]
    return choices(key, value, (f"{above}.{known}" if above else known for known in node), given=key)
