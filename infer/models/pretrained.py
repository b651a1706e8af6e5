"""Pretrained networks: where their weights come from, and their own normalisation inside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from infer.core.batch_norm import batch_norms
from infer.core.errors import UserError
from infer.core.files import file_digest, write_bytes
from infer.core.paths import user_path
from infer.models.options import PACKAGES, BackboneOptions


def seen_side(side: int) -> int:
    """Return the side, in pixels, at which pretrained networks see images of ``side``.

    Smaller ones than 64 are enlarged to 128: they would end as a single pixel of features.
    """
    return side if side >= 64 else 128


class Pretrained(nn.Module):
    """A network of timm that takes images in the data's normalisation and converts them to its own.

    The conversion is its fixed first layer, ``images * scale + shift``, so that the network stands among others that
    share the data's normalisation. Grey images become the three equal channels that the network was trained on, and
    small images are enlarged (:func:`seen_side`).
    Training does not change the BatchNorm statistics: those of a few small batches are worse than ImageNet's.

    Args:
        network: of timm; its ``pretrained_cfg`` states its own mean and std.
        chosen: the options that it was built of.
        moments: mean and std float32 [ch] of the data, of pixels in 0 to 1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Any, chosen: BackboneOptions, moments: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.network, self.chosen = network, chosen
        mean, std = moments
        own_mean, own_std = (torch.tensor(network.pretrained_cfg[key]) for key in ("mean", "std"))
        self.register_buffer("scale", (std / own_std).view(-1, 1, 1))
        self.register_buffer("shift", ((mean - own_mean) / own_std).view(-1, 1, 1))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers but BatchNorm, which keeps its statistics."""
        super().train(mode)
        for layer in batch_norms(self):
            layer.eval()
        return self

    def own(self, images: Tensor) -> Tensor:
        """Convert ``images`` [B, ch, H, W] to the network's own normalisation and size: [B, 3, H, W]."""
        own, side = images * self.scale + self.shift, seen_side(images.shape[-1])
        if side != images.shape[-1]:
            own = F.interpolate(own, (side, side), mode="bilinear")
        return own.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, C] of ``images`` [B, ch, H, W]."""
        return self.network(self.own(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the network's last feature maps, as timm's networks do."""
        return self.network.forward_features(self.own(images))

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits [B, C] of feature maps, or with ``pre_logits`` what the last layer classifies [B, D]."""
        return self.network.forward_head(maps, pre_logits=pre_logits)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.network.get_classifier()


def is_frozen(network: nn.Module) -> bool:
    """Return whether the last layer of ``network`` alone is trained."""
    return isinstance(network, Pretrained) and network.chosen.frozen


def linear_head(network: Any) -> nn.Linear | nn.Conv2d | None:
    """Return the last layer of a network of timm; None where it is not linear with a bias."""
    head = network.get_classifier()
    return head if isinstance(head, nn.Linear | nn.Conv2d) and head.bias is not None else None


def require_linear_head(name: str, network: Any) -> None:
    """Raise :class:`UserError` where the last layer of the network ``name`` of timm is not linear with a bias."""
    if linear_head(network) is None:
        kind = type(network.get_classifier()).__name__
        raise UserError(
            f"backbone={name}: its last layer is {kind}, which frozen: true cannot fit; choose frozen: false"
        )


def constructor_options(chosen: BackboneOptions, fetch: bool) -> dict[str, Any]:
    """Return the arguments of timm's ``create_model`` for a network, its weights included unless ``fetch`` is False.

    Raises:
        UserError: for a file of weights that is not there.
    """
    options = _with_home(chosen.options)
    overlay = dict(options.pop("pretrained_cfg_overlay", {}))
    if not fetch:
        options = {key: value for key, value in options.items() if key not in ("pretrained", "checkpoint_path")}
        overlay.pop("file", None)
    elif file := _weights_file(chosen):
        overlay["file"] = str(file)
    if fetch and chosen.pretrained:
        options["pretrained"] = True
    return {**options, "pretrained_cfg_overlay": overlay} if overlay else options


def _with_home(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's options, in which the ``~`` of a file of weights is the home folder."""
    changed: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):  # pretrained_cfg_overlay
            changed[key] = _with_home(value)
        else:
            changed[key] = str(user_path(value)) if isinstance(value, str) and value[:1] == "~" else value
    return changed


def _weights_file(chosen: BackboneOptions) -> Path | None:
    """Return the file of a network's pretrained weights: the given one, or that of a package; None: timm's hub."""
    if isinstance(chosen.pretrained, str):
        file = user_path(chosen.pretrained)
        if not file.is_file():
            raise UserError(f"backbone.pretrained={file}: no such file; give a file of weights of {chosen.model}")
        return file
    return packaged_weights(chosen.model) if chosen.pretrained else None


def packaged_weights(model: str) -> Path | None:
    """Return a safetensors file of the weights that a package of the extra ``weights`` holds for a timm model.

    The package's own file is converted once, into ``$XDG_CACHE_HOME/infer-distillation`` (``~/.cache`` unless set).

    Returns:
        The file; None where no package has weights of the model, or it is not installed.

    Raises:
        UserError: where the package holds other weights than those of the model, or the file cannot be written.
    """
    found = find_spec(PACKAGES[model]) if model in PACKAGES else None
    source = next(Path(found.origin).parent.rglob("*.pth"), None) if found and found.origin else None
    if source is None:
        return None
    cache = user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "infer-distillation"
    file = cache / f"{model}-{file_digest(source)}.safetensors"
    if not file.is_file():
        content = to_safetensors(converted(model, torch.load(source, weights_only=True)))
        try:
            write_bytes(file, content)
        except UserError as error:
            raise UserError(f"{file}: cannot be written; set XDG_CACHE_HOME to a folder that can") from error
    return file


def converted(model: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights the names that timm's ``model`` has for them; both are in the order of the layers.

    Raises:
        UserError: where the two differ in number, in the shape of a tensor or in what it is, such as ``bias``.
    """
    import timm

    own = timm.create_model(model).state_dict()
    kinds = [[(name.rpartition(".")[2], value.shape) for name, value in each.items()] for each in (own, weights)]
    if kinds[0] != kinds[1]:
        raise UserError(f"backbone={model}: the installed package {PACKAGES[model]} holds weights of another network")
    return {name: value.contiguous() for name, value in zip(own, weights.values(), strict=True)}
