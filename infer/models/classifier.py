"""The Lightning module that teachers and students share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from infer.core.augment import DRAWS, augment
from infer.core.devices import moved
from infer.core.options import AugmentOptions
from infer.models.compiled import Compiled
from infer.models.optimiser import configured
from infer.models.options import OptimiserOptions
from infer.models.recorded import RecordableModule
from infer.models.weights import PixelClassifier, normalised, require_finite


@dataclass(frozen=True)
class Task:
    """What a classifier learns from and how.

    Args:
        classes: number of classes C.
        moments: mean and std float32 [ch] of pixels in 0 to 1.
        augmentation: of a training batch.
        optimiser: of the weights.
        steps: of the training.
        shares: share of each class among the training pictures, float32 [C]; where given, logits are adjusted by its
            logarithm (Menon et al. 2021), so that rare classes count as much as common ones.
    """

    classes: int
    moments: tuple[Tensor, Tensor]
    augmentation: AugmentOptions
    optimiser: OptimiserOptions
    steps: int
    shares: Tensor | None = None


class Classifier(RecordableModule):
    """A network with its normalisation and augmentation; teachers and students differ in the loss.

    A batch is (images uint8 [B, ch, H, W], targets). Where ``compile_mode`` is a mode of torch.compile, training steps
    run the compiled network; where it is ``graph``, steps on a GPU are recorded. Where a ``resident`` training set is
    given, a batch is indices of it, and the set lies on the device.
    """

    mean: Tensor
    std: Tensor
    log_shares: Tensor
    role: str
    """First word of the names of metrics."""
    temperature: float = 1.0
    """Of the softmax of the logits in the loss."""

    def __init__(self, name: str, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.task = task
        self.resident: Any = None
        self.compiled: Compiled[[Tensor], Tensor] | None = None
        shares = torch.zeros(task.classes) if task.shares is None else task.shares.log()
        self.register_buffer("mean", task.moments[0], persistent=False)
        self.register_buffer("std", task.moments[1], persistent=False)
        self.register_buffer("log_shares", shares, persistent=False)
        self.confusion = MulticlassConfusionMatrix(task.classes, sync_on_compute=False)  # each process sees all

    def on_fit_start(self) -> None:
        """Move the resident set, which Lightning does not know, to the device if it fits there."""
        if self.resident is not None and _fits(self.resident.nbytes, self.device):
            self.resident = self.resident.to(self.device)
        if self.compile_mode and self.compile_mode != "graph":
            self.compiled = Compiled(self.network, self.compile_mode, "trainer.compile")

    def on_fit_end(self) -> None:
        """Drop the compiled network and the recorded step, which no other process can load."""
        self.compiled = self.recorded = None

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave indices of the resident set where they are: the set may lie elsewhere."""
        return batch if self._takes_indices else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Turn indices of the resident set into its images and labels."""
        if not self._takes_indices:
            return batch
        images, labels = self.resident[moved(batch, self.resident.device)]
        return moved(images, self.device), moved(labels, self.device)

    @property
    def _takes_indices(self) -> bool:
        return self.resident is not None and bool(self.trainer.training)

    def augment(self, images: Tensor) -> Tensor:
        """Augment a training batch."""
        chosen = self.task.augmentation
        return augment(images, torch.rand(len(images), DRAWS), chosen.crop, chosen.flip, chosen.resized_crop)

    def inputs(self, images: Tensor) -> Tensor:
        """Turn pixel levels into the network's input."""
        return normalised(images, self.mean, self.std)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits float32 [B, C] of normalised images, in training by the compiled network where there is one."""
        network = self.compiled if self.compiled and self.training else self.network
        return network(inputs).float()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 [B, C] of ``images`` in pixel levels."""
        return self.logits(self.inputs(images))

    def target(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the probabilities [B, C] that the network is to give normalised images with these ``labels``."""
        raise NotImplementedError

    def prepared(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Turn a training batch into the arguments of :meth:`loss`; all that is drawn on the CPU is drawn here."""
        raise NotImplementedError

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of one batch of (images, targets)."""
        loss = self.passes(*self.prepared(*batch))
        self.log(f"{self.role}/{self.name}/loss", loss, prog_bar=True)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the confusion matrix.

        Raises:
            UserError: for logits that are not finite, whose largest is no decision.
        """
        images, targets = batch
        logits = self(images)
        require_finite(self.name, logits)
        self.confusion.update(logits, targets)

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule."""
        return configured(self.task.optimiser, self, self.task.steps)

    @property
    def trained(self) -> PixelClassifier:
        """The network in eval mode with its normalisation inside, on the CPU."""
        return PixelClassifier(self.network, self.mean, self.std).cpu().eval()


def _fits(size: int, device: torch.device) -> bool:
    """Return whether ``size`` bytes take at most half of the free memory of ``device``."""
    return device.type != "cuda" or size < torch.cuda.mem_get_info(device)[0] / 2
