"""Networks by name: timm's, torchvision's ShuffleNetV2, the field's ConvNet; small-image stems; their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from infer.core.errors import UserError, choices
from infer.core.files import read_tensors, write_bytes
from infer.core.ufc import batch_norms

SMALL_SIDE = 64
"""Images up to this side keep their resolution in the stem; ImageNet stems would shrink them by four first."""

_SHUFFLENETS = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")


class ConvNet(nn.Sequential):
    """``depth`` blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then one linear layer.

    ``norm`` is ``batch`` or ``instance``. Pooling stops at one pixel, so any depth suits any side.
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


def build(name: str, options: Mapping[str, Any], stem: str, classes: int, channels: int, side: int) -> nn.Module:
    """A new network for ``classes`` and images [channels, side, side], its weights from torch's global generator.

    ``name`` is ``convnet``, one of torchvision's ShuffleNetV2 or a timm model; ``options`` go to its constructor.
    ``stem``: ``small`` keeps the resolution in the first convolution and drops the max-pool, ``full`` leaves the
    network as it is, ``auto`` picks small for sides up to 64. Raises :class:`UserError` for unknown names and options.
    """
    if stem not in ("auto", "small", "full"):
        raise choices("backbone.stem", stem, ["auto", "small", "full"])
    try:
        if name == "convnet":
            model: nn.Module = ConvNet(classes, channels, side, **options)
        elif name in _SHUFFLENETS:
            import torchvision

            model = torchvision.models.get_model(name, num_classes=classes, **options)
            _first_convolution(model, channels=channels)
        else:
            import timm

            if not timm.is_model(name):
                raise choices("backbone", name, ["convnet", *_SHUFFLENETS, *timm.list_models()])
            try:
                model = timm.create_model(name, num_classes=classes, in_chans=channels, **options)
            except Exception as error:
                if not options.get("pretrained"):
                    raise
                reason = (str(error).splitlines() or [type(error).__name__])[0]  # of a hub, a network, a file
                raise UserError(
                    f"backbone={name}: its pretrained weights could not be had ({reason}); connect, or put them into a "
                    "file and name it in conf/backbone: options.pretrained_cfg_overlay.file"
                ) from error
    except (TypeError, RuntimeError, AssertionError) as error:
        raise UserError(f"backbone={name}: options {dict(options)} do not suit it: {error}") from error
    if name != "convnet" and (stem == "small" or (stem == "auto" and side <= SMALL_SIDE)):
        _first_convolution(model, stride=1)
        if isinstance(getattr(model, "maxpool", None), nn.Module):
            model.maxpool = nn.Identity()
    return model.to(memory_format=torch.channels_last)


def _first_convolution(model: nn.Module, channels: int | None = None, stride: int | None = None) -> None:
    """Give ``model``'s first convolution ``channels`` inputs, or a 3x3 kernel of ``stride``."""
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


def require_batch_norm(name: str, model: nn.Module) -> None:
    """Raise :class:`UserError` where ``model`` has no BatchNorm statistics for a compensator to match."""
    if not batch_norms(model):
        raise UserError(
            f"teachers.backbones={name}: has no BatchNorm layer, whose statistics a compensator is matched to; "
            "choose one that has, such as resnet18, mobilenetv2 or convnet"
        )


def frozen(model: nn.Module) -> nn.Module:
    """``model`` as a teacher: eval mode, and no gradient of any weight computed or stored."""
    return model.requires_grad_(False).eval()


@torch.no_grad()
def features(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """What ``network``'s last linear layer is given for batches of its inputs: float32 [N, D], on the CPU."""
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    found: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, args: found.append(args[0].float().cpu()))
    try:
        for batch in batches:
            network(batch)
    finally:
        handle.remove()
    return torch.cat(found)


def save_weights(network: nn.Module, file: Path) -> None:
    """Write ``network``'s weights and statistics, whole or not at all."""
    weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
    write_bytes(file, to_safetensors(weights))


def load_weights(network: nn.Module, file: Path) -> None:
    """Fill ``network`` from a file of :func:`save_weights`."""
    try:
        network.load_state_dict(read_tensors(file))
    except (RuntimeError, ValueError) as error:
        cure = "restore it, or remove its folder so that it is trained anew"
        raise UserError(f"{file}: cannot be read as this network's weights; {cure}") from error
