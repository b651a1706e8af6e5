"""Mixed views: reproducible from a seed, with stored labels and choices."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infer.core import mixed_views
from infer.core.label_code import (
    LabelCode,
    choice_bits,
    dequantise_labels,
    pack_choices,
    quantise_labels,
    unpack_choices,
)
from infer.core.mixed_views import MixedViews, ViewDraws

PLAIN = {"seed": 3, "crop": 2, "flip": True, "resized_crop": None, "mixing": "cutmix"}


def test_draws_of_a_seed_never_change():
    """The digest was taken when the format was made: a change of it makes every written file wrong."""
    draws = MixedViews(count=1000, pool=37, **PLAIN).draws()
    found = hashlib.sha256(b"".join(part.numpy().tobytes() for part in draws)).hexdigest()
    assert found[:16] == "02d711dc995d5004"


def test_draws_do_not_depend_on_the_blocks_they_are_made_in(monkeypatch):
    views = MixedViews(count=301, pool=7, candidates=16, smooth_noise=3, **PLAIN)
    choices = torch.randint(16, (301,), generator=torch.Generator().manual_seed(0))
    whole = views.draws(choices)
    monkeypatch.setattr(mixed_views, "_BLOCK", 53)
    for part, expected in zip(views.draws(choices), whole, strict=True):
        assert torch.equal(part, expected)
        assert part.dtype == expected.dtype


def test_draws_in_float32_stay_below_one(monkeypatch):
    """A draw of one would pick a row outside of the padded image."""
    ones = lambda key, position, *shape: np.full(shape, 1 - 2.0**-53)  # noqa: E731
    monkeypatch.setattr(mixed_views, "_uniform", ones)
    views = MixedViews(count=2, pool=2, **PLAIN)
    draws = views.draws()
    assert all(part.max() == 1 - 2**-24 for part in draws[2:])
    pool = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    assert views.images(draws, lambda numbers: pool[numbers], torch.arange(2)).shape == (2, 3, 8, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_candidates_are_drawn_in_bounded_memory():
    """200,000 views of 256 candidates have 51 million candidates; all their draws would take gigabytes."""
    code = """
import torch
from pathlib import Path
from infer.core.mixed_views import MixedViews
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
MixedViews(200_000, 19, 0, 1, True, None, "none", 256).draws(torch.full((200_000,), 255))
print(peak() - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert grown < 300 * 1024  # kilobytes


def test_every_image_is_the_first_of_equally_many_views():
    draws = MixedViews(count=101, pool=20, **PLAIN).draws()
    counts = draws.first.bincount(minlength=20)
    assert counts.min() >= 5
    assert counts.max() <= 6
    assert set(draws.second.tolist()) <= set(range(20))
    for part in draws[2:]:
        assert part.min() >= 0
        assert part.max() <= 1
        assert 0.4 < part.mean() < 0.6


@pytest.mark.parametrize("mixing", ["cutmix", "mixup", "none"])
@pytest.mark.parametrize("resized_crop", [None, 0.5])
def test_a_view_depends_on_its_number_alone(mixing, resized_crop):
    pool = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    views = MixedViews(count=50, pool=20, **{**PLAIN, "mixing": mixing, "resized_crop": resized_crop})
    whole = views.images(views.draws(), lambda numbers: pool[numbers], torch.arange(50))
    assert whole.dtype == torch.uint8
    some = torch.tensor([41, 3, 3, 20])
    assert torch.equal(views.images(views.draws(), lambda numbers: pool[numbers], some), whole[some])
    assert len(whole.flatten(1).unique(dim=0)) > 45


def test_a_view_without_augmentation_and_mixing_is_the_image():
    pool = torch.randint(256, (6, 1, 4, 4), dtype=torch.uint8)
    views = MixedViews(count=12, pool=6, seed=0, crop=0, flip=False, resized_crop=None, mixing="none")
    draws = views.draws()
    assert torch.equal(views.images(draws, lambda numbers: pool[numbers], torch.arange(12)), pool[draws.first])


def test_smooth_noise_never_changes_and_reaches_half_of_the_images():
    """The digest was taken when the noise was added: a change of it makes every file with noise wrong."""
    whole = {**PLAIN, "crop": 0, "flip": False, "mixing": "none"}
    views = MixedViews(count=2000, pool=1, smooth_noise=64, **whole)
    grey = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    images = views.images(views.draws(), lambda numbers: grey[numbers], torch.arange(2000))
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "dddd2bb308fc4fe8"
    levels = images.short() - 128
    assert 0.45 < (levels != 0).any(dim=(1, 2, 3)).float().mean() < 0.55
    assert len(levels.unique(dim=0)) == 65
    assert levels.diff(dim=-1).abs().max() <= 11  # 2 * 52 levels over a third of 31 pixels
    assert 18 < levels[(levels != 0).any(dim=(1, 2, 3))].float().std() < 22


def test_the_header_names_smooth_noise_as_old_files_do():
    plain = MixedViews(count=1, pool=1, **PLAIN)
    assert plain.header == {"count": 1, "pool": 1, "candidates": 1, **PLAIN}
    assert MixedViews.from_header(plain.header) == plain
    noisy = MixedViews(count=1, pool=1, smooth_noise=8, **PLAIN)
    assert noisy.header == {**plain.header, "compensators": 8}
    assert MixedViews.from_header(noisy.header) == noisy
    assert MixedViews.from_header({**noisy.header, "of a newer writer": 1}) == noisy


def test_a_choice_names_the_candidate():
    views = MixedViews(count=10, pool=7, candidates=4, **PLAIN)
    candidates = [views.draws(torch.full((10,), number)) for number in range(4)]
    choices = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 0, 2])
    chosen = views.draws(choices)
    for number in range(10):
        for part, whole in zip(chosen, zip(*candidates, strict=True), strict=True):
            assert torch.equal(part[number], whole[choices[number]][number])
    assert isinstance(chosen, ViewDraws)


@settings(deadline=None)
@given(st.sampled_from([2, 4, 16, 256]), st.integers(1, 100), st.integers(0, 9))
def test_choices_are_packed_into_whole_bytes(candidates, count, seed):
    choices = torch.randint(candidates, (count,), generator=torch.Generator().manual_seed(seed))
    packed = pack_choices(choices, candidates)
    assert len(packed) == -(-count * choice_bits(candidates) // 8)
    assert torch.equal(unpack_choices(packed, count, candidates), choices)


@settings(deadline=None)
@given(st.integers(2, 1000), st.sampled_from([2, 4, 8]), st.integers(0, 9))
def test_labels_are_quantised_to_bits(classes, bits, seed):
    labels = (torch.randn(5, classes, generator=torch.Generator().manual_seed(seed)) * 3).softmax(dim=1)
    restored = dequantise_labels(quantise_labels(labels, bits))
    torch.testing.assert_close(restored.sum(dim=1), torch.ones(5))
    assert ((restored - labels).abs().sum(dim=1) < classes * labels.amax(dim=1) / (2**bits - 1)).all()
    likeliest = labels.argmax(dim=1, keepdim=True)  # two classes may tie after rounding
    assert torch.equal(restored.gather(1, likeliest).squeeze(1), restored.amax(dim=1))


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(2, 20), st.sampled_from([2, 4, 8]), st.sampled_from(["none", "lzma"]))
def test_packed_labels_are_the_same_again(count, classes, bits, coding):
    code = LabelCode(classes, bits, coding)
    labels = torch.randint(2**bits, (count, classes), generator=torch.Generator().manual_seed(count), dtype=torch.uint8)
    stored = code.pack(labels)
    assert torch.equal(code.unpack(stored, count), labels)
    assert coding == "lzma" or stored.numel() == code.packed_bytes(count)


@pytest.mark.parametrize("candidates", [1, 4])
def test_the_first_views_are_the_same_however_many_are_kept(candidates):
    """A file has as many as its labels leave room for."""
    choices = torch.arange(600) % candidates
    every = MixedViews(600, 50, 3, 2, True, None, "cutmix", candidates)
    some = MixedViews(410, 50, 3, 2, True, None, "cutmix", candidates, drawn=600)
    assert "drawn" not in every.header
    assert MixedViews.from_header(some.header) == some
    for whole, part in zip(every.draws(choices), some.draws(choices[:410]), strict=True):
        assert torch.equal(whole[:410], part)
