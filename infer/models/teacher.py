"""Teacher pretraining on the real pictures."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from infer.models.classifier import Classifier


class TeacherModule(Classifier):
    """A classifier trained with the cross-entropy of the true classes."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of one batch of (images, class numbers)."""
        images, targets = batch
        loss = F.cross_entropy(self(self.augment(images)) + self.log_shares, targets)
        self.log(f"teacher/{self.name}/loss", loss, prog_bar=True)
        return loss
