"""What a study found: a table, plots, and the best settings as a recipe."""

from __future__ import annotations

import csv
import io
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from infer.core.errors import UserError
from infer.core.files import write_bytes, write_json
from infer.pipeline.invocation import program, typed_command
from infer.pipeline.options import DistillOptions
from infer.report import study as plots_of_study

log = logging.getLogger("infer")


def formatted(outcome: Mapping[str, Any]) -> str:
    """Format an outcome for the log. One student has no std; studies of earlier versions do not say how many it was."""
    several = outcome.get("seeds", 2) > 1
    accuracy = f"{100 * outcome['accuracy']:.2f}" + (f" ± {100 * outcome['std']:.2f}" if several else "")
    return f"{accuracy} % of the held-out pictures, {outcome['bytes']:,} B"


def conclude(study: Study, options: DistillOptions, default: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write, draw and log what the study found; return it."""
    study_options = options.tune
    assert study_options is not None
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    fit = [t for t in complete if study_options.max_bytes is None or t.user_attrs["bytes"] <= study_options.max_bytes]
    rows = [_row(trial) for trial in study.trials]
    write_bytes(folder / "trials.csv", _table(rows, list(study_options.dimensions)))
    if not fit:
        reason = next((t.user_attrs["error"] for t in study.trials if "error" in t.user_attrs), "none is over yet")
        if complete:
            reason = f"none of {len(complete)} has at most tune.max_bytes={study_options.max_bytes}"
        raise UserError(f"tune: no trial has come to a good end ({reason}); see {folder / 'trials.csv'}")
    best = max(fit, key=lambda trial: trial.user_attrs["accuracy"])
    front = sorted(trial.number for trial in study.best_trials) if len(study_options.objectives) > 1 else []
    found = {"default": default, "best": _row(best), "front": front, "trials": rows}
    write_json(folder / "study.json", found)
    head = [
        f"Found by {len(rows)} trials of a study on {options.dataset.name}, "
        f"method={options.method.name}, ipc={options.ipc}:",
        f"{formatted(best.user_attrs)}; the recipe as it was: {formatted(default)}.",
    ]
    recipe = folder / "recipe" / "best.yaml"
    write_bytes(recipe, _recipe_yaml(options, best.params, head).encode())
    plots = plots_of_study.draw(study, folder)
    gain = 100 * (best.user_attrs["accuracy"] - default["accuracy"])
    verdict = f"{gain:+.2f} points on" if gain > 0 else f"no better than ({gain:+.2f} points)"
    log.info("best, trial %d: %s; %s the recipe as it is", best.number, formatted(best.user_attrs), verdict)
    log.info("study: %s   plots: %s", folder / "study.json", "  ".join(map(str, plots)))
    given = [word for word in shlex.split(typed_command())[2:] if "=" in word]
    found_keys = tuple(f"{key}=" for key in ("recipe", *best.params))
    own = [word for word in given if not word.lstrip("+").startswith(("tune", *found_keys))]
    log.info("to use it: %s --config-dir %s recipe=best %s", program(), folder, shlex.join(own))
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
    """Return the trials as CSV, a column for each setting."""
    text = io.StringIO()
    columns = [key for key in rows[0] if key != "values"] if rows else []
    writer = csv.writer(text)
    writer.writerow([*columns, *keys])
    writer.writerows([*(row[key] for key in columns), *(row["values"].get(key) for key in keys)] for row in rows)
    return text.getvalue().encode()


def _recipe_yaml(options: DistillOptions, values: Mapping[str, Any], head: Sequence[str]) -> str:
    """Return a file that ``recipe=`` loads: the recipe with ``values``, and the values of other groups."""
    best = options.with_trial(values)
    content: dict[str, Any] = {key: asdict(getattr(best, key)) for key in ("recipe", "teachers", "students")}
    for key, value in values.items():
        *above, last = key.split(".")
        node = content
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    lines = ["# @package _global_", *(f"# {line}" for line in head)]
    return "\n".join([*lines, yaml.safe_dump(content, sort_keys=False)])
