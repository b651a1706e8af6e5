"""A study: the settings that do best on train pictures held out. Optuna searches; a trial is a run like any other."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from infer.core.durations import rough
from infer.core.errors import UserError
from infer.core.files import digest, exclusive_lock, reserve_folder
from infer.core.folder_names import folder_name
from infer.core.identity import as_identity
from infer.core.paths import user_path
from infer.pipeline import study_process, study_result
from infer.pipeline.options import DistillOptions
from infer.pipeline.run import create
from infer.pipeline.run_folder import Backbones, identity, run_name
from infer.pipeline.tune_options import TuneOptions

log = logging.getLogger("infer")

_DIRECTIONS = {"accuracy": StudyDirection.MAXIMIZE, "bytes": StudyDirection.MINIMIZE}
_GROUP = "WANDB_RUN_GROUP"
_OVER = (TrialState.COMPLETE, TrialState.PRUNED)


def tune(options: DistillOptions, backbones: Backbones) -> dict[str, Any]:
    """Run trials until the study has ``tune.trials`` of them or the time is over; return what it found.

    The folder outputs/tune/<dataset>/<method>-ipc<N> holds the study's journal, so a stopped study goes on, and several
    processes that run the same command share one study. Its recipe/best.yaml is what ``recipe=best`` loads.
    """
    study_options = options.tune
    assert study_options is not None
    began = time.perf_counter()
    base = replace(
        options,
        tune=None,
        dataset=replace(options.dataset, validation=study_options.validation),
        students=replace(options.students, sources=["distilled"]),
        report=replace(options.report, language=None, curve=None),
    )
    keys = ("space", "validation", "objectives", "max_bytes", "prune", "seed")
    study_identity = {key: getattr(study_options, key) for key in keys}
    settings = {**identity(base), "dataset": as_identity(base.dataset), **study_identity}
    folder = reserve_folder(_place(options), settings)
    default = _outcome(base, *create(base, backbones))
    log.info("the recipe as it is: %s", study_result.formatted(default))
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # trials are reported here
    name = f"{options.dataset.name}-{run_name(options)}-{digest(settings)}"
    study = _study(study_options, folder, name)
    with _grouped(name):
        for trial in _trials(study, study_options, folder, began):
            _run(study, trial, base, study_options, backbones)
    return study_result.conclude(study, options, default, folder)


def _place(options: DistillOptions) -> Path:
    """Return the folder that a study has to itself."""
    data = folder_name("dataset.name", options.dataset.name)
    return user_path(options.output) / "tune" / data / run_name(options)


@contextmanager
def _grouped(name: str) -> Iterator[None]:
    """Group the runs in the block by the study's name in W&B, unless the user has given a group."""
    given = _GROUP in os.environ
    os.environ.setdefault(_GROUP, name)
    try:
        yield
    finally:
        if not given:
            del os.environ[_GROUP]


def _study(options: TuneOptions, folder: Path, name: str) -> Study:
    """Create or join the study of that name; each process samples with its own seed."""
    journal = folder / "study.journal"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4) if options.prune else optuna.pruners.NopPruner()
    directions = [_DIRECTIONS[objective] for objective in options.objectives]
    with exclusive_lock(folder / ".lock", name):
        storage = options.storage or study_process.open_journal(journal)
        try:
            study = optuna.create_study(
                study_name=name, storage=storage, directions=directions, pruner=pruner, load_if_exists=True
            )
        except Exception as error:  # drivers of databases raise errors of many types
            reason = " ".join(str(error).split()) or type(error).__name__
            place = f"tune.storage={options.storage}" if options.storage else str(journal)
            raise UserError(f"{place}: cannot be opened ({reason}); give another tune.storage=") from error
        process = study.user_attrs.get("processes", 0)
        study.set_user_attr("processes", process + 1)
    # constant_liar: processes side by side try different settings
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + process, constant_liar=True)
    return study


def _trials(study: Study, options: TuneOptions, folder: Path, began: float) -> Iterator[Trial]:
    """Yield trials until all processes have enough of them, or none is expected to end in time, counted from ``began``.

    The first is always run.
    """
    first, longest = time.perf_counter(), 0.0
    while True:
        start = time.perf_counter()
        if longest and options.seconds is not None and start - began + longest > options.seconds:
            log.info("tune.timeout=%s: no further trial is begun", options.timeout)
            return
        with exclusive_lock(folder / ".lock", study.study_name):
            study_process.take_over(study)
            if len(_counted(study)) >= options.trials:
                return
            trial = study.ask()
            trial.set_user_attr("process", study_process.this_process())
        yield trial
        longest = max(longest, time.perf_counter() - start)
        done = len([other for other in study.trials if other.state in _OVER])
        left = (options.trials - done) * (time.perf_counter() - first) / max(1, done)
        log.info(
            "trial %d: %s; %d of %d, about %s left",
            trial.number,
            _state(study, trial),
            done,
            options.trials,
            rough(left),
        )


def _run(study: Study, trial: Trial, base: DistillOptions, options: TuneOptions, backbones: Backbones) -> None:
    """Run one trial and report its outcome to the study."""
    values = {key: _suggest(trial, key, space) for key, space in options.dimensions.items()}
    level = log.level
    try:
        log.setLevel(logging.WARNING)  # one line a trial
        report = _reports(trial) if options.prune else None
        chosen = base.with_trial(values)
        outcome = _outcome(chosen, *create(chosen, backbones, report))
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:  # a setting may be impossible; the other trials go on
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
    """Return a callback that reports intermediate accuracy for pruning."""
    last = 0

    def report(step: int, accuracy: float) -> None:
        nonlocal last
        if step > last:  # the first student; those after it start again
            last = step
            trial.report(accuracy, step)
            if trial.should_prune():
                raise optuna.TrialPruned

    return report


def _outcome(options: DistillOptions, result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the accuracy of a run's first student, mean and std over seeds, and the file's bytes."""
    name = options.students.backbones[0]
    row = next(row for row in result["students"] if row["backbone"] == name)
    accuracy, std = row["accuracy_mean"], row["accuracy_std"]
    facts = {"seeds": row["seeds"], "bytes": result["bytes"]["file"], "folder": str(folder)}
    return {"accuracy": accuracy, "std": std, **facts}


def _state(study: Study, trial: Trial) -> str:
    kept = study.trials[trial.number]
    if kept.state == TrialState.COMPLETE:
        return study_result.formatted(kept.user_attrs)
    return kept.user_attrs.get("error", "ended early")


def _counted(study: Study) -> list[FrozenTrial]:
    """Return the trials that ended, run, or were impossible."""
    return [t for t in study.trials if t.state in (*_OVER, TrialState.RUNNING) or "error" in t.user_attrs]
