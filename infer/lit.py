"""The Lightning side: thin modules around the pure functions, and one way to fit and to test them."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from infer import ufc
from infer.data.batches import augment
from infer.labels import Ensemble, distillation_loss, distribution
from infer.mixing import mix, mix_labels


@dataclass(frozen=True)
class Optimiser:
    """How weights are trained: ``name`` sgd (Nesterov, momentum 0.9) or adamw, ``schedule`` cosine or one_cycle."""

    name: str
    lr: float
    weight_decay: float
    schedule: str
    steps: int

    def configure(self, module: nn.Module) -> dict[str, Any]:
        """Optimiser and schedule in the form Lightning wants them."""
        optimiser: torch.optim.Optimizer
        if self.name == "sgd":
            optimiser = torch.optim.SGD(
                module.parameters(), self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay
            )
        else:
            optimiser = torch.optim.AdamW(module.parameters(), self.lr, weight_decay=self.weight_decay)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if self.schedule == "one_cycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=max(self.steps, 5))
        else:
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Classifier(LightningModule):
    """A network, its normalisation and augmentation, and its accuracy; teachers and students differ in the loss.

    Batches are (images uint8 [B, ch, H, W], targets); ``moments`` are mean and std [ch] of pixels in 0 to 1.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        moments: tuple[Tensor, Tensor],
        classes: int,
        optimiser: Optimiser,
        crop: int,
        flip: bool,
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.register_buffer("mean", moments[0], persistent=False)
        self.register_buffer("std", moments[1], persistent=False)
        self.optimiser = optimiser
        self.crop, self.flip = crop, flip
        self.accuracy = MulticlassAccuracy(classes, average="micro")

    def inputs(self, images: Tensor) -> Tensor:
        """Pixel levels to the network's input."""
        images = ufc.normalise(images, self.mean, self.std)  # type: ignore[arg-type]
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [B, C] of ``images`` in pixel levels."""
        return self.network(self.inputs(images)).float()

    def test_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Accuracy of the whole test split."""
        images, targets = batch
        self.accuracy(self(images), targets)
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser."""
        return self.optimiser.configure(self)


class TeacherModule(Classifier):
    """Pretraining on the real pictures: cross-entropy with the classes."""

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of one batch of (images, class numbers)."""
        images, targets = batch
        loss = F.cross_entropy(self(augment(images, self.crop, self.flip)), targets)
        self.log(f"teacher/{self.name}/loss", loss, prog_bar=True)
        return loss


class StudentModule(Classifier):
    """Training on a distilled set or a rival: mixed images against labels mixed alike (METHOD section 3).

    ``space`` and ``temperature`` say what the labels [B, C] of a batch are; an ``ensemble`` labels each augmented,
    mixed batch in their place (dynamic labels).
    """

    def __init__(
        self,
        *args: Any,
        mixing: str,
        alpha: float,
        space: str,
        temperature: float,
        ensemble: Ensemble | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.mixing, self.alpha = mixing, alpha
        self.space, self.temperature = space, temperature
        self.ensemble = ensemble

    def on_fit_start(self) -> None:
        """The ensemble is no module, so Lightning does not move it."""
        if self.ensemble:
            self.ensemble.to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of one batch of (images, labels)."""
        images, labels = batch
        images = self.inputs(augment(images, self.crop, self.flip))
        images, partner, weight = mix(images, self.mixing, self.alpha)
        labels = self.ensemble(images) if self.ensemble else mix_labels(labels, partner, weight)
        target = distribution(labels, self.space, self.temperature)
        loss = distillation_loss(self.network(images), target, self.temperature)
        self.log(f"student/{self.name}/loss", loss, prog_bar=True)
        return loss


class CompensatorModule(LightningModule):
    """The compensators of K rounds against one teacher, all in one batch; the method itself is ``infer/ufc.py``.

    ``naturals`` uint8 [K, C, ch, H, W], ``targets`` int64 [K, C]; the result is ``u`` float32 [K, ch, H, W].
    Under several processes each optimises its own rounds and leaves the others at zero, so nothing is exchanged until
    the sum over processes is the whole.
    """

    def __init__(
        self,
        name: str,
        teacher: nn.Module,
        naturals: Tensor,
        targets: Tensor,
        moments: tuple[Tensor, Tensor],
        steps: int,
        lr: float,
        bn_weight: float,
        first_weight: float,
        jitter: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.frozen = (teacher,)  # a tuple, so that the teacher enters no checkpoint and no train mode
        self.layers = ufc.batch_norms(teacher)
        self.register_buffer("naturals", naturals, persistent=False)
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("mean", moments[0], persistent=False)
        self.register_buffer("std", moments[1], persistent=False)
        self.u = nn.Parameter(torch.zeros(len(naturals), *naturals.shape[2:]))
        self.steps, self.lr = steps, lr
        self.bn_weight, self.first_weight, self.jitter = bn_weight, first_weight, jitter

    @property
    def own(self) -> slice:
        """The rounds of this process."""
        return slice(self.global_rank, None, self.trainer.world_size)

    def on_fit_start(self) -> None:
        """The teacher is outside the module tree, so Lightning does not move it."""
        self.frozen[0].to(self.device)

    def on_train_start(self) -> None:
        """After a resume every process holds all rounds: keep the own ones."""
        for state in (self.u.data, *self._moments()):
            kept = state[self.own].clone()
            state.zero_()
            state[self.own] = kept

    def training_step(self, _: Tensor, __: int) -> Tensor | None:
        """One step of every own round: jitter, objective, and the sum whose gradient each round gets its own of."""
        own = self.own
        u = self.u[own]
        if not len(u):
            return 0.0 * self.u.sum()
        composed = ufc.compose(self.naturals[own].float(), ufc.stored(u, self.std).unsqueeze(1))  # type: ignore
        down, right = torch.randint(self.jitter + 1, (2,)).tolist()
        images = ufc.normalise(composed, self.mean, self.std).roll((down, right), dims=(-2, -1))  # type: ignore
        terms = ufc.objective(
            self.frozen[0],
            self.layers,
            images,
            self.targets[own],  # type: ignore[index]
            self.bn_weight,
            self.first_weight,
        )
        self.log_dict(
            {f"distill/{self.name}/{key}": value.detach().mean() for key, value in terms._asdict().items()},
            prog_bar=True,
        )
        return terms.loss.sum()

    def configure_optimizers(self) -> Any:
        """Adam(0.5, 0.9), cosine to zero; elementwise, so the rounds stay apart."""
        optimiser = torch.optim.Adam([self.u], self.lr, betas=(0.5, 0.9))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint holds all rounds, whatever the number of processes: the sum of what each one has."""
        if self.trainer.world_size > 1:
            checkpoint["state_dict"]["u"] = self._whole(self.u.data)
            states = checkpoint["optimizer_states"][0]["state"]
            for number, state in states.items():  # the inner dicts are Adam's own: copy, do not write
                states[number] = {**state, **{key: self._whole(state[key]) for key in ("exp_avg", "exp_avg_sq")}}

    def on_fit_end(self) -> None:
        """Every process ends with all rounds."""
        self.u.data = self._whole(self.u.data)

    def _whole(self, part: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(part.clone(), reduce_op="sum")

    def _moments(self) -> list[Tensor]:
        state = self.trainer.optimizers[0].state.get(self.u, {})
        return [state[key] for key in ("exp_avg", "exp_avg_sq") if key in state]


class SeededSteps(Callback):
    """Seeds torch at every step from the seed and the step: a resumed run draws what the unbroken one would have."""

    def __init__(self, seed: int, same_on_all: bool) -> None:
        self.seed = seed
        self.same_on_all = same_on_all

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Before the step's first draw; processes draw apart unless ``same_on_all``."""
        rank = 0 if self.same_on_all else trainer.global_rank
        torch.manual_seed((self.seed * 1_000_003 + trainer.global_step) * 4099 + rank)


class IndependentRounds(DDPStrategy):
    """DDP's processes without its gradient exchange: compensators are independent problems."""

    def configure_ddp(self) -> None:
        """Leave the module as it is."""


@dataclass(frozen=True)
class Hardware:
    """Lightning's accelerator, devices, strategy and precision."""

    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"


def metrics_logger(folder: Path) -> CSVLogger:
    """``folder``/metrics.csv, going on where an earlier stage or a stopped run left it; Lightning's starts anew."""
    path = folder / "metrics.csv"
    before = path.read_text() if path.exists() else ""
    logger = CSVLogger(str(folder), name="", version="")
    experiment = logger.experiment
    if before:
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


def fit(
    module: LightningModule,
    batches: DataLoader[Any],
    steps: int,
    seed: int,
    folder: Path,
    name: str,
    hardware: Hardware,
    loggers: Sequence[Logger],
) -> float:
    """Train ``module`` for ``steps`` steps of ``batches``, from ``folder``/``name``.ckpt where a run stopped.

    A checkpoint is written after every epoch; the caller keeps the result and then calls :func:`forget`. Returns the
    seconds it took.
    """
    checkpoint = folder / f"{name}.ckpt"
    resumed = torch.load(checkpoint, weights_only=True, mmap=True) if checkpoint.exists() else {}
    stopwatch = Stopwatch(resumed.get("seconds", 0.0))
    independent = isinstance(module, CompensatorModule)
    strategy: str | Strategy = hardware.strategy
    if independent and hardware.strategy.startswith("ddp"):
        strategy = IndependentRounds(start_method="spawn" if "spawn" in hardware.strategy else "popen")
    callbacks: list[Callback] = [
        stopwatch,
        SeededSteps(seed, same_on_all=independent),
        ModelCheckpoint(folder, name, enable_version_counter=False, every_n_epochs=1),
    ]
    if sys.stdout.isatty():
        callbacks.append(RichProgressBar(refresh_rate=10))
    with _quiet():
        trainer = Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            strategy=strategy,
            precision=hardware.precision,  # type: ignore[arg-type]
            max_epochs=-1,
            max_steps=steps,
            logger=[metrics_logger(folder), *loggers],
            callbacks=callbacks,
            enable_progress_bar=sys.stdout.isatty(),
            enable_model_summary=False,
            use_distributed_sampler=False,
            log_every_n_steps=50,
        )
        module.train()
        trainer.fit(module, batches, ckpt_path=checkpoint if resumed else None, weights_only=True)
    return stopwatch.seconds


def forget(folder: Path, name: str) -> None:
    """Remove the checkpoint of a stage whose result is kept."""
    (folder / f"{name}.ckpt").unlink(missing_ok=True)


def test_accuracy(module: Classifier, batches: DataLoader[Any], hardware: Hardware) -> float:
    """Share of the test pictures that ``module`` gets right, in 0 to 1; on one device, whatever it trained on."""
    with _quiet():
        trainer = Trainer(
            accelerator=hardware.accelerator,
            devices=1,
            precision=hardware.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        return float(trainer.test(module, batches, verbose=False)[0]["accuracy"])


class _quiet(warnings.catch_warnings):  # noqa: N801
    """Lightning without its advice; what remains is worth reading."""

    def __enter__(self) -> None:  # type: ignore[override]
        super().__enter__()
        for name in ("pytorch_lightning", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for advice in (
            ".*does not have many workers.*",  # batches are resident: workers would only copy them
            ".*exists and is not empty.*",  # the folder is the run's own
            ".*isinstance.treespec, LeafSpec.*",
            ".*You defined a `training_step` but.*",
            ".*number of training batches.*",
            ".*Starting from v1.9.0.*",
        ):
            warnings.filterwarnings("ignore", message=advice)

