"""A convolutional network that trains in few epochs, by a first layer that is computed and not trained.

The first layer projects patches of 2 x 2 pixels on their principal components and scales each to unit variance
(whitening), with both signs. Further down are blocks of two convolutions. Networks of this kind hold the speed
records of CIFAR-10 (Page 2019, "How to Train Your ResNet"; Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single
GPU").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_PATCH = 2
_LEAST_VARIANCE = 5e-4
"""Added to the variance of a component, so that noise is not scaled up to the size of edges."""
_SCALE = 1 / 9
"""Of the logits: the features of a max-pool are large at first."""


class WhitenedConvNet(nn.Module):
    """Whitened patches, blocks of two convolutions, a global max-pool and a linear layer.

    Args:
        classes: number of logits.
        channels, side: of the images; pooling stops at one pixel, so any side of 2 or more fits.
        widths: channels of the blocks.

    Shape:
        [B, channels, H, W] to [B, classes].
    """

    def __init__(self, classes: int, channels: int, side: int, widths: Sequence[int]) -> None:
        super().__init__()
        patch = channels * _PATCH**2
        self.whitening = nn.Conv2d(channels, 2 * patch, _PATCH)
        self.whitening.weight.requires_grad = False
        inputs, side, blocks = 2 * patch, side - _PATCH + 1, []
        for width in widths:
            blocks.append(_block(inputs, width, pooled=side >= 2))
            inputs, side = width, max(1, side // 2)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of normalised images."""
        features = self.blocks(nn.functional.gelu(self.whitening(images)))
        return self.head(features.amax(dim=(2, 3))) * _SCALE

    @torch.no_grad()
    def whiten(self, images: Tensor) -> None:
        """Compute the first layer from normalised images, float [N, ch, H, W], before the training."""
        patches = nn.functional.unfold(images, _PATCH).transpose(1, 2).flatten(0, 1).double()
        variances, components = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (components / (variances + _LEAST_VARIANCE).sqrt()).T.view(-1, images.shape[1], _PATCH, _PATCH)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))


def _block(inputs: int, width: int, pooled: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1, bias=False),
        nn.MaxPool2d(2) if pooled else nn.Identity(),
        nn.BatchNorm2d(width),
        nn.GELU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
    )
