"""Options of networks and of their optimisers. Importing them does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from infer.core.checks import Choice, Name, Range
from infer.core.errors import choices

OPTIMISERS = Choice("sgd", "nesterov", "adamw")


@dataclass(frozen=True)
class OptimiserOptions:
    """How weights are trained.

    Args:
        batch: images of a batch.
        optimizer: ``sgd`` or ``nesterov``, both with momentum 0.9, or ``adamw``.
        lr: initial learning rate, or the highest one of one_cycle.
        weight_decay: the optimiser's own.
        schedule: ``cosine`` to zero, or ``one_cycle`` (Smith and Topin 2018).
    """

    batch: Annotated[int, Range(1, 65536)] = 128
    optimizer: Annotated[str, OPTIMISERS] = "sgd"
    lr: Annotated[float, Range(1e-9, 100)] = 0.1
    weight_decay: Annotated[float, Range(0, 1)] = 5e-4
    schedule: Annotated[str, Choice("cosine", "one_cycle")] = "cosine"


@dataclass(frozen=True)
class BackboneOptions:
    """A network by name.

    Args:
        name: by which results and folders call it.
        model: ``convnet``, one of torchvision's ShuffleNetV2, or a timm model.
        stem: ``small`` keeps the resolution in the first convolution and drops the max-pool, ``full`` keeps the network
            unchanged, ``auto`` is small for sides up to 64 pixels where the network is not pretrained and its stem is
            one convolution.
        options: arguments of the network's constructor.
    """

    name: Annotated[str, Name()] = "convnet"
    model: str = "convnet"
    stem: Annotated[str, Choice("auto", "small", "full")] = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def pretrained(self) -> bool:
        """Whether the weights come from a hub or a file: timm's ``pretrained``, torchvision's ``weights``."""
        return any(self.options.get(key) for key in ("pretrained", "checkpoint_path", "weights"))


def _named(*networks: BackboneOptions) -> dict[str, BackboneOptions]:
    return {network.name: network for network in networks}


_PRETRAINED: dict[str, Any] = {"pretrained": True}
SHUFFLENETS = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")
"""Models of torchvision."""

NETWORKS = _named(
    BackboneOptions("convnet", "convnet", "auto", {"depth": 3, "width": 128, "norm": "batch"}),
    BackboneOptions("convnet_narrow", "convnet", "auto", {"depth": 3, "width": 32, "norm": "batch"}),
    BackboneOptions("convnet_deep", "convnet", "auto", {"depth": 4, "width": 48, "norm": "batch"}),
    BackboneOptions("resnet_narrow", "resnet10t", "full", {"channels": [32, 64, 96, 128], "stem_width": 8}),
    BackboneOptions("resnet18", "resnet18"),
    BackboneOptions("mobilenetv2", "mobilenetv2_100"),
    BackboneOptions("efficientnet_b0", "efficientnet_b0"),
    BackboneOptions("shufflenetv2", "shufflenet_v2_x1_0"),
    BackboneOptions("resnet18_pretrained", "resnet18", "full", _PRETRAINED),
    BackboneOptions("mobilenetv2_pretrained", "mobilenetv2_100", "full", _PRETRAINED),
    BackboneOptions("efficientnet_b0_pretrained", "efficientnet_b0", "full", _PRETRAINED),
)
"""The networks that have a name of their own here; every other name is that of a timm model."""


def backbone(name: str) -> BackboneOptions:
    """Return the options of the network ``name``: one of :data:`NETWORKS`, or a timm model."""
    return NETWORKS.get(name, BackboneOptions(name, name))


def require_known(key: str, model: str) -> None:
    """Raise :class:`UserError`, which begins with ``key``, where there is no network ``model``; near names lead."""
    if model in SHUFFLENETS or model in {network.model for network in NETWORKS.values()}:
        return
    import timm  # takes seconds to import

    if not timm.is_model(model):
        raise choices(key, model, [*NETWORKS, *SHUFFLENETS, *timm.list_models()])
