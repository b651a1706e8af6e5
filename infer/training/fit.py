"""One way to fit a module and to test it: Lightning's Trainer, resumable at every checkpoint, seeded at every step."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from torch.utils.data import DataLoader

from infer.core.errors import UserError, message_in
from infer.core.files import REFUSALS, refused
from infer.core.forecast import forecast
from infer.core.progress import is_shown
from infer.data.batches import StepSampler
from infer.metrics.scores import Scores, scores
from infer.models.classifier import Classifier
from infer.models.compensator import CompensatorModule
from infer.training.callbacks import (
    AccuracyCurve,
    FiniteNumbers,
    SeededSteps,
    StageProgress,
    Stopwatch,
    TensorFloat32,
    WholeCheckpoints,
)
from infer.training.checkpoints import Stopped, read_checkpoint
from infer.training.metrics_file import KeptMetrics, MetricsFile
from infer.training.options import TrainerOptions
from infer.training.processes import job
from infer.training.strategies import strategy

log = logging.getLogger("infer")

_RESUMES = "the same command goes on where this one stopped"


def fit(
    module: Classifier | CompensatorModule,
    batches: DataLoader[Any],
    seed: int,
    folder: Path | None,
    name: str,
    trainer: TrainerOptions,
    loggers: Sequence[Logger] = (),
    curve: AccuracyCurve | None = None,
) -> float:
    """Train ``module`` on all steps of ``batches``, resuming from ``folder``/``name``.ckpt where a run stopped.

    Each of several processes calls this, and all of them get the model of the first. About twenty checkpoints are
    written; the caller keeps the result and then calls :func:`delete_checkpoint`. Without a ``folder`` nothing is
    written.

    Returns:
        The seconds of the training.

    Raises:
        UserError: where the loss or a weight becomes NaN or infinite, a process dies, or the disk refuses a file.
    """
    checkpoint = folder / f"{name}.ckpt" if folder else None
    assert isinstance(batches.sampler, StepSampler)
    batches.sampler.shared = trainer.several and not isinstance(module, CompensatorModule)
    stage = f"{name.partition('-')[0]} {module.name}"
    stopwatch, metrics = Stopwatch(), MetricsFile(folder, name) if folder else None
    callbacks = [stopwatch, *_callbacks(module, seed, stage, checkpoint, len(batches)), *([curve] if curve else [])]
    if metrics:
        callbacks.append(KeptMetrics(metrics))
        loggers = [metrics, *loggers]
    with _quiet():
        try:
            lightning = _trainer(module, trainer, checkpoint is not None, loggers, callbacks, len(batches))
            stopped = _stopped(checkpoint, module, lightning, trainer) if checkpoint else None
            batches.sampler.start = stopped.global_step if stopped else 0
            if stopped and metrics:
                stopwatch.before, metrics.rows = stopped.seconds, stopped.metrics
            module.train()
            lightning.fit(module, batches, ckpt_path=checkpoint if stopped else None, weights_only=True)
        except SystemExit as interrupted:  # how Lightning ends on Ctrl-C
            raise KeyboardInterrupt from interrupted
        except (ProcessExitedException, ProcessRaisedException) as error:
            raise _process_error(stage, trainer, error) from error
        except OSError as error:
            if folder is None or error.errno not in REFUSALS:
                raise
            raise refused(folder, error) from error
    forecast().finish(stage, stopwatch.seconds)
    return stopwatch.seconds


def _stopped(
    checkpoint: Path, module: Classifier | CompensatorModule, lightning: Trainer, trainer: TrainerOptions
) -> Stopped | None:
    """Return where the stage was stopped; the first of launched processes reads it for all, so that none differs."""
    read = partial(read_checkpoint, checkpoint, module, lightning)
    return job(trainer).from_first(f"the checkpoint {checkpoint}", read) if trainer.launched else read()


def _process_error(
    stage: str, trainer: TrainerOptions, error: ProcessExitedException | ProcessRaisedException
) -> UserError:
    """Return a started process's own error, or that it has ended."""
    reason = str(error).strip().splitlines()[-1]
    ended = f"{stage}: one of {trainer.devices} processes ended ({reason}); {_RESUMES}"
    return UserError(message_in(str(error)) or ended)


def _callbacks(
    module: Classifier | CompensatorModule, seed: int, stage: str, checkpoint: Path | None, steps: int
) -> list[Callback]:
    every = math.ceil(steps / 20)
    seeded = SeededSteps(seed, isinstance(module, CompensatorModule))
    found: list[Callback] = [seeded, TensorFloat32(), FiniteNumbers(stage, every)]
    if checkpoint:
        found.append(
            ModelCheckpoint(checkpoint.parent, checkpoint.stem, enable_version_counter=False, every_n_train_steps=every)
        )
    if is_shown():
        found.append(StageProgress(stage, forecast()))
    return found


def _trainer(
    module: Classifier | CompensatorModule,
    trainer: TrainerOptions,
    checkpoints: bool,
    loggers: Sequence[Logger],
    callbacks: list[Callback],
    steps: int,
) -> Trainer:
    independent = isinstance(module, CompensatorModule)
    return Trainer(
        accelerator="gpu" if trainer.device.type == "cuda" else trainer.device.type,
        devices=trainer.devices,
        num_nodes=trainer.nodes,
        strategy=strategy(independent, trainer) if trainer.several else "auto",
        precision=trainer.precision,  # type: ignore[arg-type]
        plugins=[WholeCheckpoints()],
        max_epochs=1,
        max_steps=steps,
        logger=[*loggers],
        callbacks=callbacks,
        enable_checkpointing=checkpoints,
        enable_progress_bar=False,  # StageProgress shows more in one line
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=max(1, min(50, steps // 20)),
    )


def delete_checkpoint(folder: Path, name: str) -> None:
    """Delete the checkpoint of a stage whose result is kept."""
    (folder / f"{name}.ckpt").unlink(missing_ok=True)


def measure(module: Classifier, batches: DataLoader[Any], trainer: TrainerOptions) -> Scores:
    """Measure ``module`` on the test pictures, on one device."""
    with _quiet():
        lightning = Trainer(
            accelerator="gpu" if trainer.device.type == "cuda" else trainer.device.type,
            devices=[trainer.device.index or 0] if trainer.device.type == "cuda" else 1,
            precision=trainer.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        module.confusion.reset()
        lightning.test(module, batches, verbose=False)
        return scores(module.confusion.compute().cpu())


def own_generators() -> AbstractContextManager[None]:
    """Return a context after which torch's generators, of the CPU and of GPUs, are as they were before."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))


class _quiet(warnings.catch_warnings):  # noqa: N801
    """Silence Lightning's advice, but no other warning."""

    _loggers = (logging.getLogger("pytorch_lightning"), logging.getLogger("lightning.pytorch"))

    def __enter__(self) -> None:
        super().__enter__()
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.WARNING)
        for advice in (
            ".*module.s. in eval mode at the start.*",  # BatchNorm of pretrained networks
            ".*does not have many workers.*",  # batches are resident: workers would only copy them
            ".*exists and is not empty.*",  # the folder is the run's own
            ".*isinstance.treespec, LeafSpec.*",
            ".*You defined a `training_step` but.*",
            ".*number of training batches.*",
            ".*your dataloader is not resumable.*",  # the sampler starts at the right step
            ".*Starting from v1.9.0.*",
            ".*ModelCheckpoint with manual optimization.*",  # resuming needs the state after the step
        ):
            warnings.filterwarnings("ignore", message=advice)

    def __exit__(self, *error: Any) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
        super().__exit__(*error)
