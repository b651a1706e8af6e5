"""The panels of a sweep on Weights & Biases, at once: a saved workspace, made by code.

    python examples/wandb_dashboard.py --entity <you or your team> --project infer --sweep <name>

Its metrics are those that ``logger=wandb`` logs. It needs ``python -m pip install 'infer-distillation[dashboard]'``, a
network and an account.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

_STEP = "trainer/global_step"


def workspace(entity: str, project: str, students: Sequence[str], sweep: str | None = None) -> Any:
    """The workspace of ``project``: what students of the backbones ``students`` came to, curves, pictures; of the runs
    of ``sweep`` where one is given. Not saved yet."""
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    metric = panels.SummaryMetric
    results: list[Any] = [
        panels.ScatterPlot(
            title=f"Accuracy against stored bytes, {name}",
            x=metric("bytes/file"),
            y=metric(f"accuracy/{name}/distilled"),
            log_x=True,
        )
        for name in students
    ]
    rivals: list[Any] = [
        panels.BarPlot(
            title=f"Accuracy by what it was trained on, {name}",
            metrics=[metric(f"accuracy/{name}/{source}") for source in ("distilled", "random", "real")],
            groupby=panels.Config("method.name"),
        )
        for name in students
    ]
    settings = panels.ParameterImportancePlot(with_respect_to=f"accuracy/{students[0]}/distilled")
    curves = {
        "Cross-entropy of compensators": "distill/.*/cross_entropy",
        "BatchNorm distance of compensators": "distill/.*/bn",
        "Accuracy of students": "student/.*/accuracy",
        "Loss of students": "student/.*/loss",
        "Loss of teachers": "teacher/.*/loss",
    }
    pictures: list[Any] = [
        panels.MediaBrowser(media_keys=[f"pictures/{name}"]) for name in ("round0", "naturals", "composed")
    ]
    lines: list[Any] = [panels.LinePlot(title=title, x=_STEP, metric_regex=key) for title, key in curves.items()]
    made = workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"INFER: {sweep or 'all runs'}",
        sections=[
            workspaces.Section(name="What it came to", panels=[*results, *rivals, settings], is_open=True),
            workspaces.Section(name="Curves", panels=lines, is_open=True),
            workspaces.Section(name="Pictures", panels=pictures, is_open=True),
        ],
    )
    if sweep:
        made.runset_settings.filters = [workspaces.Metric("Group") == sweep]
    return made


def main() -> None:
    """Parse, make, save, say where."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--entity", required=True, help="the account or team that owns the project")
    made.add_argument("--project", default="infer")
    made.add_argument("--sweep", help="its name, as in outputs/sweeps/<name>; left out: all runs of the project")
    made.add_argument("--students", nargs="+", default=["convnet_narrow"], help="backbones of students")
    options = made.parse_args()
    try:
        print(workspace(options.entity, options.project, options.students, options.sweep).save().url)
    except ModuleNotFoundError as error:
        raise SystemExit(f"error: {error}; python -m pip install --editable '.[dashboard]'") from error
    except Exception as error:  # the client raises what its network does
        reason = str(error).splitlines()[0]
        raise SystemExit(f"error: not saved ({reason}); log in with `wandb login`, and name your --entity") from error


if __name__ == "__main__":
    main()
