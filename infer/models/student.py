"""Student training on soft labels."""

from __future__ import annotations

from torch import Tensor, nn

from infer.core.labels import Ensemble, distillation_loss, distribution
from infer.core.mixing import mix, mix_labels
from infer.core.options import MixingOptions
from infer.models.classifier import Classifier, Task


class StudentModule(Classifier):
    """A classifier trained on mixed images against labels that are mixed alike.

    Args:
        name: in logs.
        network: of normalised images.
        task: what it learns from and how.
        mixing: of a batch.
        space, temperature: of the labels [B, C] of a batch, as in :func:`infer.core.labels.distribution`.
        ensemble: labels each augmented, mixed batch in place of the batch's labels (dynamic labels).
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        task: Task,
        mixing: MixingOptions,
        space: str,
        temperature: float,
        ensemble: Ensemble | None = None,
    ) -> None:
        super().__init__(name, network, task)
        self.mixing = mixing
        self.space, self.temperature = space, temperature
        self.ensemble = ensemble

    def on_fit_start(self) -> None:
        """Move the ensemble, which is no module, to the device."""
        super().on_fit_start()
        if self.ensemble:
            self.ensemble.to(self.device)

    def target(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the probabilities of the labels, or those of the ensemble where there is one."""
        return distribution(self.ensemble(inputs) if self.ensemble else labels, self.space, self.temperature)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of one batch of (images, labels)."""
        images, labels = batch
        images = self.inputs(self.augment(images))
        images, partner, weight = mix(images, self.mixing.kind, self.mixing.alpha)
        target = self.target(images, mix_labels(labels, partner, weight))
        loss = distillation_loss(self.logits(images) + self.log_shares, target, self.temperature)
        self.log(f"student/{self.name}/loss", loss, prog_bar=True)
        return loss
