"""Weights & Biases and TensorBoard: loggers of a run, and what they show of its result."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from infer.core.errors import UserError
from infer.core.files import REFUSALS, digest, read_json, refused, write_json
from infer.core.images import PictureError, open_image

log = logging.getLogger("infer")

_FINISH_TIMEOUT = 300  # seconds that a run waits for its uploads; `wandb sync` uploads the rest from disk
_COLUMNS = {
    "student": "backbone",
    "trained on": "source",
    "bytes": "bytes",
    "accuracy": "accuracy_mean",
    "std": "accuracy_std",
    "steps": "steps",
}
"""Columns of the comparison, and their keys in the rows of result.json."""

_IDENTITY = "wandb.json"
"""The file in a run's folder that holds the id of its W&B run."""


@contextmanager
def loggers(
    chosen: Mapping[str, Any], folder: Path, name: str, job: str, tags: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[list[Logger]]:
    """Open the loggers of a run, and close them with the block.

    A W&B run that is started again in the same folder resumes under the same id. It is marked as failed if the block
    raises. If its server is unreachable, it is logged offline.

    Args:
        chosen: The loggers, ``tensorboard`` or ``wandb``, and their options.
        folder: The folder that they write to.
        name: The name of the W&B run.
        job: The job type of the W&B run.
        tags: Tags of the W&B run, beside those of its options.
        settings: The configuration of the W&B run. Nested keys are joined with dots.

    Yields:
        The loggers, for a Lightning Trainer.
    """
    opened: list[Logger] = []
    exit_code = 1
    if "tensorboard" in chosen:
        opened.append(TensorBoardLogger(str(folder), name="", version="tensorboard", **chosen["tensorboard"]))
    if "wandb" in chosen:
        options = {**chosen["wandb"], "tags": [*tags, *chosen["wandb"].get("tags", [])], "job_type": job, "name": name}
        opened.append(_wandb_logger(options, folder))
        opened[-1].log_hyperparams(_flattened(settings))
    try:
        yield opened
        exit_code = 0
    finally:
        if "wandb" in chosen:
            import wandb

            wandb.finish(exit_code=exit_code)


def _wandb_logger(options: Mapping[str, Any], folder: Path) -> WandbLogger:
    """Start a W&B run; offline if its server is unreachable, so that a network error costs no result."""
    import wandb

    identity = _wandb_identity(folder / _IDENTITY)
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        write_json(folder / _IDENTITY, identity)
    options = {**options, **identity}
    settings = wandb.Settings(silent=True, finish_timeout=_FINISH_TIMEOUT)
    try:
        logger = WandbLogger(save_dir=str(folder), settings=settings, **options)
        logger.experiment  # noqa: B018 -- this starts the run
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        wandb.teardown()  # its service still has the id of the run
        log.warning("logger=wandb: %s; going on offline, `wandb sync` uploads %s later", reason, folder / "wandb")
        logger = WandbLogger(save_dir=str(folder), settings=settings, **{**options, "mode": "offline"})
    except OSError as error:  # which names no file
        if error.errno not in REFUSALS:
            raise
        raise refused(folder, error) from error
    return logger


def _wandb_identity(path: Path) -> dict[str, str]:
    """Read the id of the W&B run that a folder has; a new one if it has none.

    Raises:
        UserError: If the file holds no id.
    """
    identity = read_json(path)
    if identity is None:
        return {"id": secrets.token_hex(4)}
    known = identity.get("id") if isinstance(identity, dict) and set(identity) == {"id"} else None
    if not isinstance(known, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", known):
        raise UserError(f"{path}: holds no id of a W&B run; remove it, and the run is logged under a new id")
    return {"id": known}


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give ``settings`` keys such as ``recipe.ufc.lr``, by which W&B can search and group runs."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def log_results(active: Sequence[Logger], result: Mapping[str, Any]) -> None:
    """Log the numbers that runs are compared by: accuracies and bytes.

    Args:
        active: The loggers of the run.
        result: The content of result.json.
    """
    numbers = {f"accuracy/{row['backbone']}/{row['source']}": row["accuracy_mean"] for row in result["students"]}
    numbers |= {f"teacher/{name}/accuracy": teacher["accuracy"] for name, teacher in result["teachers"].items()}
    numbers |= {f"bytes/{name}": size for name, size in result["bytes"].items()}
    for logger in active:
        logger.log_metrics(numbers, step=0)
        logger.save()


@rank_zero_only
def log_artifacts(
    active: Sequence[Logger], result: Mapping[str, Any], folder: Path, teachers: Mapping[str, Path]
) -> None:
    """Log the images and the table of a run, and on W&B its report and its files.

    Args:
        active: The loggers of the run.
        result: The content of result.json.
        folder: The folder of the run.
        teachers: The weights' file of each teacher.
    """
    pictures = sorted((folder / "images").glob("*.png"))
    rows = [_cells(row) for row in result["students"]]
    for logger in active:
        if isinstance(logger, TensorBoardLogger):
            _log_to_tensorboard(logger.experiment, pictures, rows)
        elif isinstance(logger, WandbLogger):
            logger.log_table("comparison", columns=list(_COLUMNS), data=rows)
            for picture in pictures:
                logger.log_image(f"pictures/{picture.stem}", [str(picture)])
            _log_wandb_files(logger.experiment, result, folder, teachers)


def _cells(row: Mapping[str, Any]) -> list[Any]:
    """Return the cells of a row of the comparison. One student has no standard deviation."""
    return [None if key == "accuracy_std" and row["seeds"] == 1 else row[key] for key in _COLUMNS.values()]


def _log_to_tensorboard(board: Any, pictures: Sequence[Path], rows: Sequence[Sequence[Any]]) -> None:
    """Log images and the comparison. An image that cannot be read is left out."""
    for path in pictures:
        try:
            with open_image(path) as picture:
                pixels = np.array(picture.convert("RGB"))
        except PictureError as error:
            log.warning("logger=tensorboard: %s is not logged (%s)", path, error)
            continue
        board.add_image(path.stem, pixels, dataformats="HWC")
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    lines = [list(_COLUMNS), ["---"] * len(_COLUMNS), *cells]
    board.add_text("comparison", "\n".join(f"| {' | '.join(line)} |" for line in lines))
    board.flush()


@rank_zero_only
def log_teacher(active: Sequence[Logger], dataset: str, name: str, file: Path, facts: Mapping[str, Any]) -> None:
    """Log the weights of a teacher as a W&B artifact.

    Args:
        active: The loggers of the run.
        dataset: Name of the data set.
        name: Name of the teacher.
        file: The file of its weights.
        facts: Metadata of the artifact, such as its accuracy.
    """
    for logger in active:
        if isinstance(logger, WandbLogger):
            _log_wandb_teacher(logger.experiment, dataset, name, file, facts)


def _log_wandb_files(run: Any, result: Mapping[str, Any], folder: Path, teachers: Mapping[str, Path]) -> None:
    """Log the report, and as artifacts the teachers and the distilled file.

    Online, the teachers are inputs of the run. Offline, W&B cannot record that, and the file's metadata names them.
    """
    import wandb

    report = folder / "report.html"
    if report.is_file():
        run.log({"report": wandb.Html(report.read_text(encoding="utf-8"), inject=False)})
    digests = {}
    for name, file in teachers.items():
        teacher = _log_wandb_teacher(run, result["dataset"], name, file, result["teachers"][name])
        digests[teacher.name] = teacher.metadata["digest"]
        if not run.offline:
            try:
                run.use_artifact(teacher.wait(timeout=_FINISH_TIMEOUT))
            except Exception as error:  # the client raises errors of many types, and none of them may cost the result
                log.warning("logger=wandb: %s is not recorded as an input (%s)", teacher.name, error)
    facts = {key: result[key] for key in ("bytes", "images", "seed", "command")}
    name = _artifact_name(f"{result['dataset']}-{result['method']}-ipc{result['ipc']}")
    distilled = wandb.Artifact(name, "distilled", metadata={**facts, "teachers": digests})
    for file_name in ("distilled.safetensors", "result.json"):
        distilled.add_file(str(folder / file_name))
    run.log_artifact(distilled, aliases=[f"seed{result['seed']}", "latest"])


def _log_wandb_teacher(run: Any, dataset: str, name: str, file: Path, facts: Mapping[str, Any]) -> Any:
    """Log the weights of a teacher as an artifact, and return the artifact."""
    import wandb

    metadata = {**facts, "digest": digest(file.read_bytes())}
    teacher = wandb.Artifact(_artifact_name(f"teacher-{dataset}-{name}"), "teacher", metadata=metadata)
    teacher.add_file(str(file))
    return run.log_artifact(teacher)


def _artifact_name(name: str) -> str:
    """Put an underscore in place of every character of ``name`` that W&B refuses."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)
