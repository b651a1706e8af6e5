"""Last layers of pretrained networks: a multinomial logistic regression on the features that they have learnt."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from infer.core.progress import counted, track
from infer.models.classifier import Classifier
from infer.models.pretrained import Pretrained, is_frozen, linear_head
from infer.models.weights import features
from infer.training.source import Source

log = logging.getLogger("infer")

_BATCH = 64
_HELD_OUT = 0.2
"""Share of the images that the strength of the L2 penalty is chosen on."""
_STRENGTHS = (100.0, 10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
_ITERATIONS = 100


class Head(NamedTuple):
    """A last layer: weight float32 [C, D], bias float32 [C], and the seconds that it took."""

    weight: Tensor
    bias: Tensor
    seconds: float


class Examples(NamedTuple):
    """Features float32 [N, D] of images, their target probabilities float32 [N, C], and the seconds that they took."""

    features: Tensor
    targets: Tensor
    seconds: float


def fit_last_layer(
    module: Classifier,
    source: Source,
    draw: Callable[[int], Tensor],
    seed: int,
    device: torch.device,
    title: str,
    from_first: Callable[[str, Callable[[], Head]], Head],
) -> float:
    """Fit the last layer of a pretrained network to the images of the batches that are drawn.

    Args:
        module, source, seed, device, title: as of :func:`fit_head`.
        draw: the indices of the batch of a step.
        from_first: of the context; one process fits the layer for all.

    Returns:
        The seconds; 0 where the network of ``module`` is not pretrained, or its last layer is not linear.
    """
    if not isinstance(module.network, Pretrained) or linear_head(module.network) is None:
        return 0.0
    indices = seen_images(draw, module.task.steps)
    stage = title if is_frozen(module.network) else f"{title}, last layer"  # the rest of the training has the title
    head = from_first(stage, lambda: fit_head(module, source, indices, seed, device, stage))
    set_head(module, head)
    return head.seconds


def seen_images(draw: Callable[[int], Tensor], steps: int) -> Tensor:
    """Return the indices of the images in the batches of ``steps`` steps, each once and in ascending order."""
    seen = draw(0).unique()
    for step in range(1, steps):
        more = torch.cat([seen, draw(step)]).unique()
        if len(more) == len(seen):  # batches are shuffled passes: every image was drawn
            break
        seen = more
    return seen


def fit_head(module: Classifier, source: Source, indices: Tensor, seed: int, device: torch.device, title: str) -> Head:
    """Fit the last layer of ``module``'s pretrained network, which it does not change.

    The loss is the cross-entropy between the targets and the predictions, both at the module's temperature, with an L2
    penalty on the weights of standardised features. Its strength is the one with the lowest loss on held-out images.
    The images are neither augmented nor mixed.

    Args:
        module: with a pretrained network of images in the data's normalisation.
        source: of the images and labels.
        indices: of the images to learn from, int64 [N].
        seed: of the choice of held-out images.
        device: that everything is computed on.
        title: in the progress.
    """
    found = _examples(module, source, indices, device, title)
    began = time.perf_counter()
    inputs, targets = found.features.to(device), found.targets.to(device)
    std, mean = torch.std_mean(inputs, dim=0, correction=0)
    std = torch.where(std > 0, std, 1)
    offset = module.log_shares.to(device) / module.temperature
    weight, bias = _chosen((inputs - mean) / std, targets, offset, seed)
    weight = weight / std
    bias = bias - weight @ mean
    seconds = found.seconds + time.perf_counter() - began
    return Head((module.temperature * weight).cpu(), (module.temperature * bias).cpu(), seconds)


def set_head(module: Classifier, head: Head) -> None:
    """Give the network of ``module`` its last layer."""
    layer = linear_head(module.network)
    assert layer is not None
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(head.weight.view_as(layer.weight))
        layer.bias.copy_(head.bias)


_latest: list[tuple[Any, ...]] = []
"""The latest images by (reference, network, indices), and their examples: seeds of a row share them."""


def _examples(module: Classifier, source: Source, indices: Tensor, device: torch.device, title: str) -> Examples:
    """Return the examples of a module, those of the latest call where source, network and images are the same."""
    assert isinstance(module.network, Pretrained)
    for reference, chosen, known, examples in _latest:
        if reference() is source and chosen == module.network.chosen and torch.equal(known, indices):
            return examples
    began, targets = time.perf_counter(), []
    module.to(device).eval()
    module.on_fit_start()  # moves the teachers of dynamic labels

    def batches() -> Iterator[Tensor]:
        for part in track(indices.split(_BATCH), title):
            images, labels = source[part]
            inputs = module.inputs(images.to(device))
            targets.append(module.target(inputs, labels.to(device)).float().cpu())
            yield inputs

    found = features(module.network, batches())
    examples = Examples(found, torch.cat(targets), time.perf_counter() - began)
    _latest[:] = [(weakref.ref(source, lambda _: _latest.clear()), module.network.chosen, indices, examples)]
    return examples


def _chosen(inputs: Tensor, targets: Tensor, offset: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Fit all examples with the strength that is best on held-out ones."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed)).to(inputs.device)
    held, kept = order.split([size := max(1, int(_HELD_OUT * len(order))), len(order) - size])
    start = inputs.new_zeros(targets.shape[1], inputs.shape[1]), inputs.new_zeros(targets.shape[1])
    lowest, best, strength = float("inf"), start, _STRENGTHS[0]
    layer = start
    for each in _STRENGTHS:
        layer = _regression(inputs[kept], targets[kept], offset, each, layer)
        loss = _loss(inputs[held], targets[held], offset, *layer).item()
        if loss >= lowest:  # weaker penalties fit the kept images alone
            break
        lowest, best, strength = loss, layer, each
    log.info("The last layer: %s, L2 of %g", counted(len(inputs), "image"), strength)
    return _regression(inputs, targets, offset, strength, best)


def _regression(
    inputs: Tensor, targets: Tensor, offset: Tensor, strength: float, start: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return weight [C, D] and bias [C] of the lowest loss, found by L-BFGS from those of ``start``."""
    weight, bias = (part.detach().clone().requires_grad_() for part in start)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def penalised() -> Tensor:
        optimiser.zero_grad()
        loss = _loss(inputs, targets, offset, weight, bias) + strength / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(penalised)
    return weight.detach(), bias.detach()


def _loss(inputs: Tensor, targets: Tensor, offset: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.cross_entropy(inputs @ weight.T + (bias + offset), targets)
