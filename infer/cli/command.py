"""The commands' frame: Hydra's composition, our checks, and one line for a user's mistake."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from infer.cli import schema
from infer.core.errors import UserError, choices
from infer.core.files import digest, read_json, write_json

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
            checked = schema.checked(config)
            result = task(checked)
            if several:
                _keep(result=_asked(result, checked))
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

    os.environ[schema.COMMAND] = shlex.join(["python", *sys.orig_argv[1:]])
    sys.argv[1:] = [part for word in sys.argv[1:] for part in _spelt_out(word)]
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
    except AssertionError as error:  # OmegaConf's, of a key below one that is null: an experiment may have chosen tune
        of_study = [word for word in sys.argv[1:] if word.lstrip("+").startswith("tune.")]
        if full or not of_study or "NoneType" not in str(error):
            raise
        _fail(f"{of_study[0]}: no study is asked for; add tune=default, or another of conf/tune/")
    except ValueError as error:  # OmegaConf's too, of a name below a list
        found = re.fullmatch(r"invalid literal for int\(\) with base 10: '(.*)'", str(error))
        keys = [word.partition("=")[0] for word in sys.argv[1:]]
        key = next((key for key in keys if found and key.endswith(f".{found[1]}")), None)
        if full or key is None:
            raise
        above = key.rpartition(".")[0]
        _fail(f"{key}: {above} is a list; give {above}=[...]")
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where this one stopped", code=130)


def _spelt_out(word: str) -> list[str]:
    """An override as Hydra's grammar has it.

    A value with letters that it does not know, as in 写真, is quoted, and each of several in a sweep; a published file
    that is named as the source, as in source=wandb:<artifact>, is the path of a distilled one.
    """
    key, given, value = word.partition("=")
    if key == "source" and value.startswith("wandb:"):
        return ["source=distilled", f"source.path='{value}'"]
    if not given or word.startswith("-") or value.isascii() or set(value) & set("'\"[]{}()"):
        return [word]
    return [f"{key}=" + ",".join(f"'{part}'" for part in value.split(","))]


class SweepTable(Callback):
    """What a sweep says: a line for each job, with the time left; at the end the table and the plot of them all, in
    <output>/sweeps/<name>, and on screen.

    Jobs that failed come last, each with its error; the exit code is then 1. The name is that of the overrides, behind
    that of ``sweep=``, so that the same command, run again, writes to the same place. With ``dry_run`` jobs say what
    there is of them, and no run is made.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Say where the jobs are to leave their results: processes that a launcher starts inherit it."""
        given, chosen = list(config.hydra.overrides.task), config.hydra.runtime.choices.get("sweep")
        own = config.hydra.sweeper.get("params") or {}
        ours = [word for word in config.hydra.overrides.hydra if word.startswith("hydra.sweeper.")]
        for word in given:
            if (key := word.partition("=")[0]) in own:
                cure = f"\"hydra.sweeper.params.{key}='<values>'\""
                _fail(f"{word}: sweep={chosen} gives its values; leave it, or give {cure}")
        name = "-".join(filter(None, [chosen, digest("\n".join(sorted([*given, *ours])).encode())]))
        folder = Path(tempfile.mkdtemp()) if _listing(config) else Path(config.output, "sweeps", name)
        os.environ[_SWEEP] = str(folder)
        os.environ.setdefault("WANDB_RUN_GROUP", name)
        for old in (folder / "jobs").glob("*.json"):
            old.unlink()
        words = OverridesParser.create().parse_overrides([*(f"{key}={own[key]}" for key in own), *given])
        swept = [word for word in words if word.is_sweep_override()]
        try:
            jobs = math.prod(len([*word.sweep_string_iterator()]) for word in swept)
        except HydraException:  # of a glob, which the sweeper alone can count
            jobs = None
        begun = {"swept": [word.key_or_group for word in swept], "jobs": jobs, "began": time.time()}
        try:
            write_json(folder / "sweep.json", begun)
        except UserError as error:  # which Hydra would make a warning of
            _fail(one_line(error))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Draw it, of the jobs that came to an end; name those that did not."""
        folder = Path(os.environ.pop(_SWEEP))
        os.environ.pop("WANDB_RUN_GROUP")
        kept = [json.loads(path.read_text()) for path in sorted((folder / "jobs").glob("*.json"))]
        failed = [job for job in kept if "error" in job]
        common = set.intersection(*(set(job["overrides"]) for job in kept)) if len(kept) > 1 else set()
        wrong = []
        for job in failed:
            own = " ".join(word for word in job["overrides"] if word not in common)
            wrong.append(f"failed: {own}: {job['error']}")
        if failed:
            wrong.append(f"error: {len(failed)} of {len(kept)} jobs failed; the same command tries these again")
        if _listing(config):
            shutil.rmtree(folder)
            states = [job["result"]["state"] for job in kept if "result" in job]
            print(f"{len(kept)} jobs:", ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
        try:
            _draw([job for job in kept if "students" in (job.get("result") or {})], folder)
        except UserError as error:  # Hydra would make a warning of it, and an exit code of 0
            wrong.append(f"error: {one_line(error)}")
        print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
        if wrong:
            raise SystemExit(1)


def _listing(config: DictConfig) -> bool:
    return bool(OmegaConf.select(config, "dry_run", default=False))


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


def _asked(result: dict[str, Any] | None, config: schema.BaseConfig) -> dict[str, Any] | None:
    """Without the rows that another command brought into the run's table."""
    if not result or "students" not in result:
        return result
    return {**result, "students": [row for row in result["students"] if row["source"] in config.students.sources]}


def _keep(**outcome: Any) -> None:
    """Leave a job's result, or its error, where its sweep finds it; say how far the sweep is."""
    if _SWEEP not in os.environ:
        return
    job, folder = HydraConfig.get(), Path(os.environ[_SWEEP])
    overrides = list(job.overrides.task)
    write_json(folder / "jobs" / f"{int(job.job.num):05d}.json", {"overrides": overrides, **outcome})
    sweep = read_json(folder / "sweep.json")
    if sweep is None or "state" in (outcome.get("result") or {}):
        return
    done, spent = len([*(folder / "jobs").glob("*.json")]), time.time() - sweep["began"]
    own = " ".join(word for word in overrides if word.partition("=")[0] in sweep["swept"])
    of = f"{done} of {sweep['jobs']}" if sweep["jobs"] else f"{done}"
    left = f"; about {spent / done * (sweep['jobs'] - done):.0f} s left" if sweep["jobs"] else ""
    log.info("job %s %s: %s%s", of, "failed" if "error" in outcome else "done", own, left)


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
        chosen = group.name in config or group.name == "recipe"
        if chosen or (name == "distill" and group.name in ("experiment", "sweep", "tune")):
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
    words = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    value = next((word.partition("=")[2] for word in words if word.startswith(f"{key}=")), "")
    name = "train" if "train" in Path(sys.argv[0]).name else "distill"
    try:  # what groups bring, as in method.options, the others of the words tell
        with hydra.initialize_config_dir(str(schema.CONF), version_base="1.3"):
            node = hydra.compose(name, [word for word in words if not word.startswith(f"{key}=")])
    except (HydraException, OmegaConfBaseException):  # more than one is wrong
        node = OmegaConf.structured(schema.TrainConfig if name == "train" else schema.DistillConfig)
    above, _, _ = key.rpartition(".")
    for part in filter(None, above.split(".")):
        if part not in node or not isinstance(node[part], DictConfig):
            return choices(key, value, map(str, node), given=part)
        node = node[part]
    return choices(key, value, (f"{above}.{known!s}" if above else str(known) for known in node), given=key)
