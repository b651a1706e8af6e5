"""Reading pictures as people have them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from infer.budget import Split
from infer.data import Pictures, Splits, sources
from infer.errors import UserError
from infer.methods.stored import naturals


def read(root, side=16, channels=3, test_fraction=0.25):
    return sources.folder("set", root, sources.Layout(side, channels, False, False), test_fraction, 0)


def test_digits_are_all_there_and_split_evenly():
    splits = sources.digits("digits", 0.2, 0)
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.train.images.shape[1:] == (1, 8, 8)
    assert int(splits.train.images.max()) == 255
    share = splits.test.targets.bincount() / (splits.train.targets.bincount() + splits.test.targets.bincount())
    assert ((share - 0.2).abs() < 0.01).all()
    mean, std = splits.moments
    pixels = splits.train.images.double() / 255
    torch.testing.assert_close(mean, pixels.mean().float().view(1))
    torch.testing.assert_close(std, pixels.std(correction=0).float().view(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_mixed_sizes_modes_and_names_become_one_shape(pictures, channels):
    splits = read(pictures, channels=channels)
    assert splits.classes == ["flat", "kuro 黒", "ridge"]
    assert splits.train.images.shape == (36, channels, 16, 16)
    assert splits.test.images.shape == (12, channels, 16, 16)
    assert splits.train.targets.bincount().tolist() == [12] * 3
    assert splits.fingerprint == read(pictures, channels=channels).fingerprint
    assert splits.fingerprint != read(pictures, side=15, channels=channels).fingerprint


def test_sixteen_bit_grey_is_scaled_and_exif_turned(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
        for part in ("train", "test"):
            Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(tmp_path / part / name / "deep.png")
    turned = np.zeros((8, 8, 3), np.uint8)
    turned[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(turned).save(tmp_path / "train" / "a" / "turned.png", exif=exif)
    images = read(tmp_path, side=8).train.images
    assert images[0].unique().tolist() == [100]
    assert images[1, :, 0].max() == 0
    assert images[1, :, 7].min() == 255


def test_a_folder_without_a_test_part_is_split_by_seed(pictures):
    splits = read(pictures / "train")
    assert splits.train.targets.bincount().tolist() == [9] * 3
    assert splits.test.targets.bincount().tolist() == [3] * 3


def test_picks_are_every_picture_of_the_class_once_and_of_the_seed(pictures):
    splits = read(pictures)
    for number, pick in enumerate(splits.picks(0)):
        assert pick.sort().values.tolist() == (splits.train.targets == number).nonzero().flatten().tolist()
    assert [p.tolist() for p in splits.picks(0)] != [p.tolist() for p in splits.picks(1)]


def copy(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "copy")


def test_folders_that_teach_nothing_are_named(pictures, tmp_path):
    with pytest.raises(UserError, match=r"dataset.root=.*nowhere: no such folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        read(tmp_path / "empty")
    root = copy(pictures, tmp_path)
    shutil.rmtree(root / "test")
    with pytest.raises(UserError, match="has train/ but no test/"):
        read(root)
    for name in ("kuro 黒", "ridge"):
        shutil.rmtree(root / "train" / name)
    with pytest.raises(UserError, match="one class, flat"):
        read(root / "train")
    root = shutil.copytree(pictures, tmp_path / "second")
    for file in (root / "test" / "ridge").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="no readable picture of ridge"):
        read(root)


def test_broken_pictures_are_refused_when_many_and_skipped_and_named_when_few(pictures, tmp_path):
    root = copy(pictures, tmp_path)
    whole = (root / "train" / "flat" / "1.jpg").read_bytes()
    (root / "train" / "flat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "flat" / "text.png").write_text("not a picture")
    (root / "test" / ".thumbnails").mkdir()
    with pytest.raises(UserError, match=r"2 of 38 pictures cannot be read: .*cut.jpg, .*text.png"):
        read(root)
    for index in range(170):
        shutil.copy(root / "train" / "flat" / "1.jpg", root / "train" / "ridge" / f"copy{index}.jpg")
    splits = read(root)
    assert len(splits.train) == 206
    assert splits.notes[0].startswith("2 of 208 pictures")
    assert "cut.jpg" in splits.notes[0]


def test_chance_is_the_commonest_class():
    part = Pictures(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 1, 1]))
    assert Splits("s", ["a", "b"], part, part).chance == 0.75


def test_a_download_that_fails_says_what_to_put_where(tmp_path, monkeypatch):
    import torchvision

    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", unreachable)
    with pytest.raises(UserError, match=r"dataset=cifar10: CIFAR10 is not in .*dataset.root=<folder"):
        sources.torchvision_set("cifar10", "CIFAR10", tmp_path)


def test_the_real_cifar10_copy_is_whole(cifar10):
    splits = read(cifar10, side=32)
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (50_000, 10_000, 10)
    assert not splits.notes


def test_the_real_steel_pictures_are_grey(steel):
    splits = read(steel, side=64, channels=1)
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (1440, 360, 6)


def test_naturals_are_a_round_of_every_class_then_in_turn_from_those_that_have_more():
    targets = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    part = Pictures(torch.arange(11, dtype=torch.uint8).view(-1, 1, 1, 1), targets)
    data = Splits("s", ["a", "b", "c"], part, part)
    picks = [torch.tensor([4, 3, 2, 1, 0]), torch.tensor([5, 6]), torch.tensor([7, 8, 9, 10])]
    images, found = naturals(data, Split(3, 2, 1, extra=4), picks)
    assert images.flatten().tolist() == [4, 5, 7, 3, 6, 8, 2, 9, 1, 10]
    assert torch.equal(found, targets[images.flatten().long()])
    with pytest.raises(UserError, match="needs 3 train pictures of every class, but b has 2"):
        naturals(data, Split(3, 3, 1), picks)
    with pytest.raises(UserError, match="asks for 12 train pictures, but there are 11"):
        naturals(data, Split(3, 2, 1, extra=6), picks)
