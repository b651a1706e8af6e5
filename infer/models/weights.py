"""Trained networks: frozen, their features, their files, and with their normalisation inside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from infer.core import ufc
from infer.core.errors import UserError
from infer.core.files import read_tensors, write_bytes


class PixelClassifier(nn.Module):
    """A network that takes pixel levels: uint8 images [B, ch, H, W] in, logits float32 [B, C] out.

    Args:
        network: takes normalised images.
        mean, std: its normalisation, float32 [ch] of pixels in 0 to 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of ``images`` in pixel levels, 0 to 255."""
        return self.network(normalised(images, self.mean, self.std)).float()


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise pixel levels [B, ch, H, W] and lay them out as convolutions are fastest: channels last."""
    return ufc.normalise(images, mean, std).contiguous(memory_format=torch.channels_last)


def frozen(model: nn.Module) -> nn.Module:
    """Put ``model`` in eval mode and stop the gradients of its weights; return it."""
    return model.requires_grad_(False).eval()


@torch.no_grad()
def features(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return the inputs of ``network``'s last linear layer for batches of its inputs: float32 [N, D], on the CPU."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{type(network).__name__}: has no linear layer, whose input are its features; choose another")
    found: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda _, args: found.append(args[0].float().cpu()))
    try:
        for batch in batches:
            network(batch)
    finally:
        handle.remove()
    return torch.cat(found)


def save_weights(network: nn.Module, file: Path) -> None:
    """Write the weights and statistics of ``network``, whole or not at all."""
    weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    write_bytes(file, to_safetensors(weights))


def load_weights(network: nn.Module, file: Path) -> None:
    """Load the weights of ``network`` from a file of :func:`save_weights`."""
    try:
        network.load_state_dict(read_tensors(file))
    except (RuntimeError, ValueError) as error:
        cure = "restore it, or remove its folder so that it is trained again"
        raise UserError(f"{file}: cannot be read as this network's weights; {cure}") from error
