"""Near-duplicates are found, and a split keeps them together."""

import shutil

import torch
from PIL import Image

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
        "12 pictures are near-duplicates of another, 1 sets of them; a split keeps each together",
        "1 sets of near-duplicates had to be divided, because a class had nothing else",
    )


def test_among_many_pictures_only_equal_hashes_count(pictures, monkeypatch):
    images = read(pictures, 32, 3).train.images
    monkeypatch.setattr(duplicates, "_MAX_COMPARED", 10)
    groups = duplicate_groups(torch.cat([images, images[:5]]))
    assert torch.equal(groups[:5], groups[-5:])
    assert len(groups.unique()) == len(images)
