"""What to do after a run: where its files are, and how to use them."""

from __future__ import annotations

import shlex
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from infer.models.options import NETWORKS
from infer.pipeline.invocation import program
from infer.pipeline.selected import SELECTED


def snippet(result: Mapping[str, Any], file: Path) -> list[str]:
    """Return three lines of Python that train a student on a distilled file, with as many steps as in the run.

    A frozen network takes none.

    Args:
        result: the content of result.json.
        file: the distilled file.
    """
    rows = result["students"]
    name = next((row["backbone"] for row in rows if row["backbone"] in NETWORKS), "convnet")
    # those of the full training set may be more
    steps = min((row["steps"] for row in rows if row["backbone"] == name), default=min(row["steps"] for row in rows))
    return [
        "import infer",
        f"small = infer.load({file.as_posix()!r})",
        f"student = infer.train_student(small, {name!r}{f', steps={steps}' if steps else ''})",
    ]


def after_distilling(result: Mapping[str, Any], folder: Path, file: Path, loggers: Container[str]) -> list[str]:
    """Return the lines that end a run of distill.py.

    Args:
        result: the content of result.json.
        folder: of the run.
        file: the distilled file.
        loggers: names of the run's loggers.
    """
    report = folder / "report.html"
    lines = [f"File:      {file} ({result['bytes']['file']:,} B)", f"Datasheet: {folder / 'datasheet.md'}"]
    lines += [f"Report:    {report}"] if report.is_file() else []
    lines += [f"Figures:   {folder / 'result.json'}", f"Pictures:  {folder / 'images'}"]
    lines += [f"Selected:  {selected}"] if (selected := folder / SELECTED).is_file() else []
    lines += _advice(result)
    lines += after_logging(folder, loggers)
    if trained := [row["weights"][0] for row in result["students"] if row["source"] == "distilled"]:
        lines.append(f"To classify a folder: infer-predict {shlex.quote(str(Path(trained[0]).parent))} FOLDER")
    if result["labels"] == "dynamic":  # the labels come from the teachers, which train.py loads
        words = f"source=distilled source.path={shlex.quote(str(file))}"
        return [*lines, f"To use it: {program().replace('distill', 'train')} {words}, with the same dataset="]
    return [*lines, "To use it in Python:", *(f"    {line}" for line in snippet(result, file))]


def _advice(result: Mapping[str, Any]) -> list[str]:
    """Return the lines on the budget that a learning curve recommends; none where there is no curve."""
    if "recommended" not in result:
        return []
    if not (found := result["recommended"]):
        return ["Learning curve: its largest file is not within report.tolerance of all pictures"]
    facts = f"{found['pictures']:,} stored pictures lose {100 * found['within']:.1f} points against all of them"
    if found["budget"] == result["bytes"]["budget"]:
        return [f"Learning curve: {facts} ({found['bytes']:,} B); they are those of this file"]
    return [f"Learning curve: {facts} ({found['bytes']:,} B); the command:", f"    {found['command']}"]


def after_logging(folder: Path, loggers: Container[str]) -> list[str]:
    """Return a line for each of the ``loggers``: where it wrote in ``folder``, and how to see that."""
    lines = []
    if "tensorboard" in loggers:
        place = folder / "tensorboard"
        lines.append(f"Logs:      {place}; to see them: tensorboard --logdir {shlex.quote(str(place))}")
    if "wandb" in loggers:
        place = folder / "wandb"
        offline = any(place.glob("offline-run-*"))
        how = f"to upload them: wandb sync {shlex.quote(str(place))}/offline-run-*" if offline else "uploaded"
        lines.append(f"Logs:      {place}; {how}")
    return lines
