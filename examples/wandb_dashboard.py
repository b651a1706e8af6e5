"""Create a Weights & Biases workspace for the runs of a sweep.

    python examples/wandb_dashboard.py --entity <user or team> --project infer --sweep <name>

The panels show the metrics that ``logger=wandb`` logs. The script needs the package ``wandb-workspaces``, a network and
an account.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

STEP = "trainer/global_step"
SOURCES = ("distilled", "random", "real")
IMAGES = ("round0", "naturals", "composed")
CURVES = {
    "Cross-entropy of compensators": "distill/.*/cross_entropy",
    "BatchNorm distance of compensators": "distill/.*/bn",
    "Accuracy of students": "student/.*/accuracy",
    "Loss of students": "student/.*/loss",
    "Loss of teachers": "teacher/.*/loss",
}


def workspace(entity: str, project: str, students: Sequence[str], sweep: str | None = None) -> Any:
    """Build a workspace without saving it.

    Args:
        entity: The user or team that owns the project.
        project: The W&B project.
        students: The backbones of the students.
        sweep: The name of a sweep whose runs are shown; None shows all runs of the project.

    Returns:
        A ``wandb_workspaces.workspaces.Workspace`` with accuracies, curves and images.
    """
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    curves: list[Any] = [panels.LinePlot(title=title, x=STEP, metric_regex=key) for title, key in CURVES.items()]
    images: list[Any] = [panels.MediaBrowser(media_keys=[f"pictures/{name}"]) for name in IMAGES]
    created = workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"INFER: {sweep or 'all runs'}",
        sections=[
            workspaces.Section(name="Results", panels=results(students), is_open=True),
            workspaces.Section(name="Curves", panels=curves, is_open=True),
            workspaces.Section(name="Images", panels=images, is_open=True),
        ],
    )
    if sweep:
        created.runset_settings.filters = [workspaces.Metric("Group") == sweep]
    return created


def results(students: Sequence[str]) -> list[Any]:
    """Build the panels of accuracies for ``students``: against bytes, by training set, and by setting."""
    import wandb_workspaces.reports.v2 as panels

    metric = panels.SummaryMetric
    by_bytes = [
        panels.ScatterPlot(
            title=f"Accuracy against stored bytes, {name}",
            x=metric("bytes/file"),
            y=metric(f"accuracy/{name}/distilled"),
            log_x=True,
        )
        for name in students
    ]
    by_source = [
        panels.BarPlot(
            title=f"Accuracy by training set, {name}",
            metrics=[metric(f"accuracy/{name}/{source}") for source in SOURCES],
            groupby=panels.Config("method.name"),
        )
        for name in students
    ]
    by_setting = panels.ParameterImportancePlot(with_respect_to=f"accuracy/{students[0]}/distilled")
    return [*by_bytes, *by_source, by_setting]


def main() -> None:
    """Parse the arguments, save the workspace and print its address."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", required=True, help="the user or team that owns the project")
    parser.add_argument("--project", default="infer", help="the W&B project")
    parser.add_argument("--sweep", help="the name of a sweep, as in outputs/sweeps/<name>; default: all runs")
    parser.add_argument("--students", nargs="+", default=["convnet_narrow"], help="the backbones of the students")
    options = parser.parse_args()
    try:
        print(workspace(options.entity, options.project, options.students, options.sweep).save().url)
    except ModuleNotFoundError as error:
        raise SystemExit(f"error: {error}; run: python -m pip install wandb-workspaces") from error
    except Exception as error:  # the client raises errors of many types
        reason = str(error).splitlines()[0]
        raise SystemExit(f"error: not saved ({reason}); log in with `wandb login`, and check --entity") from error


if __name__ == "__main__":
    main()
