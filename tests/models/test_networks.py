"""Networks by name, and stems that suit the image size."""

import pytest
import torch
from torch import nn

from infer.core.errors import UserError
from infer.models.networks import build, require_batch_norm
from infer.models.options import NETWORKS, BackboneOptions, backbone
from infer.models.weights import frozen

UNTRAINED = sorted(name for name in NETWORKS if "pretrained" not in name)


def convnet(**options) -> BackboneOptions:
    return BackboneOptions("convnet", "convnet", "auto", options)


@pytest.mark.parametrize("name", UNTRAINED)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
def test_every_named_network_takes_small_images(name, channels, side):
    model = frozen(build(name, 5, channels, side))
    assert model(torch.randn(2, channels, side, side)).shape == (2, 5)
    require_batch_norm(f"teachers.backbones={name}", model)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "efficientnet_b0", "shufflenetv2"])
def test_small_stems_keep_the_resolution_and_large_images_keep_the_stem(name):
    def resolution(side: int) -> int:
        model = build(name, 5, 3, side)
        first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
        seen = []
        first.register_forward_hook(lambda *args: seen.append(args[2].shape[-1]))
        frozen(model)(torch.randn(1, 3, side, side))
        return seen[0]

    assert resolution(32) == 32
    assert resolution(128) == 64
    small, large = (build(name, 5, 3, side) for side in (32, 128))
    pools = [sum(isinstance(module, nn.MaxPool2d) for module in model.modules()) for model in (small, large)]
    assert pools == [0, 1 if name in ("resnet18", "shufflenetv2") else 0]


def test_any_timm_model_is_known_by_its_name():
    assert backbone("regnetx_002").model == "regnetx_002"
    assert build("regnetx_002", 5, 3, 32)(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_unknown_names_and_options_are_one_line():
    with pytest.raises(UserError, match=r"backbone=resnet81: unknown; did you mean .*resnet18"):
        build("resnet81", 5, 3, 32)
    with pytest.raises(UserError, match=r"backbone=convnet: options .*'breadth'"):
        build(convnet(depth=2, width=8, norm="batch", breadth=3), 5, 3, 32)
    with pytest.raises(UserError, match="choose one of batch, instance"):
        build(convnet(depth=2, width=8, norm="layer"), 5, 3, 32)
    with pytest.raises(UserError, match=r"backbone\.stem=tiny: .*choose one of auto, full, small"):
        build(BackboneOptions("resnet18", "resnet18", "tiny"), 5, 3, 32)


def test_a_teacher_needs_batch_norm():
    without = {"convnet": convnet(depth=2, width=8, norm="instance"), "convnext_atto": backbone("convnext_atto")}
    for name, options in without.items():
        with pytest.raises(UserError, match=f"teachers.backbones={name}: has no BatchNorm"):
            require_batch_norm(f"teachers.backbones={name}", build(options, 5, 3, 32))


def test_pretrained_weights_come_from_a_file_or_fail_in_one_line(tmp_path, monkeypatch):
    import timm

    torch.manual_seed(1)
    weights = timm.create_model("resnet10t").state_dict()
    torch.save(weights, tmp_path / "weights.pth")

    def pretrained(file: str) -> BackboneOptions:
        overlay = {"file": str(tmp_path / file)}
        options = {"pretrained": True, "pretrained_cfg_overlay": overlay}
        return BackboneOptions("resnet10t", "resnet10t", "full", options)

    model = build(pretrained("weights.pth"), 1000, 3, 224)
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"backbone=resnet10t: its pretrained weights are not available") as error:
        build(pretrained("missing.pth"), 1000, 3, 224)
    assert "\n" not in str(error.value)
