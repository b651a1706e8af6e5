"""Features: what the head of a network classifies."""

import pytest
import torch
from torch import nn

from infer.core.errors import UserError
from infer.models.networks import build
from infer.models.options import BackboneOptions
from infer.models.weights import features, frozen

LINEAR = ["convnet_narrow", "resnet_narrow", "resnet18", "mobilenetv2", "efficientnet_b0", "shufflenetv2"]
LINEAR += ["convnext_atto", "efficientnet_lite0", "mobilenetv3_small_050", "densenet121", "regnetx_002"]
LINEAR += ["repvgg_a0", "ghostnet_100", "vgg11_bn"]
SIZED = {"vit_tiny_patch16_224": {"img_size": 64}, "mixer_s32_224": {"img_size": 64}}


def images() -> list[torch.Tensor]:
    return list(torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(3))


def expected(model: nn.Module, head: nn.Module) -> torch.Tensor:
    seen = []
    with head.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(1))), torch.no_grad():
        for batch in images():
            model(batch)
    return torch.cat(seen)


@pytest.mark.parametrize("name", [*LINEAR, *SIZED])
def test_features_are_the_input_of_the_linear_head(name):
    model = frozen(build(BackboneOptions(name, name, "full", SIZED[name]) if name in SIZED else name, 4, 3, 64))
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    found = features(model, images())
    assert found.shape == (5, head.in_features)
    torch.testing.assert_close(found, expected(model, head), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["dla34", "resnetv2_50"])
def test_a_convolution_may_be_the_head(name):
    model = frozen(build(name, 4, 3, 64))
    head = model.get_classifier()
    assert isinstance(head, nn.Conv2d)
    found = features(model, images())
    assert found.shape == (5, head.in_channels)
    torch.testing.assert_close(found, expected(model, head))
    logits = torch.cat([model(batch) for batch in images()])
    torch.testing.assert_close(head(found[:, :, None, None]).flatten(1), logits)


class Squeezed(nn.Module):
    """A convolution as the head, and a linear layer that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.gate, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Conv2d(8, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.body(images)
        gates = self.gate(maps.mean((2, 3))).sigmoid()
        return self.head(maps * gates[:, :, None, None]).mean((2, 3))


def test_a_network_of_ones_own_has_the_features_of_its_linear_head_or_is_refused():
    own = frozen(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)))
    torch.testing.assert_close(features(own, images()), expected(own, own[-1]))
    for other in (nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), Squeezed()):
        with pytest.raises(UserError, match=f"{type(other).__name__}: ends in no linear layer"):
            features(frozen(other), images())
