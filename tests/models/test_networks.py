"""Networks by name, and stems that suit the image size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import nn

from infer.core.errors import UserError
from infer.models.networks import build, require_batch_norm
from infer.models.options import _MODEL, NETWORKS, BackboneOptions, _timm_source, backbone
from infer.models.weights import frozen

UNTRAINED = sorted(name for name, network in NETWORKS.items() if not network.is_pretrained)


def convnet(**options) -> BackboneOptions:
    return BackboneOptions("convnet", "convnet", "auto", options)


@pytest.mark.parametrize("name", UNTRAINED)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
def test_every_named_network_takes_small_images(name, channels, side):
    model = frozen(build(name, 5, channels, side))
    assert model(torch.randn(2, channels, side, side)).shape == (2, 5)
    if name != "convnet_instance":
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


class Code:
    """What runs code where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("forced", [None, "1"])
@pytest.mark.parametrize("where", ["checkpoint_path", "pretrained_cfg_overlay"])
def test_a_file_of_weights_runs_no_code_whatever_timm_asks_torch_for(tmp_path, monkeypatch, where, forced):
    torch.save({"conv1.weight": Code(tmp_path / "ran")}, tmp_path / "weights.pth")
    load, names = torch.load, ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    monkeypatch.setattr(torch, "load", lambda *args, **options: load(*args, **{**options, "weights_only": False}))
    monkeypatch.delenv(names[0], raising=False)
    if forced:
        monkeypatch.setenv(names[1], forced)
    file = str(tmp_path / "weights.pth")
    own = {"pretrained": True, where: {"file": file}} if where == "pretrained_cfg_overlay" else {where: file}
    with pytest.raises(UserError, match=r"^backbone=resnet10t: ") as error:
        build(BackboneOptions("r", "resnet10t", "full", own), 1000, 3, 224)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    assert (os.environ.get(names[0]), os.environ.get(names[1])) == (None, forced)
    torch.load(file)  # this file does run code elsewhere
    assert (tmp_path / "ran").exists()


def stem_of(model: nn.Module) -> nn.Conv2d:
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d))


FULL_STEMS = {  # kernel, stride and the reason, of stems that are no single convolution
    "repvgg_a0": (3, 2, "several branches"),
    "mobileone_s0": (3, 2, "several branches"),
    "fastvit_t8": (3, 2, "several branches"),
    "convnext_atto": (4, 4, "patches"),
    "edgenext_xx_small": (4, 4, "patches"),
    "convmixer_768_32": (7, 7, "patches"),
}


@pytest.mark.parametrize("name", FULL_STEMS)
def test_a_stem_that_cannot_be_small_stays_full_and_is_one_line_where_small_is_asked(name):
    kernel, stride, reason = FULL_STEMS[name]
    model = frozen(build(name, 5, 3, 32))
    assert (stem_of(model).kernel_size, stem_of(model).stride) == ((kernel, kernel), (stride, stride))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    with pytest.raises(UserError, match=rf"backbone={name}: .*stem: small.*{reason}.*choose stem: full") as error:
        build(BackboneOptions(name, name, "small"), 5, 3, 32)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("side", [32, 64])
def test_a_network_that_a_small_stem_breaks_keeps_its_own(side):
    """Its attention is of a fixed resolution: the trial pass fails, and everything is as before."""
    torch.manual_seed(0)
    auto = build("levit_128s", 5, 3, side)
    torch.manual_seed(0)
    full = build(BackboneOptions("levit_128s", "levit_128s", "full"), 5, 3, side)
    assert [*auto.state_dict()] == [*full.state_dict()]
    assert all(torch.equal(value, full.state_dict()[key]) for key, value in auto.state_dict().items())
    assert auto.training
    with pytest.raises(UserError, match=r"stem: small .*choose stem: full"):
        build(BackboneOptions("levit_128s", "levit_128s", "small"), 5, 3, side)


SMALL_STEMS = ["resnet18", "resnet10t", "dla34", "regnetx_002", "efficientnet_lite0", "mobilenetv3_small_050"]
SMALL_STEMS += ["ghostnet_100", "densenet121", "xcit_nano_12_p16_224", "tf_efficientnet_b0", "resnetv2_50"]


@pytest.mark.parametrize("name", SMALL_STEMS)
def test_a_single_convolution_is_made_small(name):
    model = frozen(build(name, 5, 3, 32))
    assert (stem_of(model).kernel_size, stem_of(model).stride) == ((3, 3), (1, 1))
    assert not isinstance(getattr(model, "maxpool", nn.Identity()), nn.MaxPool2d)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0"])
def test_a_pretrained_stem_is_kept_at_small_sides(name, tmp_path):
    import timm

    torch.manual_seed(1)
    weights = timm.create_model(name).state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}}
    model = build(BackboneOptions(name, name, "auto", options), 5, 3, 32)
    kept = {key: value for key, value in model.state_dict().items() if value.shape == weights[key].shape}
    assert len(weights) - len(kept) == 2  # the head has other classes
    assert all(torch.equal(weights[key], value) for key, value in kept.items())
    with pytest.raises(UserError, match=rf"backbone={name}: .*pretrained first convolution.*choose stem: full"):
        build(BackboneOptions(name, name, "small", options), 5, 3, 32)


def test_what_has_no_head_is_refused_when_it_is_built():
    for options in (BackboneOptions("r", "resnet18", "full", {"features_only": True}),):
        with pytest.raises(UserError, match=r"backbone=resnet18: has no head that classifies"):
            build(options, 5, 3, 32)
    with pytest.raises(UserError, match=r"backbone=shufflenet_v2_x1_0: options .*num_classes"):
        build(BackboneOptions("s", "shufflenet_v2_x1_0", "full", {"weights": "IMAGENET1K_V1"}), 5, 3, 32)


WITHOUT_TIMM = """
import sys
from infer.core.errors import UserError
from infer.models.options import require_known
for known in ("convnet", "resnet50", "resnet50.a1_in1k", "vit_base_patch16_224"):
    require_known("students.backbones", known)
try:
    require_known("students.backbones", "resnet81")
except UserError as error:
    print(error)
assert "timm" not in sys.modules
require_known("students.backbones", "convnext_tiny_in22ft1k")  # a name of earlier versions
assert "timm" in sys.modules
"""


def test_unknown_names_are_refused_without_an_import_of_timm():
    """Which takes seconds."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_TIMM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("students.backbones=resnet81: unknown; did you mean resnet18 or")


def test_the_models_that_timms_files_name_are_those_that_it_has():
    import timm

    assert sorted(_MODEL.findall(_timm_source())) == sorted(timm.list_models())
