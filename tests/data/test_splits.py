"""Splits of labelled pictures: stratified, long-tailed, held out, and picked by seed."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from infer.data import Pictures, Splits
from infer.data.datasets import digits_splits
from infer.data.decoder import Decoder
from infer.data.folder import folder_splits
from infer.data.stratified import stratified


def test_picks_are_every_picture_of_the_class_once_in_an_order_of_the_seed(pictures):
    splits = folder_splits("set", pictures, Decoder(16, 3, stream=False), 0.25, 0)
    for number, pick in enumerate(splits.picks(0)):
        assert pick.sort().values.tolist() == (splits.train.targets == number).nonzero().flatten().tolist()
    assert [p.tolist() for p in splits.picks(0)] != [p.tolist() for p in splits.picks(1)]


def test_chance_is_the_share_of_the_most_frequent_class():
    part = Pictures(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 1, 1]))
    assert Splits("s", ["a", "b"], part, part).chance == 0.75


def test_a_long_tail_reduces_the_train_pictures_alone():
    splits = digits_splits("digits", 0.2, 0)
    tailed = splits.long_tailed(50, 0)
    counts = tailed.train.targets.bincount()
    assert counts[0] == splits.train.targets.bincount()[0]
    assert counts[9] == round(int(splits.train.targets.bincount()[9]) / 50)
    assert (counts.diff() <= 0).all()
    assert torch.equal(tailed.test.images, splits.test.images)
    assert tailed.fingerprint == splits.long_tailed(50, 0).fingerprint != splits.long_tailed(50, 1).fingerprint
    assert (splits.long_tailed(1e6, 0).train.targets.bincount() >= 1).all()


def test_groups_neither_fill_the_test_part_nor_empty_a_class():
    scene = torch.cat([torch.zeros(90), torch.arange(1, 11)]).long()  # ninety frames of one scene, and ten others
    _, test = stratified(torch.zeros(100).long(), 0.2, 0, scene)
    assert sorted(scene[test].tolist()) == list(range(1, 11))
    targets, groups = torch.tensor([0, 0, 1, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 2, 3])  # the same picture, two labels
    for seed in range(50):
        train, test = stratified(targets, 0.5, seed, groups)
        assert set(targets[train].tolist()) == set(targets[test].tolist()) == {0, 1}


def split_by_the_rule(targets, share, seed, groups):
    """The rule of groups, picture by picture: the group of each shuffled picture joins the test part if it fits."""
    generator = torch.Generator().manual_seed(seed)
    test = torch.zeros(len(targets), dtype=torch.bool)
    for number in targets.unique():
        members = (targets == number).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        wanted = max(1, round(share * len(members)))
        for member in members:
            larger = test | (groups == groups[member])
            left = targets[~larger].bincount(minlength=int(targets.max()) + 1)
            if test[members].sum() != wanted and larger[members].sum() <= wanted and left[targets[larger]].all():
                test = larger
        if not test[members].any():
            test[members[:wanted]] = True
    return (~test).nonzero().flatten(), test.nonzero().flatten()


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([2, 5, 60]), st.sampled_from([0.1, 0.3, 0.6, 0.95]))
def test_a_split_by_groups_follows_the_rule_picture_by_picture(seed, classes, most_groups, share):
    draw = torch.Generator().manual_seed(seed)
    more = torch.randint(classes, (int(torch.randint(30, (1,), generator=draw)),), generator=draw)
    targets = torch.cat([2 * torch.arange(classes).repeat(2), 2 * more])  # of two pictures or more; numbers have gaps
    groups = torch.randint(most_groups, (len(targets),), generator=draw)
    expected = split_by_the_rule(targets, share, seed, groups)
    for found, wanted in zip(stratified(targets, share, seed, groups), expected, strict=True):
        assert torch.equal(found, wanted)


def test_held_out_pictures_come_from_the_train_pictures():
    splits = digits_splits("digits", 0.2, 0)
    held = splits.held_out(0.25, 0)
    assert len(held.train) + len(held.test) == len(splits.train)
    assert torch.equal(held.train.targets.bincount() + held.test.targets.bincount(), splits.train.targets.bincount())
    assert all(torch.equal(a, b) for a, b in zip(held.moments, splits.moments, strict=True))
    known = {image.tobytes() for image in splits.test.images.numpy()}
    assert not known & {image.tobytes() for image in held.test.images.numpy()}
    assert held.fingerprint != splits.fingerprint


def test_the_draws_of_the_digits_are_those_of_earlier_versions():
    """Stored results are found again by the fingerprint, and remade from the same picks."""
    splits = digits_splits("digits", 0.2, 0)
    assert splits.fingerprint == "644c00adcaa936d6"
    assert [pick[:3].tolist() for pick in splits.picks(0)[:2]] == [[867, 206, 1372], [506, 15, 1398]]
    assert splits.long_tailed(50, 0).held_out(0.25, 1).fingerprint == "9eb00360c15df41f"
    assert [moment.item() for moment in splits.moments] == [0.3059854805469513, 0.3763250708580017]
