"""Trained networks: frozen, their features, their files, and with their normalisation inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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

    Attributes:
        classes: the names of the C classes, where they are known.
        image_size: height and width of the images that it was trained on, where they are known.
    """

    mean: Tensor
    std: Tensor
    classes: Sequence[str] | None = None
    image_size: int | None = None

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


def require_finite(name: str, outputs: Tensor, what: str = "logits") -> None:
    """Raise :class:`UserError` where ``outputs`` of the network ``name``, logits or features, are NaN or infinite."""
    if not outputs.isfinite().all():
        raise UserError(
            f"{name}: its {what} are NaN or infinite; its training has diverged, or its BatchNorm statistics have seen "
            "too few steps: choose a smaller lr, or train it longer"
        )


@torch.no_grad()
def features(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Return what ``network``'s head classifies for batches of its inputs: float32 [N, D], on the CPU.

    A network of timm says it itself (``forward_head(forward_features(batch), pre_logits=True)``). Of any other, it is
    the input of the last linear layer, which must return the logits.

    Raises:
        UserError: where neither is there, or the features are NaN or infinite.
    """
    if hasattr(network, "get_classifier") and hasattr(network, "forward_head"):
        timms: Any = network
        found = (timms.forward_head(timms.forward_features(batch), pre_logits=True) for batch in batches)
    else:
        found = (_head_input(network, batch) for batch in batches)
    outputs = torch.cat([some.flatten(1).float().cpu() for some in found])
    require_finite(type(network).__name__, outputs, "features")
    return outputs


def _head_input(network: nn.Module, batch: Tensor) -> Tensor:
    """Return the input of the last linear layer of ``network``."""
    seen: list[tuple[Tensor, torch.Size]] = []
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)][-1:]
    for head in linear:
        with head.register_forward_hook(lambda _, args, output: seen.append((args[0], output.shape))):
            logits = network(batch)
    if not seen or seen[-1][1] != logits.shape:
        raise UserError(
            f"{type(network).__name__}: ends in no linear layer, whose input are its features, and has no "
            "forward_features, forward_head and get_classifier as timm's networks have; choose another network"
        )
    return seen[-1][0]


def save_weights(network: nn.Module, file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights and statistics of ``network``, and ``metadata`` beside them, whole or not at all."""
    weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    write_bytes(file, to_safetensors(weights, dict(metadata) if metadata else None))


def load_weights(network: nn.Module, file: Path) -> None:
    """Load the weights of ``network`` from a file of :func:`save_weights`."""
    try:
        network.load_state_dict(read_tensors(file))
    except (RuntimeError, ValueError) as error:
        cure = "restore it, or remove its folder so that it is trained again"
        raise UserError(f"{file}: cannot be read as this network's weights; {cure}") from error
