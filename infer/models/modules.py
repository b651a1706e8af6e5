"""The Lightning side: thin modules that call the pure functions and log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from infer.core import ufc
from infer.core.augment import DRAWS, augment, random_box, resized
from infer.core.labels import Ensemble, distillation_loss, distribution
from infer.core.mixing import mix, mix_labels
from infer.data.batches import fits

log = logging.getLogger("infer")


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
            optimiser = torch.optim.AdamW(
                module.parameters(), self.lr, weight_decay=self.weight_decay, fused=_has_fused(module)
            )
        schedule: torch.optim.lr_scheduler.LRScheduler
        if self.schedule == "one_cycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.lr, total_steps=max(self.steps, 5))
        else:
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _has_fused(module: nn.Module) -> bool:
    """Whether the fused optimiser, a tenth of a small student's step faster, serves the device."""
    return next(module.parameters()).device.type in ("cpu", "cuda")


class Classifier(LightningModule):
    """A network, its normalisation and augmentation, and what it confuses; teachers and students differ in the loss.

    Batches are (images uint8 [B, ch, H, W], targets); where a ``resident`` training set is given, they are indices of
    it, and it lies on the device. ``moments`` are mean and std [ch] of pixels in 0 to 1. Where the ``shares`` float32
    [C] that classes have of the training set are given, the loss is adjusted by their logarithms (Menon et al. 2021),
    so that rare classes count as much as common ones.
    """

    mean: Tensor
    std: Tensor
    log_shares: Tensor

    def __init__(
        self,
        name: str,
        network: nn.Module,
        moments: tuple[Tensor, Tensor],
        classes: int,
        optimiser: Optimiser,
        crop: int,
        flip: bool,
        resized_crop: float | None,
        shares: Tensor | None = None,
        resident: Any = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.resident = resident
        self.register_buffer("mean", moments[0], persistent=False)
        self.register_buffer("std", moments[1], persistent=False)
        self.register_buffer("log_shares", torch.zeros(classes) if shares is None else shares.log(), persistent=False)
        self.optimiser = optimiser
        self.crop, self.flip, self.resized_crop = crop, flip, resized_crop
        self.confusion = MulticlassConfusionMatrix(classes, sync_on_compute=False)  # each process sees all

    def on_fit_start(self) -> None:
        """The resident set is no module, so Lightning does not move it; one too large for the device stays behind."""
        if self.resident is not None and fits(self.resident.nbytes, self.device):
            self.resident = self.resident.to(self.device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Indices of the resident set to its pictures."""
        if self.resident is None or not self.trainer.training:
            return batch
        images, labels = self.resident[batch.to(self.resident.device)]
        return images.to(self.device), labels.to(self.device)

    def augment(self, images: Tensor) -> Tensor:
        """A training batch as the recipe wants it seen."""
        draws = torch.rand(len(images), DRAWS)
        return augment(images, draws, self.crop, self.flip, self.resized_crop)

    def inputs(self, images: Tensor) -> Tensor:
        """Pixel levels to the network's input."""
        images = ufc.normalise(images, self.mean, self.std)
        return images.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits float32 [B, C] of ``images`` in pixel levels."""
        return self.network(self.inputs(images)).float()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count what the test pictures are taken for."""
        images, targets = batch
        self.confusion.update(self(images), targets)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser."""
        return self.optimiser.configure(self)


class TeacherModule(Classifier):
    """Pretraining on the real pictures: cross-entropy with the classes."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of (images, class numbers)."""
        images, targets = batch
        loss = F.cross_entropy(self(self.augment(images)) + self.log_shares, targets)
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
        """The ensemble is no module either."""
        super().on_fit_start()
        if self.ensemble:
            self.ensemble.to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of (images, labels)."""
        images, labels = batch
        images = self.inputs(self.augment(images))
        images, partner, weight = mix(images, self.mixing, self.alpha)
        labels = self.ensemble(images) if self.ensemble else mix_labels(labels, partner, weight)
        target = distribution(labels, self.space, self.temperature)
        loss = distillation_loss(self.network(images) + self.log_shares, target, self.temperature)
        self.log(f"student/{self.name}/loss", loss, prog_bar=True)
        return loss


@dataclass(frozen=True)
class UFCOptions:
    """How compensators are optimised (recipe.ufc): Adam's ``steps`` and ``lr``, the weights of the objective, and what
    is done to the images of every step, all of them alike: a roll by 0 to ``jitter`` pixels, and, where
    ``resized_crop`` is given, a random resized crop of at least this share of the area, and a flip.
    """

    steps: int
    lr: float
    bn_weight: float
    first_weight: float
    jitter: int
    resized_crop: float | None = None


@dataclass(frozen=True)
class Passes:
    """How a step is cut: ``rounds`` a pass; of each round ``classes`` images a pass. The result is the same.

    Fewer than all classes of a round take two forward passes and not one; the objective stays exact.
    """

    rounds: int
    classes: int


class CompensatorModule(LightningModule):
    """The compensators of K rounds against one teacher; the method itself is ``infer/ufc.py``.

    ``naturals`` uint8 [K, C, ch, H, W], ``targets`` int64 [K, C]; the result is ``u`` float32 [K, ch, H, W].
    Under several processes each optimises its own rounds and leaves the others at zero, so nothing is exchanged until
    the sum over processes is the whole. ``compile`` is a mode of torch.compile, or None.
    """

    naturals: Tensor
    targets: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        teacher: nn.Module,
        naturals: Tensor,
        targets: Tensor,
        moments: tuple[Tensor, Tensor],
        options: UFCOptions,
        passes: Passes | None = None,
        compile: str | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step is several passes, each of which frees its graph
        self.name = name
        # A tuple, so that the teacher enters no checkpoint and no train mode.
        self.frozen = (ufc.Objective(teacher, options.bn_weight, options.first_weight),)
        self.register_buffer("naturals", naturals, persistent=False)
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("mean", moments[0], persistent=False)
        self.register_buffer("std", moments[1], persistent=False)
        self.u = nn.Parameter(torch.zeros(len(naturals), *naturals.shape[2:]))
        self.options = options
        self.passes = passes or Passes(*targets.shape)
        self.compile_mode = compile
        self.compiled: Callable[..., ufc.Terms] | None = None

    def on_fit_start(self) -> None:
        """The teacher is outside the module tree, so Lightning does not move it."""
        self.frozen[0].to(self.device)
        if self.compile_mode:
            self.compiled = torch.compile(self.frozen[0].__call__, mode=self.compile_mode)

    def objective(self, *args: Any) -> ufc.Terms:
        """The objective, compiled where that is wished for and works."""
        if self.compiled:
            try:
                torch.compiler.cudagraph_mark_step_begin()
                return self.compiled(*args)
            except Exception as error:  # a compiler raises what it likes: no g++, an unknown operator, a driver
                reason = (str(error).splitlines() or [""])[0]
                mode, kind = self.compile_mode, type(error).__name__
                log.warning("distill.compile=%s fails (%s: %s); going on without it", mode, kind, reason)
                self.compiled = None
        return self.frozen[0](*args)

    def on_train_start(self) -> None:
        """After a resume every process holds all rounds: keep the own ones."""
        own = slice(self.global_rank, None, self.trainer.world_size)
        for state in (self.u.data, *self._moments()):
            kept = state[own].clone()
            state.zero_()
            state[own] = kept

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """One step of every own round."""
        optimiser: Any = self.optimizers()
        self.u.grad = torch.zeros_like(self.u)
        draw = self.draw()
        ranks, own = self.trainer.world_size, range(self.global_rank, len(self.u), self.trainer.world_size)
        terms = []
        for first in range(0, len(own), self.passes.rounds):
            some = own[first : first + self.passes.rounds]
            terms.append(self.descend(slice(some.start, some.stop, ranks), draw, self.manual_backward))
        optimiser.step()
        schedule: Any = self.lr_schedulers()
        schedule.step()
        if terms:
            means = [torch.cat(rounds).mean() for rounds in zip(*terms, strict=True)]
            keys = (f"distill/{self.name}/{field}" for field in ufc.Terms._fields)
            self.log_dict(dict(zip(keys, means, strict=True)), prog_bar=True)

    def draw(self) -> Callable[[Tensor], Tensor]:
        """What one step does to the images of all rounds, [..., ch, H, W] in and out."""
        options, side = self.options, self.u.shape[-1]
        down, right = torch.randint(options.jitter + 1, (2,)).tolist()
        box = random_box(side, options.resized_crop) if options.resized_crop else None
        flip = options.resized_crop is not None and bool(torch.rand(()) < 0.5)

        def apply(images: Tensor) -> Tensor:
            if box:
                images = resized(images, box, side)
            if flip:
                images = images.flip(-1)
            return images.roll((down, right), dims=(-2, -1))

        return apply

    def descend(
        self, rounds: slice, draw: Callable[[Tensor], Tensor], backward: Callable[[Tensor], None]
    ) -> tuple[Tensor, ...]:
        """Add the gradient of those rounds to ``u.grad``; returns their :class:`ufc.Terms`, float32 [rounds] each."""
        classes = self.targets.shape[1]
        parts = [slice(i, i + self.passes.classes) for i in range(0, classes, self.passes.classes)]
        if len(parts) == 1:
            terms = self.objective(draw(self._composed(rounds, parts[0])), self.targets[rounds])
            backward(terms.loss.sum())
            return tuple(term.detach().clone() for term in terms)
        shares: list[float] = [len(range(classes)[part]) / classes for part in parts]
        with torch.no_grad():
            known = ufc.pooled(
                (share, self.frozen[0].moments(draw(self._composed(rounds, part))))
                for share, part in zip(shares, parts, strict=True)
            )
        entropy = torch.zeros(())
        for share, part in zip(shares, parts, strict=True):
            images = draw(self._composed(rounds, part))
            terms = self.objective(images, self.targets[rounds, part], share, known)
            backward(terms.loss.sum())
            entropy = entropy.to(images.device) + terms.cross_entropy.detach()
        bn = terms.bn.detach().clone()
        return entropy + self.options.bn_weight * bn, entropy, bn

    def _composed(self, rounds: slice, classes: slice) -> Tensor:
        """Composed images of those rounds and classes, float [rounds, classes, ch, H, W], normalised."""
        naturals = self.naturals[rounds, classes].float()
        levels = ufc.compose(naturals, ufc.stored(self.u[rounds], self.std).unsqueeze(1))
        return ufc.normalise(levels, self.mean, self.std)

    def configure_optimizers(self) -> Any:
        """Adam(0.5, 0.9), cosine to zero; elementwise, so the rounds stay apart."""
        optimiser = torch.optim.Adam([self.u], self.options.lr, betas=(0.5, 0.9))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.options.steps)
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
