"""Stems: the first layers of a network, which shrink large images and would shrink small ones too far."""

from __future__ import annotations

import torch
from torch import nn

from infer.core.errors import UserError, choices
from infer.models.options import BackboneOptions

SMALL_SIDE = 64
"""Images up to this side keep their resolution in the stem; stems for ImageNet shrink them by four first."""


def require_stem(chosen: BackboneOptions) -> None:
    """Raise :class:`UserError` for an unknown stem, and for one that would throw pretrained weights away."""
    if chosen.stem not in ("auto", "small", "full"):
        raise choices("backbone.stem", chosen.stem, ["auto", "small", "full"])
    if chosen.stem == "small" and chosen.is_pretrained:
        raise _no_small_stem(chosen, "its pretrained first convolution would be replaced by a random one")


def small_stem(model: nn.Module, chosen: BackboneOptions, channels: int, side: int) -> None:
    """Make ``model`` keep the resolution of small images in its first convolution, and drop its max-pool.

    ``stem=auto`` keeps the stem of pretrained networks, of images beyond :data:`SMALL_SIDE`, and where there is no
    single convolution to replace: several branches, patches, positions that belong to a resolution.

    Raises:
        UserError: where ``stem=small`` and the network cannot have one.
    """
    if chosen.stem == "full" or (chosen.stem == "auto" and (side > SMALL_SIDE or chosen.is_pretrained)):
        return
    name, obstacle = _first_convolution(model)
    obstacle = obstacle or _keep_resolution(model, name, channels, side)
    if obstacle and chosen.stem == "small":
        raise _no_small_stem(chosen, obstacle)


def replace_convolution(model: nn.Module, name: str, channels: int | None = None, stride: int | None = None) -> None:
    """Replace ``model``'s convolution ``name`` by one of ``channels`` inputs, or of a 3x3 kernel with ``stride``."""
    first = model.get_submodule(name)
    assert isinstance(first, nn.Conv2d)
    replaced = nn.Conv2d(
        channels or first.in_channels,
        first.out_channels,
        3 if stride else first.kernel_size,  # type: ignore[arg-type]
        stride or first.stride,  # type: ignore[arg-type]
        1 if stride else first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(replaced.weight, mode="fan_out", nonlinearity="relu")
    _set(model, name, replaced)


def _first_convolution(model: nn.Module) -> tuple[str, str]:
    """Return the name of the first convolution and why it cannot be replaced; the reason is empty where it can."""
    convolutions = (name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    described = getattr(model, "pretrained_cfg", None) or {}  # timm's description of a model
    name = described.get("first_conv") or next(convolutions, None)
    if name is None:
        return "", "it has no convolution"
    if not isinstance(name, str):
        return "", "its stem has several branches"
    first = model.get_submodule(name)
    if not isinstance(first, nn.Conv2d) or first.groups > 1:
        return name, f"its first layer is {type(first).__name__}"
    if first.kernel_size == first.stride and first.stride != (1, 1):
        return name, "its stem cuts the image into patches"
    return name, ""


def _keep_resolution(model: nn.Module, name: str, channels: int, side: int) -> str:
    """Replace the convolution ``name`` and the max-pool; return why the network then fails, which undoes it, or ""."""
    first, pool = model.get_submodule(name), getattr(model, "maxpool", None)
    replace_convolution(model, name, stride=1)
    if isinstance(pool, nn.Module):
        model.maxpool = nn.Identity()
    failure = _failure(model, channels, side)
    if failure:
        _set(model, name, first)
        if isinstance(pool, nn.Module):
            model.maxpool = pool
    return failure


@torch.no_grad()
def _failure(model: nn.Module, channels: int, side: int) -> str:
    """Return why ``model`` does not take an image of this size; empty where it does."""
    training = model.training
    try:
        model.eval()(torch.zeros(1, channels, side, side))
    except Exception as error:  # a foreign forward pass raises errors of many types
        return (str(error).splitlines() or [type(error).__name__])[0]
    finally:
        model.train(training)
    return ""


def _no_small_stem(chosen: BackboneOptions, reason: str) -> UserError:
    return UserError(f"backbone={chosen.model}: cannot have stem: small ({reason}); choose stem: full")


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
