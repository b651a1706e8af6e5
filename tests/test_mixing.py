"""Batches drawn and interpolated."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infer.core.augment import DRAWS, augment, random_box, resized
from infer.core.mixing import blend, mix, mix_labels, passes, student_batch
from infer.data.batches import in_order, loader


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 200), st.integers(0, 9))
def test_passes_are_one_stream_however_it_is_cut(size, count, first, seed):
    whole = passes(size, first + count, 0, seed)
    assert torch.equal(passes(size, count, first, seed), whole[first:])
    for start in range(0, first + count - size + 1, size):
        assert whole[start : start + size].sort().values.tolist() == list(range(size))


@pytest.mark.parametrize(("ratio", "share"), [(0.0, 0), (0.25, 16), (1.0, 64)])
def test_the_ratio_of_naturals_holds_in_every_batch(ratio, share):
    for step in range(5):
        batch = student_batch(30, 90, 64, ratio, 3, step)
        assert len(batch) == 64
        assert int((batch < 30).sum()) == share
        assert int(batch.max()) < 120


def test_without_a_ratio_every_image_comes_equally_often():
    drawn = torch.cat([student_batch(30, 90, 24, None, 0, step) for step in range(10)])
    assert drawn.bincount(minlength=120).tolist() == [2] * 120


def test_mixup_interpolates_images_and_labels_alike():
    torch.manual_seed(0)
    images, labels = torch.rand(8, 3, 6, 6), torch.rand(8, 4)
    mixed, partner, weight = mix(images, "mixup", 0.8)
    assert weight.unique().shape == (1,)  # one for the batch
    lam = float(weight[0])
    assert 0 < lam < 1
    torch.testing.assert_close(mixed, lam * images + (1 - lam) * images[partner])
    torch.testing.assert_close(mix_labels(labels, partner, weight), lam * labels + (1 - lam) * labels[partner])


def test_cutmix_weighs_labels_by_area():
    torch.manual_seed(1)
    own = torch.zeros(5, 1, 8, 8)
    images = own + torch.arange(5.0).view(-1, 1, 1, 1)
    mixed, partner, weight = mix(images, "cutmix", 1.0)
    for i in range(5):
        if partner[i] != i:
            assert (mixed[i] == images[i]).float().mean().item() == pytest.approx(weight[i].item())
    assert images.unique().tolist() == [0, 1, 2, 3, 4]  # the batch itself is left alone


def test_a_box_of_its_own_for_each_pair():
    images, partners = torch.zeros(6, 1, 8, 8), torch.ones(6, 1, 8, 8)
    weight, corner = torch.tensor([0.0, 0.25, 0.5, 0.75, 0.9, 1.0]), torch.rand(6, 2)
    mixed, shares = blend(images, partners, "cutmix", weight, corner)
    torch.testing.assert_close(1 - mixed.mean(dim=(1, 2, 3)), shares)
    assert shares.tolist() == [0.0, 1 - 36 / 64, 1 - 25 / 64, 1 - 16 / 64, 1 - 4 / 64, 1.0]
    for picture in mixed[1:5, 0]:
        rows, columns = picture.any(dim=1).nonzero(), picture.any(dim=0).nonzero()
        assert picture.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)  # one whole box


def test_no_mixing_changes_nothing():
    images = torch.rand(4, 1, 5, 5)
    mixed, partner, weight = mix(images, "none", 1.0)
    assert torch.equal(mixed, images)
    assert torch.equal(mix_labels(torch.eye(4), partner, weight), torch.eye(4))


def test_augment_crops_and_flips_each_image_for_itself():
    torch.manual_seed(0)
    images = torch.arange(1, 1 + 64 * 2 * 5 * 6).view(64, 2, 5, 6)
    out = augment(images, torch.rand(64, DRAWS), crop=2, flip=True)
    assert out.shape == images.shape
    found = set()
    for before, after in zip(images, out, strict=True):
        padded = torch.nn.functional.pad(before, (2,) * 4)
        matches = [
            (top, left, flipped)
            for top in range(5)
            for left in range(5)
            for flipped in (False, True)
            if torch.equal(
                padded[:, top : top + 5, left : left + 6].flip(-1)
                if flipped
                else padded[:, top : top + 5, left : left + 6],
                after,
            )
        ]
        assert matches, "not a crop of the padded image"
        found.add(matches[0])
    assert len(found) > 20
    assert {flipped for *_, flipped in found} == {False, True}
    assert augment(images, torch.rand(64, DRAWS), crop=0, flip=False) is images


def test_batches_go_on_where_a_stopped_run_was():
    batches = loader(torch.arange(100), lambda step: torch.tensor([step, step + 50]), steps=30)
    batches.sampler.start = 20
    assert [batch.tolist() for batch in batches] == [[step, step + 50] for step in range(20, 30)]
    assert torch.cat([in_order(7, 3, step) for step in range(3)]).tolist() == list(range(7))


def test_resized_crops_are_boxes_of_the_picture_of_at_least_that_share():
    torch.manual_seed(0)
    ramp = torch.arange(64.0).expand(64, 64)
    images = torch.stack([ramp, ramp.T]).expand(256, -1, -1, -1)
    cropped = augment(images, torch.rand(256, DRAWS), 0, True, 0.25)
    assert cropped.shape == images.shape
    wide = cropped[:, 0, 32, -1] - cropped[:, 0, 32, 0]  # levels across: what is left of the width, signed by the flip
    high = cropped[:, 1, -1, 32] - cropped[:, 1, 0, 32]
    assert 0.4 < (wide < 0).float().mean() < 0.6
    assert (high > 0).all()
    share = wide.abs() * high / 63**2
    assert share.min() > 0.2
    assert share.max() > 0.9
    assert cropped.min() >= 0
    assert cropped.max() <= 63


def test_a_box_for_all_is_resized_like_each():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 1, 32, 32)
    for _ in range(50):
        top, left, height, width = box = random_box(32, 0.1)
        assert 0 <= top <= 32 - height
        assert 0 <= left <= 32 - width
        assert height * width > 0.08 * 32 * 32
        whole = resized(images, box, 32)
        assert whole.shape == images.shape
        torch.testing.assert_close(whole[1, 2], resized(images[1:, 2:], box, 32)[0, 0])
    assert torch.allclose(resized(images, (0, 0, 32, 32), 32), images)
