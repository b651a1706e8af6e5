"""Alternating flips of teachers."""

from itertools import pairwise

import torch

from infer.data import Pictures
from infer.training.mirrored import Mirrored, mirrored_batch


def test_each_pass_has_every_picture_once_and_the_next_one_its_mirror_image():
    size, batch = 12, 8  # three steps are two passes
    drawn = torch.cat([mirrored_batch(size, batch, seed=3, step=step) for step in range(6)]).view(4, size)
    for one, other in pairwise(drawn):
        assert sorted((one % size).tolist()) == [*range(size)]
        assert not set(one.tolist()) & set(other.tolist())
    assert set(drawn[0].tolist()) == set(drawn[2].tolist())
    assert (drawn[0] < size).sum() == size // 2


def test_indices_from_the_number_of_pictures_on_give_mirror_images_with_the_same_targets():
    pictures = Pictures(torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2), torch.tensor([5, 7]))
    images, targets = Mirrored(pictures)[torch.tensor([1, 3])]
    assert torch.equal(images[0], pictures.images[1])
    assert torch.equal(images[1], pictures.images[1].flip(-1))
    assert targets.tolist() == [7, 7]
