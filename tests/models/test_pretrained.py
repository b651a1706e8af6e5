"""Pretrained networks: their weights, and their own normalisation inside."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from infer.core.errors import UserError
from infer.core.identity import as_identity
from infer.models.networks import build
from infer.models.options import BackboneOptions
from infer.models.pretrained import PACKAGES, converted, packaged_weights, require_linear_head
from infer.models.weights import PixelClassifier, features, frozen, load_weights, save_weights

LITE0 = "tf_efficientnet_lite0"
needs_package = pytest.mark.skipif(
    find_spec(PACKAGES[LITE0]) is None, reason=f"the package {PACKAGES[LITE0]} of the extra weights is not installed"
)
MOMENTS = (torch.tensor([0.31, 0.42, 0.57]), torch.tensor([0.11, 0.21, 0.34]))


def package_file() -> Path:
    found = find_spec(PACKAGES[LITE0])
    assert found is not None
    assert found.origin is not None
    return next(Path(found.origin).parent.rglob("*.pth"))


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Weights of a small network whose own normalisation differs from channel to channel."""
    import timm

    torch.manual_seed(1)
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def small(file: str, **more: bool) -> BackboneOptions:
    return BackboneOptions("small", "resnet10t", pretrained=file, **more)


def pictures(channels: int = 3, side: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (5, channels, side, side), generator=generator, dtype=torch.uint8)


def by_timm(file: str, images: torch.Tensor, side: int = 128) -> torch.Tensor:
    """The logits of timm's own network, fed as timm says, of images enlarged to ``side``."""
    import timm

    network = timm.create_model("resnet10t", pretrained=True, pretrained_cfg_overlay={"file": file})
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        return network.eval()(nn.functional.interpolate((images / 255 - mean) / std, (side, side), mode="bilinear"))


def test_a_pretrained_network_of_the_datas_normalisation_gives_the_logits_of_timms_in_its_own(file):
    student = PixelClassifier(frozen(build(small(file), 1000, 3, 40, MOMENTS)), *MOMENTS)
    expected = by_timm(file, pictures())
    torch.testing.assert_close(student(pictures()), expected, rtol=1e-4, atol=1e-4)
    student.mean.zero_()  # in another normalisation than it was told
    assert not torch.allclose(student(pictures()), expected, rtol=1e-2, atol=1e-2)


def test_pictures_from_64_pixels_on_keep_their_size(file):
    student = PixelClassifier(frozen(build(small(file), 1000, 3, 64, MOMENTS)), *MOMENTS)
    images = pictures(side=64)
    torch.testing.assert_close(student(images), by_timm(file, images, side=64), rtol=1e-4, atol=1e-4)


def test_a_grey_picture_gives_the_logits_of_its_copy_in_colour(file):
    grey, moments = pictures(1), (torch.tensor([0.4]), torch.tensor([0.2]))
    student = PixelClassifier(frozen(build(small(file), 1000, 1, 40, moments)), *moments)
    torch.testing.assert_close(student(grey), by_timm(file, grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_features_are_those_of_the_network_inside(file):
    network = frozen(build(small(file), 4, 3, 40, MOMENTS))
    inputs = torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    found = features(network, inputs.split(3))
    assert found.shape == (5, network.get_classifier().in_features)
    torch.testing.assert_close(network.get_classifier()(found), network(inputs))


def test_the_file_of_a_network_holds_its_normalisation_and_needs_no_pretrained_weights_again(file, tmp_path):
    network = frozen(build(small(file), 4, 3, 40, MOMENTS))
    save_weights(network, tmp_path / "student.safetensors")
    Path(file).unlink()
    with pytest.raises(UserError, match=r"^backbone\.pretrained=.*weights\.pth: no such file"):
        build(small(file), 4, 3, 40, MOMENTS)
    again = frozen(build(small(file), 4, 3, 40, (MOMENTS[1], MOMENTS[0]), fetch=False))
    load_weights(again, tmp_path / "student.safetensors")
    inputs = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(again(inputs), network(inputs), rtol=0, atol=0)


def test_weights_of_another_network_are_one_line(file):
    with pytest.raises(UserError, match=r"^backbone\.pretrained=.*weights\.pth: holds no weights of resnet18") as error:
        build(BackboneOptions("other", "resnet18", pretrained=file), 4, 3, 40)
    assert "\n" not in str(error.value)


class TwoLayers(nn.Module):
    def get_classifier(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_what_has_no_pretrained_weights_or_no_linear_head_is_one_line(file):
    with pytest.raises(UserError, match=r"^backbone\.pretrained=true: convnet has no such weights"):
        build(BackboneOptions("c", "convnet", pretrained=True), 4, 3, 40)
    with pytest.raises(UserError, match=r"^backbone\.frozen=true: .*give backbone\.pretrained=true too"):
        build(BackboneOptions("r", "resnet18", frozen=True), 4, 3, 40)
    assert isinstance(build(small(file, frozen=True), 4, 3, 40).get_classifier(), nn.Linear)
    with pytest.raises(UserError, match=r"^backbone=r: its last layer is Sequential, which frozen: true cannot fit"):
        require_linear_head("r", TwoLayers())
    breadth = BackboneOptions("r", "resnet10t", "full", {"breadth": 3}, pretrained=file)
    with pytest.raises(UserError, match=r"^backbone=resnet10t: options .*'breadth'"):
        build(breadth, 4, 3, 40)


def test_networks_of_earlier_versions_keep_their_identity(file):
    known = {"name": "small", "model": "resnet10t", "stem": "auto", "options": {}}
    assert as_identity(BackboneOptions("small", "resnet10t")) == known
    assert as_identity(small(file, frozen=True)) == {**known, "pretrained": file, "frozen": True}


@needs_package
def test_the_weights_of_the_package_are_those_of_timms_network_in_its_order(tmp_path, monkeypatch):
    import timm

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = packaged_weights(LITE0)
    assert file is not None
    assert file.parent == tmp_path / "infer-distillation"
    found, own = load_file(file), timm.create_model(LITE0).state_dict()
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in own.items()}
    given = torch.load(package_file(), weights_only=True)
    assert all(torch.equal(found[name], value) for name, value in zip(own, given.values(), strict=True))
    written = file.stat().st_mtime_ns
    assert packaged_weights(LITE0) == file
    assert file.stat().st_mtime_ns == written  # it is converted once
    network = build("efficientnet_lite0_pretrained", 1000, 3, 64)
    assert all(torch.equal(value, found[name]) for name, value in network.state_dict().items())


@needs_package
def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()  # a file where a folder is needed
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"safetensors: cannot be written; set XDG_CACHE_HOME to a folder that can$"):
        build("efficientnet_lite0_pretrained", 4, 3, 64)


def test_a_package_with_weights_of_another_network_is_refused():
    import timm

    own = timm.create_model(LITE0).state_dict()
    renamed = {f"layer.{number}.{name.rpartition('.')[2]}": value for number, (name, value) in enumerate(own.items())}
    assert [*converted(LITE0, renamed)] == [*own]
    first = next(iter(renamed))
    for other in ({**renamed, first: renamed[first][:, :1]}, dict([*renamed.items()][1:])):
        with pytest.raises(UserError, match=rf"^backbone={LITE0}: the installed package .* of another network$"):
            converted(LITE0, other)


def test_timms_other_networks_are_in_no_package():
    assert packaged_weights("resnet18") is None
