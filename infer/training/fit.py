"""One way to fit a module and to test it: Lightning's Trainer, resumable at every checkpoint, seeded at every step."""

from __future__ import annotations

import atexit
import io
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from torch.utils.data import DataLoader

from infer.core.errors import UserError
from infer.core.files import write_bytes
from infer.core.progress import Lines
from infer.data.batches import StepSampler
from infer.metrics.scores import Scores, scores
from infer.models.modules import Classifier, CompensatorModule

log = logging.getLogger("infer")

_RESUMES = "the same command goes on where this one stopped"


class SeededSteps(Callback):
    """Seeds torch at every step from the seed and the step: a resumed run draws what the unbroken one would have."""

    def __init__(self, seed: int, same_on_all: bool) -> None:
        self.seed = seed
        self.same_on_all = same_on_all

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Before the step's first draw; processes draw apart unless ``same_on_all``."""
        rank = 0 if self.same_on_all else trainer.global_rank
        drawn = ((self.seed * 1_000_003 + trainer.global_step) * 4099 + rank) % 2**63  # torch takes no more
        # Not torch.manual_seed: without a GPU it notes a stack trace for a later one, and takes 3 ms a step.
        torch.default_generator.manual_seed(drawn)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(drawn)


class StageBar(RichProgressBar):
    """Lightning's bar, named by the stage: with one pass of so many steps its epochs say nothing."""

    def __init__(self, stage: str) -> None:
        super().__init__(refresh_rate=10)
        self.stage = stage

    def _get_train_description(self, current_epoch: int) -> str:
        return self.stage


class PlainProgress(Callback):
    """Where there is no terminal to draw a bar on."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A resumed run starts further on."""
        self.lines = Lines(self.stage, trainer.max_steps, trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """One process speaks for all."""
        if trainer.is_global_zero:
            self.lines.at(trainer.global_step)


class Watch(Callback):
    """The accuracy of a student on its way, ten times, on ``images`` of ``targets``: a curve, and told to ``report``.

    It changes nothing: weights and moments stay, and every step draws from a seed of its own.
    """

    def __init__(self, images: Tensor, targets: Tensor, report: Callable[[int, float], None] | None) -> None:
        self.images, self.targets, self.report = images, targets, report

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """After every tenth of the steps."""
        step = trainer.global_step
        if step % math.ceil(trainer.max_steps / 10):
            return
        assert isinstance(module, Classifier)
        module.eval()
        with torch.no_grad():
            logits = torch.cat([module(images.to(module.device)) for images in self.images.split(500)])
        module.train()
        accuracy = (logits.argmax(dim=-1).cpu() == self.targets.cpu()).float().mean().item()
        for logger in trainer.loggers:
            logger.log_metrics({f"student/{module.name}/accuracy": accuracy}, step=step)
        if self.report:
            self.report(step, accuracy)


class Processes(DDPStrategy):
    """DDP that ends its process group in order: gloo's threads, met by the exit of a process, may abort it."""

    def setup_environment(self) -> None:
        """Lightning ends only NCCL's groups."""
        super().setup_environment()
        atexit.register(_leave)


class IndependentRounds(Processes):
    """DDP's processes without its gradient exchange: compensators are independent problems."""

    def configure_ddp(self) -> None:
        """Leave the module as it is."""


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _strategy(independent: bool, hardware: Hardware) -> DDPStrategy:
    start = "spawn" if hardware.strategy == "ddp_spawn" else "popen"
    return IndependentRounds(start_method=start) if independent else Processes(start_method=start)  # type: ignore


@dataclass(frozen=True)
class Hardware:
    """Lightning's accelerator, devices, strategy and precision.

    Several devices, on one or more ``nodes``, share the rounds of compensators, and the batches of teachers and
    students (whose BatchNorm then sees each device's part of a batch).
    """

    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"

    @property
    def device(self) -> torch.device:
        """The first device, for passes that need no Trainer."""
        gpu = self.accelerator in ("auto", "gpu") and torch.cuda.is_available()
        if gpu:
            return torch.device("cuda", _local_rank() if self.strategy == "ddp" else 0)
        return torch.device("mps" if self.accelerator == "mps" else "cpu")

    @property
    def several(self) -> bool:
        """Whether more than one process trains."""
        return self.devices * self.nodes > 1

    def check(self) -> None:
        """Raise :class:`UserError` where this machine has not what is asked for."""
        gpus = torch.cuda.device_count()
        if self.accelerator == "gpu" and not gpus:
            raise UserError("trainer.accelerator=gpu: no GPU is to be seen here; choose trainer=cpu or trainer=auto")
        if self.accelerator == "mps" and not torch.backends.mps.is_available():
            raise UserError("trainer.accelerator=mps: this machine has none; choose trainer=cpu or trainer=auto")
        if self.device.type == "cuda" and self.devices > gpus:
            raise UserError(
                f"trainer.devices={self.devices}: there are {gpus}; choose as many or trainer.accelerator=cpu"
            )
        if self.devices > 1 and self.strategy == "auto":
            raise UserError(f"trainer.devices={self.devices}: needs trainer.strategy=ddp_spawn, or trainer=ddp")
        if self.nodes > 1 and self.strategy != "ddp":
            raise UserError(f"trainer.nodes={self.nodes}: needs trainer=cluster, started by torchrun or srun on each")
        world = os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS"))
        if self.strategy == "ddp" and world != str(self.devices * self.nodes):
            raise UserError(
                f"trainer.strategy=ddp: wants {self.devices * self.nodes} processes (trainer.devices times "
                f"trainer.nodes) that torchrun or srun has started, there are {world or 'none'}; on one machine "
                "trainer=ddp starts its own"
            )


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")))


def rank() -> int:
    """Which of the processes that a launcher started this one is; the first alone speaks."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def metrics_logger(folder: Path) -> CSVLogger:
    """``folder``/metrics.csv, going on where an earlier stage or a stopped run left it; Lightning's starts anew."""
    path = folder / "metrics.csv"
    before = path.read_text() if path.exists() else ""
    logger = CSVLogger(str(folder), name="", version="")
    with _quiet():
        experiment = logger.experiment
    if before and rank() == 0:
        path.write_text(before)
        experiment.metrics_keys = before.partition("\n")[0].strip().split(",")
    return logger


class Stopwatch(Callback):
    """Seconds of training, those of stopped runs counted in."""

    def __init__(self, before: float) -> None:
        self.before = before
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """So far."""
        return self.before + time.perf_counter() - self.started

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A resumed run counts on."""
        checkpoint["seconds"] = self.seconds


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or absent, as every file of a run is."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside, then rename."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())


def _stopped(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint of a stopped run, empty where there is none that can be read."""
    if not checkpoint.exists():
        return {}
    try:
        return torch.load(checkpoint, weights_only=True, map_location="cpu")
    except Exception as error:  # torch's reader raises what pickle, zip and the disk raise
        log.warning("%s cannot be read (%s); its stage starts anew", checkpoint, type(error).__name__)
        checkpoint.unlink()
        return {}


def fit(
    module: Classifier | CompensatorModule,
    batches: DataLoader[Any],
    seed: int,
    folder: Path,
    name: str,
    hardware: Hardware,
    loggers: Sequence[Logger],
    watch: Watch | None = None,
) -> float:
    """Train ``module`` on all steps of ``batches``, from ``folder``/``name``.ckpt on where a run stopped.

    Under several processes every one of them calls this, and the model of the first is everyone's. Some twenty
    checkpoints are written on the way; the caller keeps the result and then calls :func:`forget`. Returns
    the seconds it took.
    """
    steps = len(batches)
    checkpoint = folder / f"{name}.ckpt"
    resumed = _stopped(checkpoint)
    assert isinstance(batches.sampler, StepSampler)
    batches.sampler.start = resumed.get("global_step", 0)
    stopwatch = Stopwatch(resumed.get("seconds", 0.0))
    independent = isinstance(module, CompensatorModule)
    several = hardware.several
    batches.sampler.shared = several and not independent
    callbacks: list[Callback] = [
        stopwatch,
        SeededSteps(seed, same_on_all=independent),
        ModelCheckpoint(folder, name, enable_version_counter=False, every_n_train_steps=math.ceil(steps / 20)),
    ]
    terminal = sys.stdout.isatty()
    stage = f"{name.partition('-')[0]} {module.name}"
    callbacks.append(StageBar(stage) if terminal else PlainProgress(stage))
    if watch:
        callbacks.append(watch)
    with _quiet():
        try:
            trainer = Trainer(
                accelerator=hardware.accelerator,
                devices=hardware.devices,
                num_nodes=hardware.nodes,
                strategy=_strategy(independent, hardware) if several else "auto",
                precision=hardware.precision,  # type: ignore[arg-type]
                plugins=[WholeCheckpoints()],
                max_epochs=1,
                max_steps=steps,
                logger=[metrics_logger(folder), *loggers],
                callbacks=callbacks,
                enable_progress_bar=terminal,
                enable_model_summary=False,
                use_distributed_sampler=False,
                log_every_n_steps=max(1, min(50, steps // 20)),
            )
            module.train()
            trainer.fit(module, batches, ckpt_path=checkpoint if resumed else None, weights_only=True)
        except SystemExit as interrupted:  # how Lightning ends on Ctrl-C; it is ours to say that nothing is lost
            raise KeyboardInterrupt from interrupted
        except (ProcessExitedException, ProcessRaisedException) as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{stage}: one of {hardware.devices} processes ended ({reason}); {_RESUMES}") from error
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror or error}; free space or choose another output=") from error
    return stopwatch.seconds


def forget(folder: Path, name: str) -> None:
    """Remove the checkpoint of a stage whose result is kept."""
    (folder / f"{name}.ckpt").unlink(missing_ok=True)


def measure(module: Classifier, batches: DataLoader[Any], hardware: Hardware) -> Scores:
    """How well ``module`` knows the test pictures; on one device, whatever it trained on."""
    with _quiet():
        trainer = Trainer(
            accelerator=hardware.accelerator,
            devices=[hardware.device.index or 0] if hardware.device.type == "cuda" else 1,
            precision=hardware.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        module.confusion.reset()
        trainer.test(module, batches, verbose=False)
        return scores(module.confusion.compute().cpu())


class _quiet(warnings.catch_warnings):  # noqa: N801
    """Lightning without its advice; what remains is worth reading."""

    def __enter__(self) -> None:
        super().__enter__()
        for name in ("pytorch_lightning", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for advice in (
            ".*does not have many workers.*",  # batches are resident: workers would only copy them
            ".*exists and is not empty.*",  # the folder is the run's own
            ".*isinstance.treespec, LeafSpec.*",
            ".*You defined a `training_step` but.*",
            ".*number of training batches.*",
            ".*your dataloader is not resumable.*",  # it is told where to start
            ".*Starting from v1.9.0.*",
            ".*ModelCheckpoint with manual optimization.*",  # the state after the step is what resuming wants
        ):
            warnings.filterwarnings("ignore", message=advice)
