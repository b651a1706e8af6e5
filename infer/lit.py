"""The Lightning side: thin modules that call the pure functions and log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from infer import ufc
from infer.data.batches import augment
from infer.labels import Ensemble, distillation_loss, distribution
from infer.mixing import mix, mix_labels


@dataclass(frozen=True)
class Optimiser:
    """How weights are trained.

    ``name`` is sgd, nesterov (both with momentum 0.9) or adamw; ``schedule`` is cosine or one_cycle.
    """

    name: str
    lr: float
    weight_decay: float
    schedule: str
    steps: int

    def configure(self, module: nn.Module) -> dict[str, Any]:
        """Optimiser and schedule in the form Lightning wants them."""
        optimiser: torch.optim.Optimizer
        if self.name in ("sgd", "nesterov"):
            nesterov = self.name == "nesterov"
            optimiser = torch.optim.SGD(
                module.parameters(), self.lr, momentum=0.9, nesterov=nesterov, weight_decay=self.weight_decay
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

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy of the whole test split."""
        images, targets = batch
        self.accuracy(self(images), targets)
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser."""
        return self.optimiser.configure(self)


class TeacherModule(Classifier):
    """Pretraining on the real pictures: cross-entropy with the classes."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of (images, class numbers)."""
        images, targets = batch
        loss = F.cross_entropy(self(augment(images, self.crop, self.flip)), targets)
        self.log(f"teacher/{self.name}/loss", loss, prog_bar=True)
        return loss


class StudentModule(Classifier):
    """Training on a distilled set or a rival: mixed images against labels mixed alike.

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

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
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

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor | None:
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

    def on_train_end(self) -> None:
        """Every process ends with all rounds."""
        if self.trainer.world_size > 1:
            self.u.data = self._whole(self.u.data)

    def _whole(self, part: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(part.clone(), reduce_op="sum")

    def _moments(self) -> list[Tensor]:
        state = self.trainer.optimizers[0].state.get(self.u, {})
        return [state[key] for key in ("exp_avg", "exp_avg_sq") if key in state]
