"""The plots of a hyper-parameter study."""

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
from infer.report.plot_text import literal_text

log = logging.getLogger("infer")


def draw(study: Study, folder: Path) -> list[Path]:
    """Plot a study as PNG files.

    With one objective, the files are history.png and importances.png; with two, front.png.

    Args:
        study: The study.
        folder: The folder of the files.

    Returns:
        The paths of the files. A plot that Optuna cannot draw, such as the importances of equal trials, is left out.
    """
    matplotlib.use("Agg")
    paths = []
    for name, plot in _plots(study).items():
        buffer = io.BytesIO()
        try:
            with literal_text(), warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                axes = plot(study)
                axes.figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        except (RuntimeError, ValueError) as error:
            log.info("%s.png is not drawn: %s", name, error)
            continue
        finally:
            matplotlib.pyplot.close("all")
        write_bytes(folder / f"{name}.png", buffer.getvalue())
        paths.append(folder / f"{name}.png")
    return paths


def _plots(study: Study) -> dict[str, Callable[[Study], Any]]:
    """Return the plots that suit the study's objectives and trials, by file name."""
    from optuna.visualization import matplotlib as plots

    if len(study.directions) > 1:
        return {
            "front": lambda study: plots.plot_pareto_front(study, target_names=["accuracy (0 to 1)", "size (bytes)"])
        }
    chosen: dict[str, Callable[[Study], Any]] = {
        "history": lambda study: plots.plot_optimization_history(study, target_name="accuracy (0 to 1)")
    }
    if len(study.get_trials(states=(TrialState.COMPLETE,))) > 1:
        chosen["importances"] = plots.plot_param_importances
    return chosen
