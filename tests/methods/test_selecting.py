"""The naturals of each method, against plain statements of its rule."""

import copy
import logging
from dataclasses import replace

import pytest
import torch

from infer.core import progress
from infer.core.augment import DRAWS, augment
from infer.core.errors import UserError
from infer.core.ufc import Objective, normalise
from infer.data import Pictures, Splits
from infer.methods import herding, k_center, rded
from infer.methods.options import METHODS, method_options
from infer.methods.proxy import ProxyModel
from infer.methods.selection import SelectionInputs, round_robin
from infer.models.networks import build
from infer.models.options import BackboneOptions
from infer.models.weights import frozen

SIDE, CLASSES = 16, 3

SMALL = {
    "sre2l": {"steps": 20, "lr": 0.1, "batch": 7, "bn_weight": 1.0, "first_weight": 10.0, "jitter": 1},
    "rded": {"candidates": 12, "crops": 2, "least": 0.5, "factor": 2},
}
"""Options with which a method takes a moment."""


def select(inputs, name, **values):
    """The naturals of a method, with its small options and ``values``."""
    return METHODS[name].select(inputs, method_options(name, {**SMALL.get(name, {}), **values}))


class BrightnessProxy(ProxyModel):
    """Stand-in for a proxy model: its reducible loss is the brightness."""

    def reducible_loss(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().mean(dim=(1, 2, 3))


@pytest.fixture(scope="module")
def inputs() -> SelectionInputs:
    """Three classes of noise of different colours, two small teachers, and a proxy model that reads the brightness."""
    torch.manual_seed(0)
    targets = torch.arange(90) % CLASSES
    levels = 60 + 60 * torch.nn.functional.one_hot(targets, 3).float()[:, :, None, None]
    images = (levels + 30 * torch.randn(90, 3, SIDE, SIDE)).clamp(0, 255).to(torch.uint8)
    part = Pictures(images, targets)
    data = Splits("noise", ["r", "g", "b"], part, part)
    small = BackboneOptions("small", "convnet", options={"depth": 2, "width": 8, "norm": "batch"})
    teachers = []
    for _ in range(2):
        network = build(small, CLASSES, 3, SIDE)
        network(normalise(images, *data.moments))  # sets the running statistics to those of the data
        teachers.append(frozen(network))
    device = torch.device("cpu")
    proxy = BrightnessProxy(teachers[0], teachers, data.moments, 4.0, device)
    order = [(targets == label).nonzero().flatten().flip(0) for label in range(CLASSES)]
    return SelectionInputs(data, order, 11, torch.ones(CLASSES), teachers, 0, device, proxy)


@pytest.mark.parametrize("name", METHODS)
def test_fewer_naturals_than_classes(inputs, name):
    naturals = select(replace(inputs, count=2), name)
    assert (naturals.images.shape, naturals.targets.tolist()) == ((2, 3, 16, 16), [0, 1])


@pytest.mark.parametrize("name", METHODS)
def test_naturals_alternate_between_classes_and_repeat_exactly(inputs, name):
    first, again = (select(inputs, name) for _ in range(2))
    assert first.images.shape == (11, 3, 16, 16)
    assert first.images.dtype == torch.uint8
    assert first.targets.tolist() == [0, 1, 2] * 3 + [0, 1]
    assert torch.equal(first.images, again.images)
    if name not in ("sre2l", "rded"):  # distinct train images
        assert len(first.images.flatten(1).unique(dim=0)) == 11
        known = {image.tobytes() for image in inputs.data.train.images.numpy()}
        assert {image.tobytes() for image in first.images.numpy()} <= known


@pytest.mark.parametrize("name", METHODS)
def test_weights_distribute_the_naturals_over_classes(inputs, name):
    weighted = replace(inputs, count=12, weights=torch.tensor([2.0, 1.0, 1.0]))
    assert select(weighted, name).targets.bincount().tolist() == [6, 3, 3]


def test_round_robin_takes_one_of_each_class_then_from_those_that_have_more():
    targets = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    order = [torch.tensor([4, 3, 2, 1, 0]), torch.tensor([5, 6]), torch.tensor([7, 8, 9, 10])]
    assert round_robin(order, torch.ones(3))[:10].tolist() == [4, 5, 7, 3, 6, 8, 2, 9, 1, 10]
    sizes = torch.tensor([5.0, 2.0, 4.0])
    shared = round_robin(order, sizes)
    assert shared[:3].tolist() == [4, 5, 7]  # at least one of each class
    assert sorted(shared.tolist()) == list(range(11))
    for count in (4, 6, 8, 11):
        taken = targets[shared[:count]].bincount(minlength=3)
        assert (taken - count * sizes / 11).abs().max() <= 1


@pytest.mark.parametrize("name", ["random", "infer"])
def test_random_naturals_are_the_first_of_each_class_in_the_seeds_order(inputs, name):
    naturals = select(inputs, name)
    for label in range(3):
        images = naturals.images[naturals.targets == label]
        assert torch.equal(images, inputs.data.train.images[inputs.order[label][: len(images)]])


def test_herding_is_the_greedy_choice():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    unit = features / features.norm(dim=1, keepdim=True)
    picked: list[int] = []
    for _ in range(8):
        means = {i: unit[[*picked, i]].mean(dim=0) for i in range(30) if i not in picked}
        picked.append(min(means, key=lambda i: float((means[i] - unit.mean(dim=0)).norm())))
    assert herding.greedy_order(features, 8).tolist() == picked
    assert sorted(herding.greedy_order(features, 99).tolist()) == list(range(30))


def test_k_center_always_takes_the_farthest():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(2))
    picked = [0]
    for _ in range(7):
        gaps = {i: min(float((features[i] - features[j]).norm()) for j in picked) for i in range(30) if i not in picked}
        picked.append(max(gaps, key=gaps.get))
    assert k_center.greedy_order(features, 8).tolist() == picked
    assert sorted(k_center.greedy_order(features, 99).tolist()) == list(range(30))
    assert sorted(k_center.greedy_order(torch.ones(5, 3), 4).tolist()) == [0, 1, 2, 3]  # equal pictures, each once


def test_features_are_the_inputs_of_the_last_layer(inputs):
    some = torch.tensor([3, 50, 7])
    teacher = inputs.teachers[0]
    logits = teacher(inputs.normalised(inputs.data.train.images[some]))
    torch.testing.assert_close(teacher[-1](inputs.features(some)), logits)


@pytest.mark.parametrize("side", [8, 9])
def test_crops_are_halved_and_stitched(side):
    crops = torch.tensor([10, 20, 30, 40, 50, 60, 70, 80], dtype=torch.uint8).view(8, 1, 1, 1)
    images = rded.stitch(crops.expand(-1, 3, side, side), 2)
    half = round(side / 2)
    assert images.shape == (2, 3, side, side)
    corners = [images[1, 0, 0, 0], images[1, 0, 0, -1], images[1, 0, -1, 0], images[1, 0, -1, -1]]
    assert [int(corner) for corner in corners] == [50, 60, 70, 80]
    assert (images[0, :, :half, :half] == 10).all()


def test_rded_takes_the_crops_with_the_lowest_loss_of_all_teachers(inputs):
    generator = torch.Generator().manual_seed(inputs.seed)
    naturals = select(replace(inputs, count=9), "rded", candidates=12, crops=2, factor=1)
    for label, members in enumerate(inputs.order):
        images = inputs.data.train.images[members[:12]]
        crops = [augment(images, torch.rand(12, DRAWS, generator=generator), 0, False, 0.5) for _ in range(2)]
        best = []
        for pair in zip(*crops, strict=True):
            logits = [teacher(normalise(torch.stack(pair), *inputs.data.moments)) for teacher in inputs.teachers]
            losses = -torch.stack([each.softmax(dim=1)[:, label].log() for each in logits]).mean(dim=0)
            best.append((float(losses.min()), pair[int(losses.argmin())].round().to(torch.uint8)))
        wanted = [crop for _, crop in sorted(best, key=lambda scored: scored[0])[:3]]
        assert torch.equal(naturals.images[naturals.targets == label], torch.stack(wanted))


def test_sre2l_approaches_the_teachers_statistics(inputs):
    """The objective of its images, measured from outside, is far below that of the noise it starts from."""
    objective = Objective(inputs.teachers[0], 1.0, 10.0)
    targets = torch.arange(3).repeat(2)[None]  # a batch of seven holds two of each class
    losses = []
    for steps in (1, 300):
        naturals = select(inputs, "sre2l", jitter=0, steps=steps)
        images = normalise(naturals.images[:6], *inputs.data.moments)[None]
        losses.append(float(objective(images, targets).loss.detach()))
    assert losses[1] < 0.7 * losses[0]


def test_sre2l_stops_where_its_loss_is_no_number(inputs):
    """The teacher's first running mean is near the largest float32, whose square overflows."""
    teacher = copy.deepcopy(inputs.teachers[0])
    teacher[1].running_mean.fill_(3e38)
    with pytest.raises(
        UserError, match=r"^method=sre2l: the loss is no finite number at step 1 of 20; choose a smaller"
    ):
        select(replace(inputs, teachers=[teacher]), "sre2l")


def test_sre2l_reports_its_progress(inputs, monkeypatch, caplog):
    monkeypatch.setattr(progress, "_EVERY", -1)
    with progress.reporting(True), caplog.at_level(logging.INFO, "infer"):
        select(inputs, "sre2l")  # 12 images in batches of two for each of three classes
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(": step 20 of 20")[0] for line in lines[19::20]] == [
        "Optimising SRe2L images, batch 1 of 2",
        "Optimising SRe2L images, batch 2 of 2",
    ]


def test_infer_plus_leaves_out_the_easiest_and_no_class_runs_out(inputs):
    naturals = select(inputs, "infer_plus", easiest=0.5)
    for label in range(3):
        losses = inputs.reducible_loss(inputs.order[label])
        assert inputs.proxy.reducible_loss(naturals.images[naturals.targets == label]).min() >= losses.median()
    everything = replace(inputs, count=len(inputs.data.train))
    assert len(select(everything, "infer_plus", easiest=0.9).targets) == len(inputs.data.train)
    order = [members[:size] for members, size in zip(inputs.order, (2, 9, 30), strict=True)]
    uneven = replace(inputs, order=order, count=36)
    assert select(uneven, "infer_plus", easiest=0.9).targets.bincount().tolist() == [2, 9, 25]


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.creates])
def test_selected_pictures_are_named_with_the_reason_for_each(inputs, name):
    naturals = select(inputs, name)
    assert torch.equal(inputs.data.train.images[naturals.indices], naturals.images)
    assert torch.equal(inputs.data.train.targets[naturals.indices], naturals.targets)
    reasons = {
        "infer": "random",
        "random": "random",
        "herding": "keeps the mean of those chosen closest to the class mean (herding)",
        "k_center": "farthest from those chosen before it (k-center)",
    }
    wanted = [reasons.get(name, "chosen by the method")] * 11
    if name == "infer_plus":
        losses = inputs.reducible_loss(naturals.indices).tolist()
        wanted = [f"random among the harder ones: reducible loss {loss:.2f}" for loss in losses]
    assert naturals.reasons == wanted
    first = naturals.first(4)
    assert (len(first.images), first.indices.tolist(), first.reasons) == (4, naturals.indices[:4].tolist(), wanted[:4])


def test_a_class_that_leaves_none_out_is_random_and_created_images_are_no_pictures(inputs):
    everything = select(replace(inputs, count=len(inputs.data.train)), "infer_plus", easiest=0.9)
    assert set(everything.reasons) == {"random"}
    for name in ("sre2l", "rded"):
        created = select(inputs, name)
        assert (created.indices, created.reasons) == (None, ())
        assert created.first(2).indices is None


def test_infer_plus_without_a_proxy_model(inputs):
    without = replace(inputs, proxy=None)
    naturals = select(without, "infer_plus", easiest=0.0)
    assert torch.equal(naturals.images, select(inputs, "random").images)
    with pytest.raises(ValueError, match="needs a proxy model"):
        select(without, "infer_plus", easiest=0.5)
