"""Moments beside large means, against float64."""

import pytest
import torch
from torch import Tensor, nn

from infer.core.batch_norm import Moments, RoundMoments, bn_distance, pooled

ROUNDS, IMAGES, CHANNELS = 3, 4, 8


def layer_at(mean: float, variance: float) -> nn.BatchNorm2d:
    """A layer whose running statistics lie near, but not at, those of the inputs."""
    layer = nn.BatchNorm2d(CHANNELS).eval().requires_grad_(False)
    layer.running_mean.normal_(mean, 0.3 * variance**0.5)
    layer.running_var.uniform_(0.5 * variance, 2 * variance)
    return layer


def inputs_at(mean: float, variance: float, layout: torch.memory_format = torch.channels_last) -> Tensor:
    inputs = torch.randn(ROUNDS * IMAGES, CHANNELS, 16, 12) * variance**0.5 + mean
    return inputs.contiguous(memory_format=layout).requires_grad_()


def exact(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each round and channel in float64."""
    rounds = inputs.double().unflatten(0, (ROUNDS, -1))
    variance, mean = torch.var_mean(rounds, dim=(1, 3, 4), correction=0)
    return mean, variance


def distance(layer: nn.BatchNorm2d, inputs: Tensor) -> Tensor:
    return bn_distance(layer, Moments(*RoundMoments.apply(inputs, layer.running_mean, ROUNDS, 1.0, None)))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (1000.0, 1.0), (-1000.0, 1.0), (1000.0, 1e-2)])
@pytest.mark.parametrize("autocast", [False, True])
def test_moments_and_gradients_are_those_of_float64_beside_any_mean(mean, variance, layout, autocast):
    torch.manual_seed(0)
    layer, inputs = layer_at(mean, variance), inputs_at(mean, variance, layout)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        offset, spread = RoundMoments.apply(inputs, layer.running_mean, ROUNDS, 1.0, None)
        ours = bn_distance(layer, Moments(offset, spread))
        found = torch.autograd.grad(ours.sum(), inputs)[0]
    means, variances = exact(inputs)
    torch.testing.assert_close(offset.double(), means - layer.running_mean, rtol=1e-4, atol=1e-5 * variance**0.5)
    torch.testing.assert_close(spread.double(), variances, rtol=1e-5, atol=0)
    plain = (means - layer.running_mean).norm(dim=1) + (variances - layer.running_var).norm(dim=1)
    torch.testing.assert_close(ours.double(), plain, rtol=1e-4, atol=0)
    expected = torch.autograd.grad(plain.sum(), inputs)[0]
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_a_running_mean_far_from_the_inputs_does_not_spoil_the_variance():
    """A layer that has seen no data has a running mean of zero."""
    torch.manual_seed(0)
    inputs = inputs_at(1000.0, 1.0)
    offset, variance = RoundMoments.apply(inputs, torch.zeros(CHANNELS), ROUNDS, 1.0, None)
    means, variances = exact(inputs)
    torch.testing.assert_close(offset.double(), means, rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), variances, rtol=1e-5, atol=0)


def test_parts_of_rounds_have_the_moments_and_the_gradient_of_the_whole_beside_a_large_mean():
    torch.manual_seed(0)
    layer, inputs = layer_at(1000.0, 1e-2), inputs_at(1000.0, 1e-2)
    whole = torch.autograd.grad(distance(layer, inputs).sum(), inputs)[0]
    images = inputs.detach().unflatten(0, (ROUNDS, IMAGES))
    parts = [(0.25, images[:, :1]), (0.75, images[:, 1:])]
    moments = [
        (share, [Moments(*RoundMoments.apply(part.flatten(0, 1), layer.running_mean, ROUNDS, 1.0, None))])
        for share, part in parts
    ]
    known = pooled(moments)[0]
    torch.testing.assert_close(known.variance.double(), exact(inputs)[1], rtol=1e-5, atol=0)
    found = []
    for share, part in parts:
        rows = part.flatten(0, 1).requires_grad_()
        measured = Moments(*RoundMoments.apply(rows, layer.running_mean, ROUNDS, share, known))
        gradient = torch.autograd.grad(bn_distance(layer, measured).sum(), rows)[0]
        found.append(gradient.unflatten(0, (ROUNDS, -1)))
    assert (torch.cat(found, dim=1).flatten(0, 1) - whole).norm() < 1e-4 * whole.norm()
