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

    role = "student"

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

    def prepared(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Augment, mix and label a batch of images and labels [B, C]."""
        images = self.inputs(self.augment(images))
        images, partner, weight = mix(images, self.mixing.kind, self.mixing.alpha)
        return images, self.target(images, mix_labels(targets, partner, weight))

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the distillation loss."""
        return distillation_loss(self.logits(inputs) + self.log_shares, targets, self.temperature)
