"""A study of settings as plots: how it went, and which settings mattered."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import optuna
from optuna.study import Study
from optuna.trial import TrialState

from infer.core.files import write_bytes

log = logging.getLogger("infer")


def draw(study: Study, folder: Path) -> list[Path]:
    """history.png and importances.png, or front.png of two objectives, in ``folder``; returns what was drawn."""
    matplotlib.use("Agg")
    from optuna.visualization import matplotlib as plots

    wanted: dict[str, Callable[[Study], Any]] = {"history": plots.plot_optimization_history}
    if len(study.directions) > 1:
        wanted = {"front": lambda study: plots.plot_pareto_front(study, target_names=["accuracy", "bytes"])}
    elif len(study.get_trials(states=(TrialState.COMPLETE,))) > 1:
        wanted["importances"] = plots.plot_param_importances
    drawn = []
    for name, plot in wanted.items():
        buffer = io.BytesIO()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                axes = plot(study)
        except (RuntimeError, ValueError) as error:  # importances of trials that are all alike
            log.info("no %s.png: %s", name, error)
            continue
        axes.figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        matplotlib.pyplot.close(axes.figure)
        write_bytes(folder / f"{name}.png", buffer.getvalue())
        drawn.append(folder / f"{name}.png")
    return drawn
