"""Drawing and interpolating the batches of a student."""

import pickle
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infer.core.mixing import blend, mix, mix_labels, shuffled_indices, student_batch


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 200), st.integers(0, 9))
def test_the_stream_of_passes_does_not_depend_on_where_it_is_cut(size, count, first, seed):
    whole = shuffled_indices(size, first + count, 0, seed)
    assert torch.equal(shuffled_indices(size, count, first, seed), whole[first:])
    for start in range(0, first + count - size + 1, size):
        assert whole[start : start + size].sort().values.tolist() == list(range(size))


@pytest.mark.parametrize(("ratio", "share"), [(0.0, 0), (0.25, 16), (1.0, 64)])
def test_the_ratio_of_naturals_holds_in_every_batch(ratio, share):
    for step in range(5):
        batch = student_batch(30, 90, 64, ratio, 3, step)
        assert len(batch) == 64
        assert int((batch < 30).sum()) == share
        assert int(batch.max()) < 120


def permuted(naturals: int, composed: int, batch: int, ratio: float, seed: int, step: int) -> list[int]:
    """The batch of a step, from the whole stream of permutations of each kind."""
    parts = []
    share = round(ratio * batch)
    for size, first, count, key in ((naturals, 0, share, seed), (composed, naturals, batch - share, seed + 2**31)):
        stream = []
        for number in range((step + 1) * count // size + 1):
            generator = torch.Generator().manual_seed(key * 1_000_003 + number)
            stream += (first + torch.randperm(size, generator=generator)).tolist()
        parts += stream[step * count : (step + 1) * count]
    return parts


def test_a_batch_of_any_step_is_the_piece_of_the_permutations_of_its_passes():
    for naturals, composed, batch, ratio in ((30, 90, 24, 0.25), (7, 5, 64, 0.5)):
        draw = partial(student_batch, naturals, composed, batch, ratio, 3)
        for step in (5, 0, 1, 12, 11):  # a resumed run starts anywhere
            expected = permuted(naturals, composed, batch, ratio, 3, step)
            assert draw(step).tolist() == pickle.loads(pickle.dumps(draw))(step).tolist() == expected


def test_a_permutation_is_drawn_once_a_pass(monkeypatch):
    drawn = []
    draw = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda size, **words: drawn.append(size) or draw(size, **words))
    for step in range(40):  # of 1,000 naturals, 16 a step, and 700 composed images, 48 a step
        student_batch(1000, 700, 64, 0.25, 987654, step)
    assert sorted(drawn) == [700] * 3 + [1000]


def test_a_batch_may_be_changed_in_place_without_changing_the_next_one():
    before = student_batch(50, 0, 10, None, 7, 0).clone()
    student_batch(50, 0, 10, None, 7, 0).zero_()
    assert torch.equal(student_batch(50, 0, 10, None, 7, 0), before)


def test_without_a_ratio_every_image_is_drawn_equally_often():
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


def test_each_pair_has_its_own_box():
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
