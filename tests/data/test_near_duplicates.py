"""Near-duplicates are found, and a split keeps them together."""

import io
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from infer.data import duplicates
from infer.data.decoder import Decoder
from infer.data.duplicates import duplicate_groups
from infer.data.folder import folder_splits


def read(root, side, channels, seed=0):
    return folder_splits("set", root, Decoder(side, channels, stream=False), 0.25, seed)


def test_near_duplicates_stay_in_one_split(pictures, tmp_path):
    """Copies of another file type, size or brightness are found; a split keeps them with the original."""
    root = shutil.copytree(pictures / "train", tmp_path / "copy")
    for name in ("flat", "kuro 黒", "ridge"):
        for index in (0, 3, 6):
            picture = Image.open(root / name / f"{index}.png").convert("L")
            picture.save(root / name / f"{index}-again.webp", quality=90)
            picture.point(lambda level: min(255, int(level * 1.02))).save(root / name / f"{index}-bright.png")
    for seed in range(3):
        splits = read(root, 32, 1, seed)
        assert "27 pictures are near-duplicates of another, 9 sets of them" in splits.notes[0]
        groups = duplicate_groups(torch.cat([splits.train.images, splits.test.images]))
        train, test = groups[: len(splits.train)], groups[len(splits.train) :]
        assert not set(train.tolist()) & set(test.tolist())
        assert (splits.test.targets.bincount() >= 4).all()  # a quarter of 18 each, with their duplicates
        held = splits.held_out(0.25, seed)
        groups = duplicate_groups(torch.cat([held.train.images, held.test.images]))
        train, test = groups[: len(held.train)], groups[len(held.train) :]
        assert not set(train.tolist()) & set(test.tolist())


def test_a_class_of_copies_of_one_picture_is_divided_and_named(pictures, tmp_path):
    root = shutil.copytree(pictures / "train", tmp_path / "copy")
    for index in range(12):
        for file in (root / "flat").glob(f"{index}.*"):
            file.unlink()
        shutil.copy(root / "ridge" / "0.png", root / "flat" / f"{index}.png")
    (root / "ridge" / "0.png").unlink()
    splits = read(root, 32, 3)
    assert splits.train.targets.bincount()[0] == 9
    assert splits.notes == (
        "12 pictures are near-duplicates of another, 1 set of them; a split keeps each together",
        "1 set of near-duplicates had to be divided, because a class had nothing else",
    )


def flat(*levels, side=32):
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1).expand(len(levels), side, side)


def noise(count, channels=3, side=32):
    """Grey grain with a tint of its own."""
    generator = torch.Generator().manual_seed(0)
    grain = torch.nn.functional.interpolate(
        torch.rand(count, 1, 16, 16, generator=generator), (side, side), mode="bilinear"
    )
    return (grain * (155 + 100 * torch.rand(count, channels, 1, 1, generator=generator))).to(torch.uint8)


def test_flat_pictures_differ_by_their_colours_and_levels():
    squares = [flat(255, 0, 0), flat(0, 255, 0), flat(0, 0, 255), flat(0, 0, 0), flat(60, 60, 60), flat(120, 120, 120)]
    assert len(duplicate_groups(torch.stack(squares)).unique()) == 6
    assert len(duplicate_groups(torch.stack([flat(0), flat(128), flat(255)])).unique()) == 3
    assert len(duplicate_groups(torch.stack([flat(200, 0, 0), flat(203, 1, 0)])).unique()) == 1


def test_the_same_drawing_in_other_colours_is_another_picture():
    light = flat(20, 20, 20).clone()
    lights = [light.clone() for _ in range(2)]
    lights[0][0, 8:24, 8:24] = lights[1][1, 8:24, 8:24] = 255  # a red and a green lamp
    assert len(duplicate_groups(torch.stack(lights)).unique()) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_encoded_and_resized_copies_are_found(channels):
    images = noise(50, channels)
    copies = []
    for number, image in enumerate(images):
        picture = Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())
        if number % 2:
            again = picture.resize((57, 57), Image.Resampling.BICUBIC).resize((32, 32), Image.Resampling.BILINEAR)
        else:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=60)
            again = Image.open(buffer)
        copies.append(torch.from_numpy(np.array(again)).reshape(32, 32, channels).permute(2, 0, 1))
    groups = duplicate_groups(torch.cat([images, torch.stack(copies)]))
    assert torch.equal(groups[:50], groups[50:])
    assert len(groups.unique()) == 50


def test_the_index_finds_the_pairs_that_comparing_all_pairs_finds():
    images = noise(300)
    generator = torch.Generator().manual_seed(1)
    grain = torch.randint(-24, 25, (600, 3, 32, 32), generator=generator)
    images = torch.cat([images, (images.repeat(2, 1, 1, 1) + grain).clamp(0, 255).to(torch.uint8)])
    hashes, levels = duplicates._features(images)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=-1, dtype=int) <= duplicates._BITS
    near &= np.abs(levels[:, None] - levels[None]).max(axis=-1) <= duplicates._LEVELS
    expected = connected_components(coo_matrix(near), directed=False)[1]
    groups = duplicate_groups(images).numpy()
    assert 300 <= len(np.unique(expected)) < 900
    assert len(np.unique(np.stack([expected, groups]), axis=1).T) == len(np.unique(expected)) == len(np.unique(groups))


def test_many_pictures_are_grouped_in_seconds_though_they_are_alike():
    film = (noise(1, 1) / 2 + torch.arange(2000).view(-1, 1, 1, 1) % 3).to(torch.uint8)
    images = torch.cat([film, noise(15_000, 1)[1:]])
    started = time.process_time()
    groups = duplicate_groups(images)
    assert time.process_time() - started < 30  # all pairs would be 144 million
    assert len(groups[:2000].unique()) == 1
    assert len(groups.unique()) == 15_000


def test_pictures_of_a_group_are_not_compared_again(monkeypatch):
    """Comparisons grow with the number of alike pictures, not with that of their pairs."""
    compared: list[int] = []
    near = duplicates._near
    monkeypatch.setattr(duplicates, "_near", lambda *words: compared.append(len(words[1])) or near(*words))
    counts = []
    for size in (500, 2000):
        compared.clear()
        film = (noise(1, 1) / 2 + torch.arange(size).view(-1, 1, 1, 1) % 3).to(torch.uint8)
        assert len(duplicate_groups(film).unique()) == 1
        counts.append(sum(compared))
    assert 499 <= counts[0] < 10 * 500
    assert 1999 <= counts[1] < 10 * 2000


def test_equal_pictures_in_two_classes_are_a_conflict_of_labels(pictures, tmp_path):
    root = shutil.copytree(pictures, tmp_path / "copy")
    assert not read(root, 32, 3).notes
    shutil.copy(root / "train" / "flat" / "0.png", root / "train" / "ridge" / "same.png")
    Image.open(root / "train" / "ridge" / "3.png").save(root / "test" / "flat" / "coded.webp", lossless=True)
    shutil.copy(root / "train" / "flat" / "1.jpg", root / "test" / "flat" / "same.jpg")  # of the same class
    (note,) = read(root, 32, 3).notes
    assert note == (
        "conflict of labels: 2 pictures in two classes, such as train/flat/0.png and train/ridge/same.png; "
        "train/ridge/3.png and test/flat/coded.webp"
    )
