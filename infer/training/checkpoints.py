"""Checkpoints of stopped stages: what is no checkpoint of the stage is not resumed."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from packaging.version import Version
from pydantic import BaseModel, Field
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from infer.core.files import unreadable
from infer.training.callbacks import all_finite
from infer.training.records import Point, Seconds

log = logging.getLogger("infer")

_AUTOMATIC = "epoch_loop.automatic_optimization.optim_progress"
_MANUAL = "epoch_loop.manual_optimization.optim_step_progress"

_ALLOCATOR = "DefaultCPUAllocator"
"""Torch's allocator, which raises RuntimeError, and not MemoryError, where there is too little memory."""


class Stopped(BaseModel):
    """Where a stage was stopped: its step and seconds, the rows of its metrics by step, and its accuracies so far."""

    global_step: Annotated[int, Field(ge=0)]
    seconds: Seconds
    metrics: dict[int, dict[str, float]] = {}
    timeline: list[Point] = []


def read_checkpoint(file: Path, module: LightningModule, trainer: Trainer) -> Stopped | None:
    """Read the checkpoint of a stage, which Lightning then loads.

    Args:
        file: of the checkpoint.
        module: of the stage, as it begins.
        trainer: that fits ``module``.

    Returns:
        None where there is no file, and, with a warning, where it is no checkpoint of this stage; it is deleted then.

    Raises:
        UserError: where the file exists and the system does not give its content.
        MemoryError: where there is too little memory for it. The file stays in both cases: it may be whole.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(file, error.strerror or error) from error
    try:
        found = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        stopped = Stopped.model_validate(found, strict=True)
        reason = _problem(found, stopped, module, trainer)
    except (ValueError, TypeError, LookupError, AttributeError):  # of the checks; a ValidationError is a ValueError
        reason = "it is no checkpoint of a stage"
    except MemoryError:
        raise
    except Exception as error:  # torch's reader raises what pickle and zip raise
        if _ALLOCATOR in str(error):
            raise MemoryError(f"{file}: {error}") from error
        reason = type(error).__name__
    if reason is None:
        return stopped
    log.warning("%s cannot be resumed (%s); its stage starts again", file, reason)
    file.unlink(missing_ok=True)
    return None


def _problem(found: Mapping[str, Any], stopped: Stopped, module: LightningModule, trainer: Trainer) -> str | None:
    """Return why a checkpoint is not resumed; None where it is that of a training of ``module``."""
    if not _alike(found["state_dict"], module.state_dict()):
        return "its weights are those of another network"
    configured: Any = module.configure_optimizers()
    optimiser, loops = configured["optimizer"], found["loops"]["fit_loop"]
    parts = [
        (found["lr_schedulers"], [configured["lr_scheduler"]["scheduler"].state_dict()]),
        ([each["param_groups"] for each in found["optimizer_states"]], [optimiser.state_dict()["param_groups"]]),
        (loops, trainer.fit_loop.state_dict()),
        ({key: {*state} for key, state in found["callbacks"].items()}, _callbacks(trainer)),
    ]
    plugin = trainer.precision_plugin
    if scale := plugin.state_dict():
        parts.append((found[type(plugin).__qualname__], scale))
    Version(found["pytorch-lightning_version"])  # Lightning parses it
    steps = loops[_AUTOMATIC]["optimizer"]["step"]["total"]["completed"] + loops[_MANUAL]["total"]["completed"]
    if not all(_alike(part, fresh) for part, fresh in parts) or not steps == stopped.global_step <= trainer.max_steps:
        return "it is that of another training"
    states = found["optimizer_states"][0]["state"]
    if not _fit(states, [each for group in optimiser.param_groups for each in group["params"]]):
        return "its optimiser is that of another network"
    return None if all_finite([found["state_dict"], *states.values()]) else "it holds NaN or infinite numbers"


def _callbacks(trainer: Trainer) -> dict[str, set[str]]:
    """Return the keys of the states that the callbacks of ``trainer`` keep."""
    states = {callback.state_key: callback.state_dict() for callback in trainer.callbacks}  # type: ignore[attr-defined]
    return {key: {*state} for key, state in states.items() if state}


def _alike(found: Any, fresh: Any) -> bool:
    """Return whether ``found`` has the keys, lengths, types and shapes of ``fresh``; its values may be others."""
    if isinstance(fresh, Tensor):
        return isinstance(found, Tensor) and (found.shape, found.dtype) == (fresh.shape, fresh.dtype)
    if isinstance(fresh, Mapping):
        same = isinstance(found, Mapping) and found.keys() == fresh.keys()
        return same and all(_alike(found[key], value) for key, value in fresh.items())
    if isinstance(fresh, list | tuple):
        same = isinstance(found, list | tuple) and len(found) == len(fresh)
        return same and all(map(_alike, found, fresh))
    if isinstance(fresh, set):
        return bool(found == fresh)
    if isinstance(fresh, float):
        return type(found) in (int, float) and math.isfinite(found)
    return type(found) is type(fresh)


def _fit(states: Mapping[int, Mapping[str, Any]], parameters: list[Tensor]) -> bool:
    """Return whether the states of an optimiser are scalars and tensors of the shapes of its ``parameters``."""
    return all(
        number in range(len(parameters)) and isinstance(part, Tensor) and part.shape in ((), parameters[number].shape)
        for number, state in states.items()
        for part in state.values()
        if part is not None
    )
