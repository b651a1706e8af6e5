"""The proxy model: a student of random images that estimates how much another image would teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infer.core.labels import Ensemble
from infer.models.weights import normalised, require_finite


@dataclass(frozen=True)
class ProxyModel:
    """A trained student and the teachers that its predictions are compared with.

    Args:
        network: trained student in eval mode that takes pixel levels, uint8 [B, ch, H, W]; ``infer.train_student``
            returns such a network.
        teachers: frozen networks in eval mode that take normalised images.
        moments: mean and std that normalise the teachers' images, of pixels in 0 to 1; float32 [ch] each.
        temperature: softmax temperature of the comparison.
        device: device of all networks.
    """

    network: nn.Module
    teachers: Sequence[nn.Module]
    moments: tuple[Tensor, Tensor]
    temperature: float
    device: torch.device

    @torch.no_grad()
    def reducible_loss(self, images: Tensor, teacher_logits: Tensor | None = None) -> Tensor:
        """Compute the reducible loss of ``images`` uint8 [B, ch, H, W]: float32 [B], on the CPU.

        Args:
            images: of pixel levels.
            teacher_logits: the teachers' logits of them, finite, float32 [M, B, C] on ``device``; None computes them.

        Raises:
            UserError: for logits that are NaN or infinite.
        """
        images = images.to(self.device)
        proxy_logits = self.network.to(self.device)(images).float()
        require_finite("the proxy model", proxy_logits)  # NaN is larger than no loss
        if teacher_logits is None:
            teacher_logits = self._teacher_logits(images)
        return reducible_loss(proxy_logits, teacher_logits, self.temperature).cpu()

    def _teacher_logits(self, images: Tensor) -> Tensor:
        """Compute the teachers' logits of ``images`` on ``device``, float32 [M, B, C]; refuse NaN and infinite ones."""
        mean, std = (moment.to(self.device) for moment in self.moments)
        teachers = Ensemble(self.teachers, "probabilities", self.temperature).to(self.device)
        found = teachers.logits(normalised(images, mean, std))
        for teacher, logits in zip(self.teachers, found, strict=True):
            require_finite(f"teacher {type(teacher).__name__}", logits)
        return found


def reducible_loss(proxy_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    r"""Compute the part of a proxy model's loss that further training can remove.

    With the softened predictions :math:`q` of the proxy model, :math:`p_m` of the M teachers and the soft label
    :math:`\bar p`,

    .. math::
        q = \mathrm{softmax}(z / T), \qquad
        p_m = \mathrm{softmax}(z_m / T), \qquad
        \bar p = \frac{1}{M} \sum_m p_m

    the reducible loss is the divergence of the proxy model from the label, less the mean divergence of the teachers:

    .. math::
        \mathrm{KL}(\bar p \,\Vert\, q) - \frac{1}{M} \sum_m \mathrm{KL}(\bar p \,\Vert\, p_m)
        = \sum_c \bar p_c \Big( \frac{1}{M} \sum_m \log p_{m,c} - \log q_c \Big)

    It is large for images that the proxy model gets wrong and the teachers agree on. It is small for images that the
    proxy model knows, and for images that are ambiguous even to the teachers.

    Args:
        proxy_logits: logits :math:`z`, float [B, C].
        teacher_logits: logits :math:`z_m`, float [M, B, C].
        temperature: :math:`T`, above 0.

    Returns:
        The loss of each image in nats, [B].

    Reference:
        Mindermann et al. 2022, "Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet
        Learnt". There the labels are classes and a model trained on held-out data gives the irreducible loss; here
        the labels are soft and the teachers give it.

    Example:
        >>> teachers = torch.tensor([[[3.0, 0.0]], [[3.0, 0.0]]])
        >>> reducible_loss(teachers[0], teachers, temperature=1.0).tolist()
        [0.0]
        >>> bool(reducible_loss(torch.tensor([[0.0, 3.0]]), teachers, temperature=1.0) > 1)
        True
    """
    log_p = (teacher_logits / temperature).log_softmax(dim=-1)
    label = log_p.exp().mean(dim=0)
    log_q = (proxy_logits / temperature).log_softmax(dim=-1)
    return (label * (log_p.mean(dim=0) - log_q)).sum(dim=-1)
