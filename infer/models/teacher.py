"""Teacher pretraining on the real pictures."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from infer.models.classifier import Classifier, Task


class TeacherModule(Classifier):
    """A classifier trained with the cross-entropy of the true classes.

    Args:
        name: in logs.
        network: of normalised images.
        task: what it learns from and how.
        label_smoothing: share of the target that is spread over all classes.
    """

    role = "teacher"

    def __init__(self, name: str, network: nn.Module, task: Task, label_smoothing: float = 0.0) -> None:
        super().__init__(name, network, task)
        self.label_smoothing = label_smoothing

    def target(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the true classes."""
        return F.one_hot(labels, self.task.classes).float()

    def prepared(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Augment and normalise a batch of images and class numbers."""
        return self.inputs(self.augment(images)), targets

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the cross-entropy."""
        return F.cross_entropy(self.logits(inputs) + self.log_shares, targets, label_smoothing=self.label_smoothing)
