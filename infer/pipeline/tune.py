"""python distill.py tune=...: the settings that do best on train pictures held out. The study is Optuna's; a trial is a
run like any other, found again by its settings."""

from __future__ import annotations

import csv
import io
import logging
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from infer.cli.schema import COMMAND, DistillConfig, TuneConfig, changed, recipe_yaml
from infer.core.errors import UserError
from infer.core.files import claim, digest, locked, write_bytes, write_json
from infer.pipeline.run import decisive, make
from infer.report import study as pictures

log = logging.getLogger("infer")

_DIRECTIONS = {"accuracy": StudyDirection.MAXIMIZE, "bytes": StudyDirection.MINIMIZE}
_SAME = 10
"""Seconds by which the clock may have been set since a process began."""
_OVER = (TrialState.COMPLETE, TrialState.PRUNED)


def tune(config: DistillConfig) -> dict[str, Any]:
    """Trials until the study has ``tune.trials`` of them, or the time is over; then what it found, as study.json.

    The folder outputs/tune/<dataset>/<method>-ipc<N> holds the study's journal, so that a stopped one goes on and
    several processes, given the same command, work on one. recipe/best.yaml in it is what ``recipe=best`` loads.
    """
    options = config.tune
    assert options is not None
    began = time.perf_counter()
    base = replace(
        config,
        tune=None,
        dataset=replace(config.dataset, validation=options.validation),
        students=replace(config.students, sources=["distilled"]),
        report=replace(config.report, language=None),
    )
    title = f"{config.method.name}-ipc{config.ipc}"
    what = {key: getattr(options, key) for key in ("space", "validation", "objectives", "max_bytes", "prune", "seed")}
    settings = {**decisive(base), "dataset": asdict(base.dataset), **what}
    folder = claim(Path(config.output, "tune", config.dataset.name, title), settings)
    default = _outcome(*make(base))
    log.info("the recipe as it is: %s", _told(default))
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its account of trials is ours to give
    name = f"{config.dataset.name}-{title}-{digest(settings)}"
    os.environ["WANDB_RUN_GROUP"] = name  # where logger=wandb shows trials
    study = _study(options, folder, name)
    for trial in _trials(study, options, folder, began):
        _run(study, trial, options, base)
    return _concluded(study, config, default, folder)


def _study(options: TuneConfig, folder: Path, name: str) -> Study:
    """The study of that name, begun or joined; every process draws from a seed of its own."""
    storage: Any = options.storage
    if storage is None:
        journal = str(folder / "study.journal")
        storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4) if options.prune else optuna.pruners.NopPruner()
    directions = [_DIRECTIONS[objective] for objective in options.objectives]
    with locked(folder / ".lock", name):
        try:
            study = optuna.create_study(
                study_name=name, storage=storage, directions=directions, pruner=pruner, load_if_exists=True
            )
        except Exception as error:  # a database's driver raises what it likes
            reason = str(error).splitlines()[0]
            raise UserError(f"tune.storage={options.storage}: cannot be opened ({reason}); give another") from error
        process = study.user_attrs.get("processes", 0)
        study.set_user_attr("processes", process + 1)
    # constant_liar: processes side by side try different settings
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + process, constant_liar=True)
    return study


def _trials(study: Study, options: TuneConfig, folder: Path, began: float) -> Iterator[Trial]:
    """A trial after the other, until there are enough of them in all processes, or none would end in time, counted from
    ``began``; the first always is."""
    first, longest = time.perf_counter(), 0.0
    while True:
        start = time.perf_counter()
        if longest and options.seconds is not None and start - began + longest > options.seconds:
            log.info("tune.timeout=%s: no further trial is begun", options.timeout)
            return
        with locked(folder / ".lock", study.study_name):
            _take_over(study)
            if len(_counted(study)) >= options.trials:
                return
            trial = study.ask()
            trial.set_user_attr("process", _this_process())
        yield trial
        longest = max(longest, time.perf_counter() - start)
        done = len([other for other in study.trials if other.state in _OVER])
        left = (options.trials - done) * (time.perf_counter() - first) / max(1, done)
        log.info(
            "trial %d: %s; %d of %d, about %d s left", trial.number, _state(study, trial), done, options.trials, left
        )


def _run(study: Study, trial: Trial, options: TuneConfig, base: DistillConfig) -> None:
    """One trial, told to the study."""
    values = {key: _suggest(trial, key, range_) for key, range_ in options.dimensions.items()}
    level = log.level
    try:
        log.setLevel(logging.WARNING)  # a line for the trial says enough
        outcome = _outcome(*make(changed(base, values), _reports(trial) if options.prune else None))
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:  # a setting that cannot be, or breaks what it meets; the others go on
        if not isinstance(error, UserError):
            log.exception("trial %d", trial.number)
        trial.set_user_attr("error", " ".join(f"{type(error).__name__}: {error}".split()))
        study.tell(trial, state=TrialState.FAIL)
    else:
        for key, value in outcome.items():
            trial.set_user_attr(key, value)
        if options.max_bytes is not None:
            trial.set_constraint("bytes", outcome["bytes"] - options.max_bytes)
        study.tell(trial, [outcome[objective] for objective in options.objectives])
    finally:
        log.setLevel(level)


def _suggest(trial: Trial, key: str, range_: Any) -> Any:
    if isinstance(range_, list):
        return trial.suggest_categorical(key, range_)
    low, high, by_powers = range_["low"], range_["high"], bool(range_.get("log"))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=by_powers)
    return trial.suggest_float(key, low, high, log=by_powers)


def _reports(trial: Trial) -> Callable[[int, float], None]:
    """Told of a trial's students on their way; ends it where its first one lags behind those of other trials."""
    last = 0

    def report(step: int, accuracy: float) -> None:
        nonlocal last
        if step > last:  # the first student; those after it start again
            last = step
            trial.report(accuracy, step)
            if trial.should_prune():
                raise optuna.TrialPruned

    return report


def _outcome(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a run came to: accuracy of its first student, mean and std over seeds, and the file's bytes."""
    row = result["students"][0]
    accuracy, std = row["accuracy_mean"], row["accuracy_std"]
    return {"accuracy": accuracy, "std": std, "bytes": result["bytes"]["file"], "folder": str(folder)}


def _told(outcome: Mapping[str, Any]) -> str:
    accuracy, std = 100 * outcome["accuracy"], 100 * outcome["std"]
    return f"{accuracy:.2f} ± {std:.2f} % of the held-out pictures, {outcome['bytes']:,} B"


def _state(study: Study, trial: Trial) -> str:
    kept = study.trials[trial.number]
    if kept.state == TrialState.COMPLETE:
        return _told(kept.user_attrs)
    return kept.user_attrs.get("error", "ended early")


def _counted(study: Study) -> list[FrozenTrial]:
    """Trials that are over, under way, or could not be."""
    return [t for t in study.trials if t.state in (*_OVER, TrialState.RUNNING) or "error" in t.user_attrs]


def _this_process() -> list[Any]:
    return [platform.node(), os.getpid(), psutil.Process().create_time()]


def _take_over(study: Study) -> None:
    """Give up trials of this machine whose process is gone, and put their settings first in the queue, once: what these
    runs had done is there."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        node, pid, began = trial.user_attrs.get("process", [platform.node(), 0, 0.0])  # gone before it said its name
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


def _concluded(study: Study, config: DistillConfig, default: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the study found: written, drawn, and said."""
    options = config.tune
    assert options is not None
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    fit = [t for t in complete if options.max_bytes is None or t.user_attrs["bytes"] <= options.max_bytes]
    rows = [_row(trial) for trial in study.trials]
    write_bytes(folder / "trials.csv", _table(rows, list(options.dimensions)))
    if not fit:
        reason = next((t.user_attrs["error"] for t in study.trials if "error" in t.user_attrs), "none is over yet")
        if complete:
            reason = f"none of {len(complete)} has at most tune.max_bytes={options.max_bytes}"
        raise UserError(f"tune: no trial has come to a good end ({reason}); see {folder / 'trials.csv'}")
    best = max(fit, key=lambda trial: trial.user_attrs["accuracy"])
    front = sorted(trial.number for trial in study.best_trials) if len(options.objectives) > 1 else []
    found = {"default": default, "best": _row(best), "front": front, "trials": rows}
    write_json(folder / "study.json", found)
    head = [
        f"Found by {len(rows)} trials of python distill.py tune on {config.dataset.name}, method={config.method.name}, "
        f"ipc={config.ipc}:",
        f"{_told(best.user_attrs)}; the recipe as it was: {_told(default)}.",
    ]
    recipe = folder / "recipe" / "best.yaml"
    write_bytes(recipe, recipe_yaml(config, best.params, head).encode())
    plots = pictures.draw(study, folder)
    gain = 100 * (best.user_attrs["accuracy"] - default["accuracy"])
    verdict = f"{gain:+.2f} points on" if gain > 0 else f"no better than ({gain:+.2f} points)"
    log.info("best, trial %d: %s; %s the recipe as it is", best.number, _told(best.user_attrs), verdict)
    log.info("study: %s   plots: %s", folder / "study.json", "  ".join(map(str, plots)))
    given = [word for word in shlex.split(os.environ.get(COMMAND, ""))[2:] if "=" in word]
    found_keys = tuple(f"{key}=" for key in ("recipe", *best.params))
    own = [word for word in given if not word.lstrip("+").startswith(("tune", *found_keys))]
    log.info("to use it: python distill.py --config-dir %s recipe=best %s", folder, shlex.join(own))
    return found


def _row(trial: FrozenTrial) -> dict[str, Any]:
    facts = {key: trial.user_attrs.get(key) for key in ("accuracy", "std", "bytes", "folder", "error")}
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "seconds": seconds,
        **facts,
        "values": trial.params,
    }


def _table(rows: list[dict[str, Any]], keys: list[str]) -> bytes:
    """The trials as CSV, a column for each setting."""
    text = io.StringIO()
    columns = [key for key in rows[0] if key != "values"] if rows else []
    writer = csv.writer(text)
    writer.writerow([*columns, *keys])
    writer.writerows([*(row[key] for key in columns), *(row["values"].get(key) for key in keys)] for row in rows)
    return text.getvalue().encode()
