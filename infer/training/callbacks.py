"""Lightning callbacks: seeds, progress, measurements, checkpoints."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from infer.core.errors import UserError
from infer.core.files import write_bytes
from infer.core.forecast import Forecast
from infer.core.progress import Progress, progress_of, reporting
from infer.metrics.scores import scores
from infer.models.classifier import Classifier

_RECIPES = {"compensators": "ufc"}
"""The recipe's key of a stage where it is not its first word."""


class SeededSteps(Callback):
    """Seed torch before each step from the seed and the step, so that a resumed run draws as the unbroken one would.

    Processes draw differently unless ``same_on_all``.
    """

    def __init__(self, seed: int, same_on_all: bool) -> None:
        self.seed = seed
        self.same_on_all = same_on_all

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Seed the step."""
        rank = 0 if self.same_on_all else trainer.global_rank
        drawn = ((self.seed * 1_000_003 + trainer.global_step) * 4099 + rank) % 2**63  # torch takes no more
        # Not torch.manual_seed: without a GPU it records a stack trace for a later one, which takes 3 ms per step.
        torch.default_generator.manual_seed(drawn)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(drawn)


class TensorFloat32(Callback):
    """Multiply matrices on a GPU in TF32 during a stage, as torch computes convolutions by default."""

    def __init__(self) -> None:
        self.before: str | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Allow it, in each of several processes."""
        if trainer.strategy.root_device.type == "cuda":
            self.before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high")

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Restore the setting of the process."""
        self._restore()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Restore it after an error or Ctrl-C: Lightning does not call :meth:`teardown` then."""
        self._restore()

    def _restore(self) -> None:
        if self.before:
            torch.set_float32_matmul_precision(self.before)
            self.before = None


class StageProgress(Callback):
    """Show the progress of a stage: a bar on a terminal, and elsewhere lines.

    Args:
        stage: its title.
        run: time left of the run. It is given here because processes that a strategy starts do not share the context.
    """

    def __init__(self, stage: str, run: Forecast) -> None:
        self.stage, self.run = stage, run
        self.shown: Progress | None = None
        self.block: ExitStack | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start at the step of a resumed run; the first process reports for all."""
        if trainer.is_global_zero:
            self.block = ExitStack()
            self.block.enter_context(reporting(True))  # a process that a strategy started does not report yet
            self.shown = progress_of(self.stage, trainer.max_steps, trainer.global_step, self.run)
            self.block.callback(self.shown.close)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Update."""
        if self.shown:
            self.shown.update(trainer.global_step, lambda: _loss(trainer))

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Close."""
        self._close()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Close after an error or Ctrl-C: Lightning does not call :meth:`teardown` then."""
        self._close()

    def _close(self) -> None:
        if self.block:
            self.block.close()
        self.block = self.shown = None


def _loss(trainer: Trainer) -> float | None:
    """Return the loss that a module logs for the bar."""
    return next((value for name, value in trainer.progress_bar_metrics.items() if name.endswith("/loss")), None)


class FiniteNumbers(Callback):
    """End a stage whose loss, weights, statistics or optimiser's states are NaN or infinite.

    They are checked before each checkpoint and at the last step, so no such checkpoint is written; between these a GPU
    does not wait. Gradients may be infinite: a GradScaler skips their step.

    Args:
        stage: for the message.
        every: steps between two checkpoints.
    """

    def __init__(self, stage: str, every: int) -> None:
        self.stage, self.every = stage, every

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Check the step.

        Raises:
            UserError: with the step and the cure.
        """
        step, steps = trainer.global_step, trainer.max_steps
        if step % self.every and step < steps:
            return
        optimiser = trainer.optimizers[0]
        values: list[Mapping[str, Any]] = [dict(module.named_parameters()), dict(module.named_buffers())]
        if all_finite([*values, trainer.callback_metrics, *optimiser.state.values()]):
            return
        kind = self.stage.partition(" ")[0]
        cure = f"choose a smaller recipe.{_RECIPES.get(kind, kind)}.lr (it is {optimiser.defaults['lr']:g})"
        if trainer.precision != "32-true":
            cure += f", or trainer.precision=32-true (it is {trainer.precision})"
        raise UserError(f"{self.stage}: its loss or weights are NaN or infinite at step {step} of {steps}; {cure}")


def all_finite(values: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether no floating-point tensor among ``values`` has NaN or infinite entries; a GPU waits once."""
    tensors = [each for mapping in values for each in mapping.values() if isinstance(each, Tensor)]
    flags = [each.isfinite().all() for each in tensors if each.is_floating_point()]
    return bool(torch.stack([flag.to(flags[0].device) for flag in flags]).all()) if flags else True


class Stopwatch(Callback):
    """Measure the seconds of training, including those of earlier, stopped processes."""

    def __init__(self) -> None:
        self.before = 0.0  # of the stage, where it is resumed
        self.started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + time.perf_counter() - self.started

    @contextmanager
    def paused(self, device: torch.device) -> Iterator[float]:
        """Yield the seconds so far, once ``device`` has done its work; those of the block do not count."""
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        began = time.perf_counter()
        yield self.seconds
        self.started += time.perf_counter() - began

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the seconds for a resumed run."""
        checkpoint["seconds"] = self.seconds


class AccuracyCurve(Callback):
    """Measure the accuracy of a student several times during its training.

    It does not change the training: weights and statistics stay, and each step is seeded on its own. Its seconds are no
    seconds of the training.

    Args:
        images, targets: pictures that the student is not trained on, uint8 [N, ch, H, W], and their classes.
        report: called with the step and the accuracy, for pruning.
        count: number of measurements, evenly spaced, at most; the last one is at the last step.

    Attributes:
        timeline: the measurements: ``step``, ``seconds``, ``accuracy``, ``balanced_accuracy`` and number of
            ``pictures``.
    """

    def __init__(
        self, images: Tensor, targets: Tensor, report: Callable[[int, float], None] | None, count: int = 10
    ) -> None:
        self.images, self.targets, self.report, self.count = images, targets, report, count
        self.timeline: list[dict[str, float]] = []
        self._before = 0.0  # the training

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Find the stopwatch of the training."""
        self._stopwatch = next(each for each in trainer.callbacks if isinstance(each, Stopwatch))  # type: ignore[attr-defined]

    def start(self, module: Classifier, seconds: float) -> None:
        """Measure a network whose last layer was fitted, in ``seconds``, before its training."""
        self._before = seconds
        self.measure(module, 0, seconds)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Measure where it is time to, and log the accuracy."""
        step, steps = trainer.global_step, trainer.max_steps
        if step % math.ceil(steps / self.count) and step < steps:
            return
        assert isinstance(module, Classifier)
        with self._stopwatch.paused(module.device) as seconds:
            accuracy = self.measure(module, step, self._before + seconds)
            for logger in trainer.loggers:
                logger.log_metrics({f"student/{module.name}/accuracy": accuracy}, step=step)
            if self.report:
                self.report(step, accuracy)

    @torch.no_grad()
    def measure(self, module: Classifier, step: int, seconds: float) -> float:
        """Add the measurement of a ``step``, ``seconds`` after the start, and return the accuracy."""
        mode = module.training
        module.eval()
        predicted = torch.cat([module(images.to(module.device)).argmax(1).cpu() for images in self.images.split(500)])
        module.train(mode)
        targets = self.targets.cpu()
        accuracy = (predicted == targets).float().mean().item()
        balanced = scores(multiclass_confusion_matrix(predicted, targets, module.task.classes)).balanced_accuracy
        measured = {"accuracy": accuracy, "balanced_accuracy": balanced, "pictures": len(targets)}
        self.timeline.append({"step": step, "seconds": round(seconds, 2), **measured})
        return accuracy

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the measurements for a resumed run."""
        checkpoint["timeline"] = self.timeline

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the measurements of a stopped run; an earlier version kept none."""
        self.timeline = [*checkpoint.get("timeline", [])]


class WholeCheckpoints(TorchCheckpointIO):
    """Write checkpoints as every file of a run: whole or absent, synced to disk, with an error that names the path."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write through a temporary file."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())
