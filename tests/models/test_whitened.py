"""The network with a whitening first layer."""

import torch

from infer.models.networks import build
from infer.models.whitened import WhitenedConvNet


def test_the_first_layer_makes_the_components_of_patches_uncorrelated_and_of_unit_variance():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 12, 12, generator=generator).cumsum(dim=3) / 3  # neighbours are alike
    network = WhitenedConvNet(5, 3, 12, widths=[8])
    network.whiten(images)
    network.whitening.bias.data.zero_()
    outputs = network.whitening(images).movedim(1, 3).flatten(0, 2)
    covariance = outputs.T @ outputs / len(outputs)
    identity = torch.eye(12)
    expected = torch.cat([torch.cat([identity, -identity]), torch.cat([-identity, identity])], dim=1)
    assert torch.allclose(covariance, expected, atol=0.03)  # less by the share of the least variance


def test_training_leaves_the_filters_of_the_first_layer_and_moves_its_bias():
    network = build("convnet_whitened", 4, 3, 16)
    before = network.whitening.weight.clone()
    network(torch.randn(8, 3, 16, 16)).square().sum().backward()
    assert network.whitening.weight.grad is None
    assert network.whitening.bias.grad.any()
    assert torch.equal(network.whitening.weight, before)
