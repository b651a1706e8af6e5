"""What each method stores, against plain statements of what it is to store."""

import logging
from dataclasses import replace

import pytest
import torch

from infer.core import progress
from infer.core.ufc import Objective, normalise
from infer.data import Pictures, Splits
from infer.methods import METHODS, Given, herding, infer_plus, k_center, rded
from infer.models.networks import build, frozen

SIDE, CLASSES = 16, 3


@pytest.fixture(scope="module")
def given() -> Given:
    """Three classes of noise of their own colours, and two small networks."""
    torch.manual_seed(0)
    targets = torch.arange(90) % CLASSES
    levels = 60 + 60 * torch.nn.functional.one_hot(targets, 3).float()[:, :, None, None]
    images = (levels + 30 * torch.randn(90, 3, SIDE, SIDE)).clamp(0, 255).to(torch.uint8)
    part = Pictures(images, targets)
    data = Splits("noise", ["r", "g", "b"], part, part)
    options = {"depth": 2, "width": 8, "norm": "batch"}
    teachers = []
    for _ in range(2):
        network = build("convnet", options, "auto", CLASSES, 3, SIDE)
        network(normalise(images, *data.moments))  # running statistics that are the data's
        teachers.append(frozen(network))
    return Given(
        data, data.picks(0), 11, torch.ones(len(data.classes)), teachers, 0, torch.device("cpu"), scout=brightness
    )


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Stands for a scout: to it a bright picture tells more."""
    return images.float().mean(dim=(1, 2, 3))


OPTIONS = {
    "sre2l": {"steps": 20, "lr": 0.1, "batch": 7, "bn_weight": 1.0, "first_weight": 10.0, "jitter": 1},
    "infer_plus": {"easiest": 0.35},
    "rded": {"candidates": 12, "crops": 2, "least": 0.5, "factor": 2},
}


@pytest.mark.parametrize("name", METHODS)
def test_fewer_naturals_than_classes(given, name):
    made = METHODS[name](replace(given, count=2), **OPTIONS.get(name, {}))
    assert (made.images.shape, made.targets.tolist()) == ((2, 3, SIDE, SIDE), [0, 1])


@pytest.mark.parametrize("name", METHODS)
def test_naturals_come_class_after_class_and_the_same_each_time(given, name):
    first, again = (METHODS[name](given, **OPTIONS.get(name, {})) for _ in range(2))
    assert first.images.shape == (11, 3, SIDE, SIDE)
    assert first.images.dtype == torch.uint8
    assert first.targets.tolist() == [0, 1, 2] * 3 + [0, 1]
    assert torch.equal(first.images, again.images)
    if name not in ("sre2l", "rded"):  # pictures as they are, each once
        assert len(first.images.flatten(1).unique(dim=0)) == 11
        known = {image.tobytes() for image in given.data.train.images.numpy()}
        assert {image.tobytes() for image in first.images.numpy()} <= known


def test_herding_is_the_greedy_choice():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    unit = features / features.norm(dim=1, keepdim=True)
    picked: list[int] = []
    for _ in range(8):
        means = {i: unit[[*picked, i]].mean(dim=0) for i in range(30) if i not in picked}
        picked.append(min(means, key=lambda i: float((means[i] - unit.mean(dim=0)).norm())))
    assert herding.order(features, 8).tolist() == picked
    assert sorted(herding.order(features, 99).tolist()) == list(range(30))


def test_k_center_always_takes_the_farthest():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(2))
    picked = [0]
    for _ in range(7):
        gaps = {i: min(float((features[i] - features[j]).norm()) for j in picked) for i in range(30) if i not in picked}
        picked.append(max(gaps, key=gaps.get))
    assert k_center.order(features, 8).tolist() == picked
    assert sorted(k_center.order(features, 99).tolist()) == list(range(30))


def test_features_are_what_the_last_layer_is_given(given):
    some = torch.tensor([3, 50, 7])
    teacher = given.teachers[0]
    logits = teacher(given.inputs(given.data.train.images[some]))
    torch.testing.assert_close(teacher[-1](given.features(some)), logits)


@pytest.mark.parametrize("side", [8, 9])
def test_patches_are_halved_and_stitched(side):
    patches = torch.tensor([10, 20, 30, 40, 50, 60, 70, 80], dtype=torch.uint8).view(8, 1, 1, 1)
    images = rded.stitch(patches.expand(-1, 3, side, side), 2)
    half = round(side / 2)
    assert images.shape == (2, 3, side, side)
    corners = [images[1, 0, 0, 0], images[1, 0, 0, -1], images[1, 0, -1, 0], images[1, 0, -1, -1]]
    assert [int(corner) for corner in corners] == [50, 60, 70, 80]
    assert (images[0, :, :half, :half] == 10).all()


def test_sre2l_nears_the_teachers_statistics(given):
    """Its objective, measured from outside: far below that of the noise it starts from."""
    objective = Objective(given.teachers[0], 1.0, 10.0)
    targets = torch.arange(CLASSES).repeat(2)[None]  # of each class as many as fit a batch of seven
    losses = []
    for steps in (1, 300):
        made = METHODS["sre2l"](given, **{**OPTIONS["sre2l"], "jitter": 0, "steps": steps})
        inputs = normalise(made.images[: 2 * CLASSES], *given.data.moments)[None]
        losses.append(float(objective(inputs, targets).loss.detach()))
    assert losses[1] < 0.7 * losses[0]


def test_what_tells_a_scout_is_its_miss_less_the_teachers_own():
    torch.manual_seed(0)
    scout, teachers = torch.randn(4, 5), 3 * torch.randn(2, 4, 5)
    found = infer_plus.telling(scout, teachers, 4.0)
    for image in range(4):
        known = (teachers[:, image] / 4).softmax(dim=1)
        label = known.mean(dim=0)
        miss, own = ((label * (label / p).log()).sum(dim=-1) for p in ((scout[image] / 4).softmax(dim=0), known))
        assert float(found[image]) == pytest.approx(float(miss - own.mean()), abs=1e-6)
    same = infer_plus.telling(teachers[0], teachers[:1], 4.0)
    assert same.tolist() == pytest.approx([0] * 4, abs=1e-6)


def test_the_easiest_pictures_are_passed_over_and_no_class_runs_out(given):
    kept = METHODS["infer_plus"](given, easiest=0.5)
    for label in range(CLASSES):
        levels = given.scout(given.data.train[given.picks[label]][0])
        assert given.scout(kept.images[kept.targets == label]).min() >= levels.median()
    everything = replace(given, count=len(given.data.train))
    assert len(METHODS["infer_plus"](everything, easiest=0.9).targets) == len(given.data.train)
    uneven = replace(given, picks=[pick[:size] for pick, size in zip(given.picks, (2, 9, 30), strict=True)], count=36)
    assert METHODS["infer_plus"](uneven, easiest=0.9).targets.bincount().tolist() == [2, 9, 25]
    whole = METHODS["infer_plus"](given, easiest=0.0)
    assert torch.equal(whole.images, METHODS["random"](given).images)


def test_images_of_sre2l_tell_how_far_they_are(given, monkeypatch, caplog):
    monkeypatch.setattr(progress, "_EVERY", -1)
    with caplog.at_level(logging.INFO, "infer"):
        METHODS["sre2l"](given, **OPTIONS["sre2l"])  # 12 images, batches of two rows of three classes
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(": step 20 of 20")[0] for line in said[19::20]] == [
        "images by sre2l, batch 1 of 2",
        "images by sre2l, batch 2 of 2",
    ]
