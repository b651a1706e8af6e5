"""Crops, flips and boxes of images."""

import torch

from infer.core.augment import DRAWS, _random_box, _resized, augment


def test_augment_crops_and_flips_each_image_independently():
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


def test_resized_crops_cover_at_least_the_given_share():
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


def test_one_box_for_all_images_is_resized_as_for_each_image():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 1, 32, 32)
    for _ in range(50):
        top, left, height, width = box = _random_box(32, 0.1)
        assert 0 <= top <= 32 - height
        assert 0 <= left <= 32 - width
        assert height * width > 0.08 * 32 * 32
        whole = _resized(images, box, 32)
        assert whole.shape == images.shape
        torch.testing.assert_close(whole[1, 2], _resized(images[1:, 2:], box, 32)[0, 0])
    assert torch.allclose(_resized(images, (0, 0, 32, 32), 32), images)
