"""The paper in one file, against a plain statement of it: loops, float64, one round at a time."""

import math

import pytest
import torch
from torch import nn

from infer.cli.schema import backbone
from infer.core import ufc
from infer.models.modules import CompensatorModule, Passes, UFCOptions
from infer.models.networks import build, frozen

ROUNDS, CLASSES, SIDE = 3, 4, 16


def network(name: str = "convnet_narrow", channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    options = backbone(name)
    model = build(options.model, options.options, options.stem, CLASSES, channels, SIDE)
    for layer in ufc.batch_norms(model):  # statistics that no input matches, one a layer
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return frozen(model)


def images_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(ROUNDS, CLASSES, 3, SIDE, SIDE, generator=generator) + 0.5
    return images, torch.arange(CLASSES).expand(ROUNDS, -1)


def plain_objective(model: nn.Module, images, targets, bn_weight, first_weight) -> tuple[float, float, float]:
    """One round by the formula: cross-entropy averaged over the images, distances summed over the layers."""
    inputs = {}
    layers = ufc.batch_norms(model)
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: inputs.__setitem__(layer, args[0].double()))
        for layer in layers
    ]
    logits = model(images).double()
    for hook in hooks:
        hook.remove()
    entropy = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        entropy += math.log(sum(math.exp(value - row[target]) for value in row)) / len(targets)
    bn = 0.0
    for number, layer in enumerate(layers):
        mean_gap, var_gap = 0.0, 0.0
        for channel in range(inputs[layer].shape[1]):
            values = inputs[layer][:, channel].flatten()
            mean = values.sum() / len(values)
            variance = ((values - mean) ** 2).sum() / len(values)
            mean_gap += float(layer.running_mean[channel] - mean) ** 2
            var_gap += float(layer.running_var[channel] - variance) ** 2
        bn += (first_weight if number == 0 else 1.0) * (math.sqrt(mean_gap) + math.sqrt(var_gap))
    return entropy + bn_weight * bn, entropy, bn


@pytest.mark.parametrize("name", ["convnet_narrow", "resnet_narrow", "mobilenetv2", "efficientnet_b0", "shufflenetv2"])
def test_objective_is_the_formula_for_each_round_and_alone(name):
    model = network(name)
    images, targets = images_and_targets()
    together = ufc.Objective(model, 0.7, 10.0)(images, targets)
    for k in range(ROUNDS):
        alone = ufc.Objective(model, 0.7, 10.0)(images[k : k + 1], targets[k : k + 1])
        plain = plain_objective(model, images[k], targets[k], 0.7, 10.0)
        for value, single, expected in zip(together, alone, plain, strict=True):
            assert value[k].item() == pytest.approx(expected, rel=1e-5)
            assert single[0].item() == pytest.approx(expected, rel=1e-5)


def distance(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Of one layer alone: a network that is this layer, and cross-entropies that weigh nothing."""
    alone = ufc.Objective(nn.Sequential(layer, nn.Flatten()), 1.0, 1.0)
    alone.teacher.append(nn.Linear(inputs[0].numel(), CLASSES).requires_grad_(False))
    return alone(inputs.unflatten(0, (ROUNDS, -1)), torch.zeros(ROUNDS, CLASSES, dtype=torch.int64)).bn


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradient_of_the_distance_is_that_of_var_mean(layout):
    torch.manual_seed(0)
    layer = network().get_submodule("1")
    inputs = (torch.randn(ROUNDS * CLASSES, 32, 7, 5) * 2 + 1).contiguous(memory_format=layout).requires_grad_()
    ours = torch.autograd.grad(distance(layer, inputs).sum(), inputs)[0]
    var, mean = torch.var_mean(inputs.double().unflatten(0, (ROUNDS, -1)), dim=(1, 3, 4), correction=0)
    plain = ((mean - layer.running_mean).norm(dim=1) + (var - layer.running_var).norm(dim=1)).sum()
    expected = torch.autograd.grad(plain, inputs)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-8)


def test_statistics_stay_in_float32_under_mixed_precision():
    model = network()
    images, targets = images_and_targets()
    exact = ufc.Objective(model, 1.0, 10.0)(images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ufc.Objective(model, 1.0, 10.0)(images, targets)
    assert mixed.loss.dtype == mixed.bn.dtype == mixed.cross_entropy.dtype == torch.float32
    torch.testing.assert_close(mixed.loss, exact.loss, rtol=0.02, atol=0.02)
    layer = ufc.batch_norms(model)[0]
    inputs = torch.randn(ROUNDS * CLASSES, 32, 8, 8) + 10  # a mean that 16 bits would lose the variance beside
    outside = distance(layer, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(distance(layer, inputs), outside, rtol=1e-6, atol=0)


def test_what_is_optimised_is_what_is_stored():
    """The forward pass sees the very 8-bit image that reading composes; without it the loss would be another."""
    generator = torch.Generator().manual_seed(2)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    naturals = torch.randint(256, (ROUNDS, CLASSES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    u = torch.randn(ROUNDS, 3, SIDE, SIDE, generator=generator) * 3
    seen = ufc.compose(naturals.float(), ufc.stored(u, std).unsqueeze(1))
    kept = ufc.quantise(u, std)
    read = ufc.compose(naturals.short(), ufc.STEP * kept.short().unsqueeze(1))
    assert torch.equal(seen, read.float())
    assert (int(kept.min()), int(kept.max())) == (-127, 127)  # strong enough to meet both limits
    model = network()
    _, targets = images_and_targets()
    losses = [
        ufc.Objective(model, 1.0, 10.0)(ufc.normalise(levels, mean, std), targets).loss
        for levels in (seen, read, naturals.float() + (u * 255 * std.view(-1, 1, 1)).unsqueeze(1))
    ]
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2], rtol=1e-3)


def test_rounding_passes_the_gradient_and_the_limits_stop_it():
    std = torch.tensor([0.25])
    u = torch.tensor([0.3, 50.0]).view(1, 1, 1, 2).requires_grad_()
    ufc.stored(u, std).sum().backward()
    assert u.grad.flatten().tolist() == [255 * 0.25, 0.0]


def compensators(model: nn.Module, naturals, targets, steps: int = 8) -> torch.Tensor:
    """Adam on the objective of ``lit``, by a plain loop."""
    moments = (torch.full((3,), 0.5), torch.full((3,), 0.25))
    module = CompensatorModule("t", model, naturals, targets, moments, UFCOptions(steps, 0.25, 1.0, 10.0, 0))
    configured = module.configure_optimizers()
    adam, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for _ in range(steps):
        composed = ufc.compose(naturals.float(), ufc.stored(module.u, moments[1]).unsqueeze(1))
        images = ufc.normalise(composed, *moments)
        adam.zero_grad()
        ufc.Objective(model, 1.0, 10.0)(images, targets).loss.sum().backward()
        adam.step()
        schedule.step()
    return module.u.detach()


def test_all_rounds_at_once_are_each_round_alone():
    model = network()
    _, targets = images_and_targets()
    naturals = torch.randint(256, (ROUNDS, CLASSES, 3, SIDE, SIDE), dtype=torch.uint8)
    together = compensators(model, naturals, targets)
    assert together.abs().max() > 0.5  # they moved
    for k in range(ROUNDS):
        alone = compensators(model, naturals[k : k + 1], targets[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["convnet_narrow", "efficientnet_b0"])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_round_in_parts_has_the_gradient_of_the_whole(name, classes):
    """The exact two-pass scheme: parts of unequal sizes, several rounds at once."""
    model = network(name)
    _, targets = images_and_targets()
    naturals = torch.randint(256, (ROUNDS, CLASSES, 3, SIDE, SIDE), dtype=torch.uint8)
    moments = (torch.full((3,), 0.5), torch.full((3,), 0.25))
    found = []
    for passes in (Passes(ROUNDS, CLASSES), Passes(ROUNDS, classes), Passes(1, classes)):
        module = CompensatorModule("t", model, naturals, targets, moments, UFCOptions(1, 0.25, 0.7, 10.0, 0), passes)
        module.u.data.normal_(generator=torch.Generator().manual_seed(3))
        terms = [
            module.descend(slice(i, i + passes.rounds), lambda images: images, torch.Tensor.backward)
            for i in range(0, ROUNDS, passes.rounds)
        ]
        found.append((module.u.grad, *(torch.cat(term) for term in zip(*terms, strict=True))))
    for gradient, *terms in found[1:]:
        assert (gradient - found[0][0]).norm() < 1e-5 * found[0][0].norm()
        for term, expected in zip(terms, found[0][1:], strict=True):
            torch.testing.assert_close(term, expected, rtol=1e-5, atol=1e-6)


def test_gradients_reach_only_u():
    model = network()
    images, targets = images_and_targets()
    u = torch.zeros(ROUNDS, 3, SIDE, SIDE, requires_grad=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    terms = ufc.Objective(model, 1.0, 10.0)(images + u.unsqueeze(1), targets)
    terms.loss.sum().backward()
    assert u.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_loss_falls():
    model = network()
    images, targets = images_and_targets()
    naturals = torch.randint(256, (ROUNDS, CLASSES, 3, SIDE, SIDE), dtype=torch.uint8)
    moments = (torch.full((3,), 0.5), torch.full((3,), 0.25))

    def loss(u):
        composed = ufc.compose(naturals.float(), ufc.stored(u, moments[1]).unsqueeze(1))
        return ufc.Objective(model, 1.0, 10.0)(ufc.normalise(composed, *moments), targets).loss

    after = loss(compensators(model, naturals, targets, steps=30))
    assert (after < 0.9 * loss(torch.zeros_like(images[:, 0]))).all()


def test_the_paper_fits_on_a_few_pages():
    with open(ufc.__file__) as file:
        assert len(file.readlines()) < 200
