"""Pictures of an earlier file beside those of a folder: class numbers, the split, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infer.core.errors import UserError
from infer.data import Pictures, Splits, read_dataset
from infer.data.options import DatasetOptions
from infer.data.splits import rarest_class
from infer.data.stored import StoredPictures
from infer.data.summary import summarise

SIDE = 16


def noise(count: int, seed: int) -> torch.Tensor:
    """Pictures that are no near-duplicates, uint8 [N, 1, SIDE, SIDE]."""
    return torch.randint(256, (count, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def written(folder: Path, images: torch.Tensor) -> None:
    """Write pictures into a class folder, losslessly."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(folder / f"{number:02}.png")


def stored(*classes: str, each: int = 3) -> StoredPictures:
    """A file of ``each`` pictures of some classes, one class after the other."""
    return StoredPictures(
        classes, Pictures(noise(each * len(classes), 0), torch.arange(len(classes)).repeat_interleave(each))
    )


def read(root: Path, before: StoredPictures | None, **options) -> Splits:
    return read_dataset(DatasetOptions("set", root=str(root), image_size=SIDE, channels=1, **options), before)


def test_new_classes_come_behind_those_of_the_file_which_keep_their_numbers(tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for number, name in enumerate(("zinc", "ridge", "ash")):
            written(tmp_path / part / name, noise(count, 10 * number + count))
    before = stored("ridge", "flat")
    data = read(tmp_path, before)
    assert data.classes == ["ridge", "flat", "ash", "zinc"]
    assert torch.equal(data.train.images[:6], before.pictures.images)
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 1] + [0] * 4 + [2] * 4 + [3] * 4
    assert torch.equal(data.train.images[6:10], noise(4, 14))  # the folder's pictures of ridge
    assert data.test.targets.tolist() == [0, 0, 2, 2, 3, 3]
    assert data.notes == (
        "6 of 18 train pictures are the natural images of an earlier file; new classes: ash, zinc",
        "classes without test pictures, which no accuracy counts: flat",
    )
    assert torch.allclose(data.moments[0], data.train.images.float().mean() / 255)
    assert rarest_class(data) == 2  # flat has fewer pictures, but nothing measures it


def test_one_new_class_is_enough_and_test_pictures_may_be_of_all_classes(tmp_path):
    written(tmp_path / "train" / "ash", noise(4, 1))
    for number, name in enumerate(("ash", "flat", "ridge")):
        written(tmp_path / "test" / name, noise(2, 20 + number))
    data = read(tmp_path, stored("ridge", "flat"))
    assert data.classes == ["ridge", "flat", "ash"]
    assert data.train.targets.bincount().tolist() == [3, 3, 4]
    assert data.test.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert not [note for note in data.notes if "without test" in note]
    assert summarise(data, str(tmp_path))["files"] == 10
    with pytest.raises(UserError, match=r"one class, ash, in .*; two or more folders of pictures are needed"):
        read(tmp_path, None)


def test_a_split_tests_on_new_pictures_alone_and_on_no_near_duplicate_of_stored_ones(tmp_path):
    before = stored("ridge", "flat")
    written(tmp_path / "ridge", torch.cat([before.pictures.images[:3], noise(4, 1)]))
    written(tmp_path / "ash", noise(8, 2))
    for seed in range(8):
        data = read(tmp_path, before, test_fraction=0.25, split_seed=seed)
        assert data.train.targets.bincount(minlength=3).tolist() == [3 + 3 + 3, 3, 6]
        assert data.test.targets.bincount(minlength=3).tolist() == [1, 0, 2]
        for image in before.pictures.images:
            assert not (data.test.images == image).flatten(1).all(1).any()
        assert "6 pictures are near-duplicates of another, 3 sets of them; a split keeps each together" in data.notes


def test_the_one_new_picture_of_an_old_class_is_trained_on(tmp_path):
    written(tmp_path / "flat", noise(1, 1))
    written(tmp_path / "ash", noise(4, 2))
    data = read(tmp_path, stored("ridge", "flat"))
    assert data.train.targets.bincount().tolist() == [3, 4, 3]
    assert data.test.targets.tolist() == [2]


def test_a_folder_without_a_new_picture_is_refused(tmp_path):
    before = stored("ridge", "flat")
    (tmp_path / "empty" / "flat").mkdir(parents=True)
    with pytest.raises(UserError, match=r"empty: no readable picture of ridge, flat$"):
        read(tmp_path / "empty", before)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"bare: no class folders in .*; one or more folders of pictures are needed"):
        read(tmp_path / "bare", before)
    written(tmp_path / "same" / "ridge", before.pictures.images[:3])
    with pytest.raises(UserError, match=r"^update: no new picture can be tested on, because each is a near-duplicate"):
        read(tmp_path / "same", before)
    written(tmp_path / "class" / "train" / "ash", noise(2, 1))
    written(tmp_path / "class" / "test" / "oak", noise(2, 1))
    with pytest.raises(UserError, match=r"class: test/ has classes that train/ lacks: oak"):
        read(tmp_path / "class", before)
    (tmp_path / "none" / "train" / "ash").mkdir(parents=True)
    written(tmp_path / "none" / "train" / "ridge", noise(2, 3))
    written(tmp_path / "none" / "test" / "ridge", noise(2, 4))
    with pytest.raises(UserError, match=r"train: no readable picture of ash$"):
        read(tmp_path / "none", before)


def test_a_class_without_any_train_picture_and_streamed_pictures_are_refused(tmp_path):
    written(tmp_path / "ash", noise(4, 2))
    before = stored("ridge", "flat")
    empty = StoredPictures(("ridge", "flat", "oak"), before.pictures)
    with pytest.raises(UserError, match=r"^update: neither the file nor the folder has a train picture of oak$"):
        read(tmp_path, empty)
    with pytest.raises(UserError, match=r"^dataset\.stream: the pictures are streamed from disk.*stream=false"):
        read(tmp_path, before, stream=True)


def test_pictures_of_a_class_in_folders_of_folders_are_one_class(tmp_path):
    """A single class folder has no other to compare its folders with."""
    for name in ("monday", "tuesday"):
        written(tmp_path / "ash" / name, noise(2, len(name)))
    data = read(tmp_path, stored("ridge", "flat"))
    assert data.classes == ["ridge", "flat", "ash"]
    assert len(data.train) + len(data.test) == 6 + 4


def test_equal_numbers_of_files_are_read_again_for_another_file(tmp_path):
    """What is read is kept, with the earlier file that it was read beside."""
    written(tmp_path / "ash", noise(4, 2))
    one, other = stored("ridge", "flat"), stored("ridge", "flat", each=5)
    assert [len(read(tmp_path, before).train) for before in (one, other, one)] == [6 + 3, 10 + 3, 6 + 3]
    assert read(tmp_path, one) is read(tmp_path, one)
    assert np.unique([read(tmp_path, before).fingerprint for before in (one, other)]).size == 2
