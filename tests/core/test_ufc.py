"""The method of the paper, against a plain statement of it: loops, float64, one round at a time."""

import math

import pytest
import torch
from torch import nn

from infer.core import ufc
from infer.core.batch_norm import batch_norms
from infer.core.options import UFCOptions
from infer.models.networks import build
from infer.models.weights import frozen

ROUNDS, CLASSES, SIDE = 3, 4, 16
MEAN, STD = torch.full((3,), 0.5), torch.full((3,), 0.25)


def teacher(name: str = "convnet_narrow", channels: int = 3) -> nn.Module:
    """A frozen network whose running statistics differ from those of any input, and from layer to layer."""
    torch.manual_seed(0)
    model = build(name, CLASSES, channels, SIDE)
    for layer in batch_norms(model):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return frozen(model)


def images_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(ROUNDS, CLASSES, 3, SIDE, SIDE, generator=generator) + 0.5
    return images, torch.arange(CLASSES).expand(ROUNDS, -1)


def random_naturals() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(256, (ROUNDS, CLASSES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def identity(images: torch.Tensor) -> torch.Tensor:
    return images


def plain_objective(model: nn.Module, images, targets, bn_weight, first_weight) -> tuple[float, float, float]:
    """One round by the formula: cross-entropy averaged over the images, distances summed over the layers."""
    inputs = {}
    layers = batch_norms(model)
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
def test_objective_equals_the_formula_for_all_rounds_and_for_each_alone(name):
    model = teacher(name)
    images, targets = images_and_targets()
    together = ufc.Objective(model, 0.7, 10.0)(images, targets)
    for k in range(ROUNDS):
        alone = ufc.Objective(model, 0.7, 10.0)(images[k : k + 1], targets[k : k + 1])
        plain = plain_objective(model, images[k], targets[k], 0.7, 10.0)
        for value, single, expected in zip(together, alone, plain, strict=True):
            assert value[k].item() == pytest.approx(expected, rel=1e-5)
            assert single[0].item() == pytest.approx(expected, rel=1e-5)


def test_problem_minimises_the_formula_of_its_composed_images():
    """The terms of add_gradient, whole and in parts, are those of clip(P + u) with the weights of the options."""
    model, naturals = teacher(), random_naturals()
    _, targets = images_and_targets()
    options = UFCOptions(bn_weight=0.3, first_weight=7.0)
    problem = ufc.Problem(model, naturals, targets, options, MEAN, STD)
    u = torch.randn(ROUNDS, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)).requires_grad_()
    steps = (u.detach() * 255 * STD.view(-1, 1, 1) / 2).clamp(-127, 127).round()  # 8 bits, two levels a step
    levels = (naturals.float() + 2 * steps[:, None]).clamp(0, 255)
    images = (levels / 255 - MEAN.view(-1, 1, 1)) / STD.view(-1, 1, 1)
    for chunk in (CLASSES, 3):
        terms = problem.add_gradient(u, slice(None), identity, chunk)
        for k in range(ROUNDS):
            plain = plain_objective(model, images[k], targets[k], 0.3, 7.0)
            for value, expected in zip(terms, plain, strict=True):
                assert value[k].item() == pytest.approx(expected, rel=1e-5)


def distance(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The BatchNorm distance of a single layer."""
    single = ufc.Objective(nn.Sequential(layer, nn.Flatten()), 1.0, 1.0)
    single.teacher.append(nn.Linear(inputs[0].numel(), CLASSES).requires_grad_(False))
    return single(inputs.unflatten(0, (ROUNDS, -1)), torch.zeros(ROUNDS, CLASSES, dtype=torch.int64)).bn


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradient_of_the_distance_equals_that_of_var_mean(layout):
    torch.manual_seed(0)
    layer = teacher().get_submodule("1")
    inputs = (torch.randn(ROUNDS * CLASSES, 32, 7, 5) * 2 + 1).contiguous(memory_format=layout).requires_grad_()
    ours = torch.autograd.grad(distance(layer, inputs).sum(), inputs)[0]
    var, mean = torch.var_mean(inputs.double().unflatten(0, (ROUNDS, -1)), dim=(1, 3, 4), correction=0)
    plain = ((mean - layer.running_mean).norm(dim=1) + (var - layer.running_var).norm(dim=1)).sum()
    expected = torch.autograd.grad(plain, inputs)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-8)


def test_statistics_stay_in_float32_under_mixed_precision():
    model = teacher()
    images, targets = images_and_targets()
    exact = ufc.Objective(model, 1.0, 10.0)(images, targets)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ufc.Objective(model, 1.0, 10.0)(images, targets)
    assert mixed.loss.dtype == mixed.bn.dtype == mixed.cross_entropy.dtype == torch.float32
    torch.testing.assert_close(mixed.loss, exact.loss, rtol=0.02, atol=0.02)
    layer = batch_norms(model)[0]
    inputs = torch.randn(ROUNDS * CLASSES, 32, 8, 8) + 10  # in 16 bits the variance is lost beside such a mean
    outside = distance(layer, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(distance(layer, inputs), outside, rtol=1e-6, atol=0)


def test_the_optimised_images_are_the_stored_ones():
    """The forward pass sees the same 8-bit image that a reader composes; without the rounding the loss differs."""
    generator = torch.Generator().manual_seed(2)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    naturals = torch.randint(256, (ROUNDS, CLASSES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    u = torch.randn(ROUNDS, 3, SIDE, SIDE, generator=generator) * 3
    seen = ufc.compose(naturals.float(), ufc.stored(u, std).unsqueeze(1))
    kept = ufc.quantise(u, std)
    read = ufc.compose(naturals.short(), ufc.STEP * kept.short().unsqueeze(1))
    assert torch.equal(seen, read.float())
    assert (int(kept.min()), int(kept.max())) == (-127, 127)  # strong enough to meet both limits
    model = teacher()
    _, targets = images_and_targets()
    losses = [
        ufc.Objective(model, 1.0, 10.0)(ufc.normalise(levels, mean, std), targets).loss
        for levels in (seen, read, naturals.float() + (u * 255 * std.view(-1, 1, 1)).unsqueeze(1))
    ]
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2], rtol=1e-3)


def test_rounding_passes_the_gradient_and_clipping_stops_it():
    std = torch.tensor([0.25])
    u = torch.tensor([0.3, 50.0]).view(1, 1, 1, 2).requires_grad_()
    ufc.stored(u, std).sum().backward()
    assert u.grad.flatten().tolist() == [255 * 0.25, 0.0]


def adam_by_hand(model: nn.Module, naturals, targets, steps: int = 8) -> torch.Tensor:
    """Adam on the objective by a plain loop, with the problem's optimiser and without its transform."""
    problem = ufc.Problem(model, naturals, targets, UFCOptions(steps=steps, jitter=0), MEAN, STD)
    u = nn.Parameter(problem.zeros())
    adam, schedule = problem.optimiser(u)
    for _ in range(steps):
        composed = ufc.compose(naturals.float(), ufc.stored(u, STD).unsqueeze(1))
        images = ufc.normalise(composed, MEAN, STD)
        adam.zero_grad()
        ufc.Objective(model, 1.0, 10.0)(images, targets).loss.sum().backward()
        adam.step()
        schedule.step()
    return u.detach()


def test_all_rounds_at_once_give_what_each_round_alone_gives():
    model, naturals = teacher(), random_naturals()
    _, targets = images_and_targets()
    together = adam_by_hand(model, naturals, targets)
    assert together.abs().max() > 0.5  # the optimisation moved
    for k in range(ROUNDS):
        alone = adam_by_hand(model, naturals[k : k + 1], targets[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-3)


def test_optimise_is_adam_on_the_objective():
    model, naturals = teacher(), random_naturals()
    _, targets = images_and_targets()
    found = ufc.optimise(model, naturals, targets, UFCOptions(steps=8, jitter=0), MEAN, STD)
    torch.testing.assert_close(found, adam_by_hand(model, naturals, targets), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["convnet_narrow", "efficientnet_b0"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_round_in_parts_has_the_gradient_of_the_whole(name, chunk):
    """The exact two-pass scheme: parts of unequal sizes, several rounds at once."""
    model, naturals = teacher(name), random_naturals()
    _, targets = images_and_targets()
    problem = ufc.Problem(model, naturals, targets, UFCOptions(bn_weight=0.7), MEAN, STD)
    found = []
    for rounds, images in ((ROUNDS, CLASSES), (ROUNDS, chunk), (1, chunk)):
        u = torch.empty(ROUNDS, 3, SIDE, SIDE).normal_(generator=torch.Generator().manual_seed(3)).requires_grad_()
        terms = [
            problem.add_gradient(u, slice(first, first + rounds), identity, images)
            for first in range(0, ROUNDS, rounds)
        ]
        found.append((u.grad, *(torch.cat(term) for term in zip(*terms, strict=True))))
    for gradient, *terms in found[1:]:
        assert (gradient - found[0][0]).norm() < 1e-5 * found[0][0].norm()
        for term, expected in zip(terms, found[0][1:], strict=True):
            torch.testing.assert_close(term, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3])
def test_optimise_in_parts_ends_as_the_whole_does(chunk):
    model, naturals = teacher(), random_naturals()
    _, targets = images_and_targets()
    found = []
    for images in (None, chunk):
        torch.manual_seed(0)  # of the jitter
        found.append(ufc.optimise(model, naturals, targets, UFCOptions(steps=5, jitter=2), MEAN, STD, images))
    assert found[0].abs().max() > 0.5
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-4)


def test_gradients_reach_only_u():
    model = teacher()
    images, targets = images_and_targets()
    u = torch.zeros(ROUNDS, 3, SIDE, SIDE, requires_grad=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    terms = ufc.Objective(model, 1.0, 10.0)(images + u.unsqueeze(1), targets)
    terms.loss.sum().backward()
    assert u.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_optimise_leaves_the_teacher_as_it_was():
    """A teacher in train mode with trainable weights: neither the mode, the weights, nor the hooks change."""
    model = teacher().requires_grad_(True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _, targets = images_and_targets()
    ufc.optimise(model, random_naturals(), targets, UFCOptions(steps=2), MEAN, STD)
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_the_loss_falls():
    model, naturals = teacher(), random_naturals()
    images, targets = images_and_targets()

    def loss(u):
        composed = ufc.compose(naturals.float(), ufc.stored(u, STD).unsqueeze(1))
        return ufc.Objective(model, 1.0, 10.0)(ufc.normalise(composed, MEAN, STD), targets).loss

    after = loss(adam_by_hand(model, naturals, targets, steps=30))
    assert (after < 0.9 * loss(torch.zeros_like(images[:, 0]))).all()


def test_the_paper_fits_on_a_few_pages():
    """The file of the method, its documented loop included."""
    with open(ufc.__file__) as file:
        assert len(file.readlines()) < 250
