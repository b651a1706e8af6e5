"""Networks by name: our small ones, timm's, torchvision's ShuffleNetV2; stems for small images."""

from __future__ import annotations

from difflib import get_close_matches

import torch
from torch import nn

from infer.core.batch_norm import batch_norms
from infer.core.errors import UserError, choices
from infer.models.options import NETWORKS, BackboneOptions, backbone

SMALL_SIDE = 64
"""Images up to this side keep their resolution in the stem; stems for ImageNet shrink them by four first."""

_SHUFFLENETS = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")


class ConvNet(nn.Sequential):
    """The ConvNet of the field: blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then a linear layer.

    Args:
        classes: number of logits.
        channels, side: of the images; pooling stops at one pixel, so any depth fits any side.
        depth: number of blocks.
        width: channels of a block.
        norm: ``batch`` or ``instance``.
    """

    def __init__(self, classes: int, channels: int, side: int, depth: int, width: int, norm: str) -> None:
        if norm not in ("batch", "instance"):
            raise choices("backbone.options.norm", norm, ["batch", "instance"])
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width, affine=True),
                nn.ReLU(inplace=True),
            ]
            if side >= 2:
                layers.append(nn.AvgPool2d(2))
                side //= 2
            channels = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(width * side * side, classes))


def build(network: str | BackboneOptions, classes: int, channels: int, side: int) -> nn.Module:
    """Build a new network, its weights drawn from torch's global generator.

    Args:
        network: a name, as of :func:`backbone`, or its options.
        classes: number of logits.
        channels, side: of the images, [channels, side, side].

    Raises:
        UserError: for unknown names and options, and where pretrained weights are not available.

    Example:
        >>> import torch
        >>> build("convnet_narrow", classes=10, channels=3, side=32)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    chosen = backbone(network) if isinstance(network, str) else network
    if chosen.stem not in ("auto", "small", "full"):
        raise choices("backbone.stem", chosen.stem, ["auto", "small", "full"])
    try:
        model = _constructed(chosen, classes, channels, side)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise UserError(f"backbone={chosen.model}: options {dict(chosen.options)} do not suit it: {error}") from error
    if chosen.model != "convnet" and (chosen.stem == "small" or (chosen.stem == "auto" and side <= SMALL_SIDE)):
        _replace_first_convolution(model, stride=1)
        if isinstance(getattr(model, "maxpool", None), nn.Module):
            model.maxpool = nn.Identity()
    return model.to(memory_format=torch.channels_last)


def _constructed(chosen: BackboneOptions, classes: int, channels: int, side: int) -> nn.Module:
    if chosen.model == "convnet":
        return ConvNet(classes, channels, side, **chosen.options)
    if chosen.model in _SHUFFLENETS:
        import torchvision

        model = torchvision.models.get_model(chosen.model, num_classes=classes, **chosen.options)
        _replace_first_convolution(model, channels=channels)
        return model
    import timm

    if not timm.is_model(chosen.model):
        raise _unknown(chosen.model, timm.list_models())
    try:
        return timm.create_model(chosen.model, num_classes=classes, in_chans=channels, **chosen.options)
    except Exception as error:
        if not chosen.options.get("pretrained"):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # of a hub, a network, a file
        raise UserError(
            f"backbone={chosen.model}: its pretrained weights are not available ({reason}); connect, or put them into "
            "a file and name it in conf/backbone: options.pretrained_cfg_overlay.file"
        ) from error


def _unknown(name: str, others: list[str]) -> UserError:
    """Return the error for an unknown network: ours are listed, all are searched for near names."""
    near = get_close_matches(name, [*NETWORKS, *_SHUFFLENETS, *others], n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"backbone={name}: unknown; {hint}choose one of {', '.join(NETWORKS)}, or a model of timm")


def _replace_first_convolution(model: nn.Module, channels: int | None = None, stride: int | None = None) -> None:
    """Replace ``model``'s first convolution by one of ``channels`` inputs, or of a 3x3 kernel with ``stride``."""
    convolutions = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    name, first = next(convolutions, ("", None))
    if first is None:
        return
    parent, _, leaf = name.rpartition(".")
    replaced = nn.Conv2d(
        channels or first.in_channels,
        first.out_channels,
        3 if stride else first.kernel_size,  # type: ignore[arg-type]
        stride or first.stride,  # type: ignore[arg-type]
        1 if stride else first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(replaced.weight, mode="fan_out", nonlinearity="relu")
    setattr(model.get_submodule(parent), leaf, replaced)


def require_batch_norm(key: str, model: nn.Module) -> None:
    """Raise :class:`UserError`, which begins with ``key``, where ``model`` has no BatchNorm statistics to match."""
    if not batch_norms(model):
        raise UserError(
            f"{key}: has no BatchNorm layer, whose statistics a compensator is matched to; "
            "choose one that has, such as resnet18, mobilenetv2 or convnet"
        )
