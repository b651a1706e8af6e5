"""Networks by name, and stems that suit the image size."""

import pytest
import torch
from torch import nn

from infer.cli.schema import CONF, backbone
from infer.core.errors import UserError
from infer.models.networks import build, frozen, require_batch_norm

NAMED = sorted(
    path.stem for path in (CONF / "backbone").glob("*.yaml") if path.stem != "timm" and "pretrained" not in path.stem
)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
def test_every_backbone_of_conf_takes_small_images(name, channels, side):
    options = backbone(name)
    model = frozen(build(options.model, options.options, options.stem, 5, channels, side))
    assert model(torch.randn(2, channels, side, side)).shape == (2, 5)
    require_batch_norm(name, model)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "efficientnet_b0", "shufflenetv2"])
def test_small_stems_keep_the_resolution_and_large_images_keep_the_stem(name):
    def resolution(side: int) -> int:
        options = backbone(name)
        model = build(options.model, options.options, options.stem, 5, 3, side)
        first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
        seen = []
        first.register_forward_hook(lambda *args: seen.append(args[2].shape[-1]))
        frozen(model)(torch.randn(1, 3, side, side))
        return seen[0]

    assert resolution(32) == 32
    assert resolution(128) == 64
    options = backbone(name)
    small, large = (build(options.model, options.options, options.stem, 5, 3, side) for side in (32, 128))
    pools = [sum(isinstance(module, nn.MaxPool2d) for module in model.modules()) for model in (small, large)]
    assert pools == [0, 1 if name in ("resnet18", "shufflenetv2") else 0]


def test_any_timm_model_goes_by_its_name():
    assert backbone("regnetx_002").model == "regnetx_002"
    assert build("regnetx_002", {}, "auto", 5, 3, 32)(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_unknown_names_and_options_are_one_line():
    with pytest.raises(UserError, match=r"backbone=resnet81: unknown; did you mean .*resnet18"):
        build("resnet81", {}, "auto", 5, 3, 32)
    with pytest.raises(UserError, match=r"backbone=convnet: options .*'breadth'"):
        build("convnet", {"depth": 2, "width": 8, "norm": "batch", "breadth": 3}, "auto", 5, 3, 32)
    with pytest.raises(UserError, match="choose one of batch, instance"):
        build("convnet", {"depth": 2, "width": 8, "norm": "layer"}, "auto", 5, 3, 32)


def test_a_teacher_needs_batch_norm():
    for name, options in (("convnet", {"depth": 2, "width": 8, "norm": "instance"}), ("convnext_atto", {})):
        with pytest.raises(UserError, match=f"teachers.backbones={name}: has no BatchNorm"):
            require_batch_norm(name, build(name, options, "auto", 5, 3, 32))


def test_pretrained_weights_come_from_a_file_or_fail_in_one_line(tmp_path, monkeypatch):
    import timm

    torch.manual_seed(1)
    weights = timm.create_model("resnet10t").state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}}
    model = build("resnet10t", options, "full", 1000, 3, 224)
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options["pretrained_cfg_overlay"]["file"] = str(tmp_path / "missing.pth")
    with pytest.raises(UserError, match=r"backbone=resnet10t: its pretrained weights could not be had") as error:
        build("resnet10t", options, "full", 1000, 3, 224)
    assert "\n" not in str(error.value)
