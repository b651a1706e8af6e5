"""Views: the same for ever from the same seed, and no more stored than their labels."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infer.core.mixed_views import Drawn, Views, bits, dequantise, pack, quantise, unpack

PLAIN = {"seed": 3, "crop": 2, "flip": True, "resized_crop": None, "mixing": "cutmix"}


def test_a_seed_means_the_same_views_on_every_machine_and_in_every_version():
    """The digest was taken when the format was made: a change of it makes every written file wrong."""
    drawn = Views(count=1000, pool=37, **PLAIN).drawn()
    found = hashlib.sha256(b"".join(part.numpy().tobytes() for part in drawn)).hexdigest()
    assert found[:16] == "02d711dc995d5004"


def test_every_image_is_the_first_of_as_many_views():
    drawn = Views(count=101, pool=20, **PLAIN).drawn()
    counts = drawn.first.bincount(minlength=20)
    assert counts.min() >= 5
    assert counts.max() <= 6
    assert set(drawn.second.tolist()) <= set(range(20))
    for part in drawn[2:]:
        assert part.min() >= 0
        assert part.max() <= 1
        assert 0.4 < part.mean() < 0.6


@pytest.mark.parametrize("mixing", ["cutmix", "mixup", "none"])
def test_a_view_depends_on_its_number_alone(mixing):
    pool = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    views = Views(count=50, pool=20, **{**PLAIN, "mixing": mixing})
    whole = views.images(views.drawn(), lambda numbers: pool[numbers], torch.arange(50))
    assert whole.dtype == torch.uint8
    some = torch.tensor([41, 3, 3, 20])
    assert torch.equal(views.images(views.drawn(), lambda numbers: pool[numbers], some), whole[some])
    assert len(whole.flatten(1).unique(dim=0)) > 45


def test_a_view_without_crop_flip_and_mixing_is_the_image():
    pool = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8)
    views = Views(count=12, pool=6, seed=0, crop=0, flip=False, resized_crop=None, mixing="none")
    drawn = views.drawn()
    assert torch.equal(views.images(drawn, lambda numbers: pool[numbers], torch.arange(12)), pool[drawn.first])


def test_the_seeds_compensators_are_smooth_the_same_for_ever_and_on_every_other_image():
    """The digest was taken when they came: a change of it makes every file that has them wrong."""
    whole = {**PLAIN, "crop": 0, "flip": False, "mixing": "none"}
    views = Views(count=2000, pool=1, compensators=64, **whole)
    grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    seen = views.images(views.drawn(), lambda numbers: grey[numbers], torch.arange(2000))
    assert hashlib.sha256(seen.numpy().tobytes()).hexdigest()[:16] == "dddd2bb308fc4fe8"
    levels = seen.short() - 128
    assert 0.45 < (levels != 0).any(dim=(1, 2, 3)).float().mean() < 0.55
    assert len(levels.unique(dim=0)) == 65
    assert levels.diff(dim=-1).abs().max() <= 11  # 2 * 52 levels over a third of 31 pixels
    assert 18 < levels[(levels != 0).any(dim=(1, 2, 3))].float().std() < 22


def test_a_header_without_compensators_is_that_of_old_files():
    assert "compensators" not in Views(count=1, pool=1, **PLAIN).header
    views = Views(count=1, pool=1, compensators=8, **PLAIN)
    assert Views(**views.header) == views


def test_a_choice_names_the_candidate():
    views = Views(count=10, pool=7, candidates=4, **PLAIN)
    candidates = [views.drawn(torch.full((10,), number)) for number in range(4)]
    choices = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 0, 2])
    chosen = views.drawn(choices)
    for number in range(10):
        for part, whole in zip(chosen, zip(*candidates, strict=True), strict=True):
            assert torch.equal(part[number], whole[choices[number]][number])
    assert isinstance(chosen, Drawn)


@settings(deadline=None)
@given(st.sampled_from([2, 4, 16, 256]), st.integers(1, 100), st.integers(0, 9))
def test_choices_are_packed_into_whole_bytes(candidates, count, seed):
    choices = torch.randint(candidates, (count,), generator=torch.Generator().manual_seed(seed))
    packed = pack(choices, candidates)
    assert len(packed) == -(-count * bits(candidates) // 8)
    assert torch.equal(unpack(packed, count, candidates), choices)


@settings(deadline=None)
@given(st.integers(2, 1000), st.integers(0, 9))
def test_labels_at_eight_bits(classes, seed):
    labels = (torch.randn(5, classes, generator=torch.Generator().manual_seed(seed)) * 3).softmax(dim=1)
    back = dequantise(quantise(labels))
    torch.testing.assert_close(back.sum(dim=1), torch.ones(5))
    assert ((back - labels).abs().sum(dim=1) < classes * labels.amax(dim=1) / 255).all()
    assert torch.equal(back.argmax(dim=1), labels.argmax(dim=1)) or classes > 100
