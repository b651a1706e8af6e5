"""Who watches a run beside its metrics.csv: Weights & Biases, TensorBoard, or both."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from infer.core.files import digest, read_json, write_json

log = logging.getLogger("infer")

_FINISH = 300
"""Seconds that a run waits for its last uploads; what is left then lies on disk, for ``wandb sync``."""


@contextmanager
def loggers(
    chosen: Mapping[str, Any], folder: Path, name: str, job: str, tags: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[list[Logger]]:
    """The loggers that ``chosen`` (conf/logger) names, writing below ``folder``.

    A W&B run is called ``name``, is of the type ``job`` and has ``settings`` for its configuration, flat; it ends with
    the block, and says whether that failed. Started again in the same folder it goes on under the same id.
    """
    found: list[Logger] = []
    exit_code = 1
    if "tensorboard" in chosen:
        found.append(TensorBoardLogger(str(folder), name="", version="tensorboard", **chosen["tensorboard"]))
    if "wandb" in chosen:
        found.append(_wandb(chosen["wandb"], folder, name, job, tags))
        found[-1].log_hyperparams(_flat(settings))
    try:
        yield found
        exit_code = 0
    finally:
        if "wandb" in chosen:
            import wandb

            wandb.finish(exit_code=exit_code)


def _wandb(options: Mapping[str, Any], folder: Path, name: str, job: str, tags: Sequence[str]) -> WandbLogger:
    """A W&B run that has begun; offline where its server cannot be had, so that a network costs no result."""
    import wandb

    kept = folder / "wandb.json"
    known = read_json(kept) or {"id": secrets.token_hex(4)}
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        write_json(kept, known)
    options = {**options, "tags": [*tags, *options.get("tags", [])], "job_type": job, "name": name, **known}
    settings = wandb.Settings(silent=True, finish_timeout=_FINISH)
    try:
        logger = WandbLogger(save_dir=str(folder), settings=settings, **options)
        logger.experiment  # noqa: B018 -- it begins here
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        wandb.teardown()  # its service, which still holds the run's id
        log.warning("logger=wandb: %s; going on offline, `wandb sync` uploads %s later", reason, folder / "wandb")
        logger = WandbLogger(save_dir=str(folder), settings=settings, **{**options, "mode": "offline"})
    return logger


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """``recipe.ufc.lr`` in the place of dictionaries in each other, so that runs can be searched and grouped by it."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = _flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
        found.update(inner)
    return found


def log_figures(watching: Sequence[Logger], result: Mapping[str, Any]) -> None:
    """The figures that people compare runs by, once, at the end."""
    figures = {f"accuracy/{row['backbone']}/{row['source']}": row["accuracy_mean"] for row in result["students"]}
    figures |= {f"teacher/{name}/accuracy": teacher["accuracy"] for name, teacher in result["teachers"].items()}
    figures |= {f"bytes/{name}": size for name, size in result["bytes"].items()}
    for logger in watching:
        logger.log_metrics(figures, step=0)
        logger.save()


@rank_zero_only
def publish(watching: Sequence[Logger], result: Mapping[str, Any], folder: Path, teachers: Mapping[str, Path]) -> None:
    """What can be looked at, and the file itself: pictures, table, report, and artifacts.

    ``folder`` is the run's; ``teachers`` has the weights' file of each.
    """
    pictures = sorted((folder / "images").glob("*.png"))
    columns = ["student", "trained on", "bytes", "accuracy", "std", "steps"]
    keys = ["backbone", "source", "bytes", "accuracy_mean", "accuracy_std", "steps"]
    rows = [[row[key] for key in keys] for row in result["students"]]
    for logger in watching:
        if isinstance(logger, TensorBoardLogger):
            board = logger.experiment
            for picture in pictures:
                board.add_image(picture.stem, np.array(Image.open(picture).convert("RGB")), dataformats="HWC")
            lines = [columns, ["---"] * len(columns), *rows]
            board.add_text("comparison", "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))
        elif isinstance(logger, WandbLogger):
            logger.log_table("comparison", columns=columns, data=rows)
            for picture in pictures:
                logger.log_image(f"pictures/{picture.stem}", [str(picture)])
            _publish_files(logger.experiment, result, folder, teachers)


@rank_zero_only
def publish_teacher(watching: Sequence[Logger], dataset: str, name: str, file: Path, facts: Mapping[str, Any]) -> None:
    """The weights of a teacher, as an artifact."""
    for logger in watching:
        if isinstance(logger, WandbLogger):
            _log_teacher(logger.experiment, dataset, name, file, facts)


def _publish_files(run: Any, result: Mapping[str, Any], folder: Path, teachers: Mapping[str, Path]) -> None:
    """Artifacts: the distilled file as a version of its name, and the teachers' that it was made of.

    W&B draws the line from these to it where there is a network; offline the file's metadata names them.
    """
    import wandb

    report = folder / "report.html"
    if report.is_file():
        run.log({"report": wandb.Html(report.read_text(encoding="utf-8"), inject=False)})
    made_of = {}
    for name, file in teachers.items():
        teacher = _log_teacher(run, result["dataset"], name, file, result["teachers"][name])
        made_of[teacher.name] = teacher.metadata["digest"]
        if not run.offline:
            try:
                run.use_artifact(teacher.wait(timeout=_FINISH))
            except Exception as error:  # its client raises what it likes, and a network costs no result
                log.warning("logger=wandb: %s is not named as an input (%s)", teacher.name, error)
    facts = {key: result[key] for key in ("bytes", "images", "seed", "command")}
    name = _name(f"{result['dataset']}-{result['method']}-ipc{result['ipc']}")
    distilled = wandb.Artifact(name, "distilled", metadata={**facts, "teachers": made_of})
    for kept in ("distilled.safetensors", "result.json"):
        distilled.add_file(str(folder / kept))
    run.log_artifact(distilled, aliases=[f"seed{result['seed']}", "latest"])


def _log_teacher(run: Any, dataset: str, name: str, file: Path, facts: Mapping[str, Any]) -> Any:
    import wandb

    known = {**facts, "digest": digest(file.read_bytes())}
    teacher = wandb.Artifact(_name(f"teacher-{dataset}-{name}"), "teacher", metadata=known)
    teacher.add_file(str(file))
    return run.log_artifact(teacher)


def _name(name: str) -> str:
    """As W&B has it: letters, digits, dashes, underscores and dots."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)
