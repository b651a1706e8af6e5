"""Data sets by options: their checks, their defaults, and what is read."""

import math
import shutil
from dataclasses import asdict, replace

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf

from infer import UserError
from infer.core.checks import check
from infer.data import DatasetOptions, datasets, read_dataset
from infer.data.datasets import digits_splits, torchvision_splits

DIGITS = DatasetOptions(name="digits", kind="digits", image_size=8, channels=1, crop=1, flip=False)


def test_digits_are_complete_and_split_evenly():
    splits = digits_splits("digits", 0.2, 0)
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.train.images.shape[1:] == (1, 8, 8)
    assert int(splits.train.images.max()) == 255
    share = splits.test.targets.bincount() / (splits.train.targets.bincount() + splits.test.targets.bincount())
    assert ((share - 0.2).abs() < 0.01).all()
    mean, std = splits.moments
    pixels = splits.train.images.double() / 255
    torch.testing.assert_close(mean, pixels.mean().float().view(1))
    torch.testing.assert_close(std, pixels.std(correction=0).float().view(1))


def test_a_failed_download_says_which_file_to_put_where(tmp_path, monkeypatch):
    import torchvision

    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", unreachable)
    with pytest.raises(UserError, match=r"dataset=cifar10: CIFAR10 is not in .*dataset.root=<folder"):
        torchvision_splits("cifar10", "CIFAR10", tmp_path)


def test_equal_options_are_read_once_unless_a_file_of_the_folder_changed(pictures, tmp_path, monkeypatch):
    root = shutil.copytree(pictures, tmp_path / "copy")
    reads = []
    folder_splits = datasets.folder_splits
    monkeypatch.setattr(datasets, "folder_splits", lambda *words: reads.append(1) or folder_splits(*words))
    first, again = (
        read_dataset(DatasetOptions(root=str(root), image_size=16, mean=[0.5] * 3, std=[0.2] * 3)) for _ in range(2)
    )
    assert first is again
    grey = DatasetOptions(root=str(root), image_size=16, channels=1)
    other = read_dataset(grey)
    assert other.channels == 1
    (root / "train" / "flat" / "0.png").unlink()
    assert len(read_dataset(grey).train) == len(first.train) - 1
    assert len(reads) == 3
    one, other = root / "train" / "flat" / "3.png", root / "train" / "ridge" / "3.png"
    one.write_bytes(other.read_bytes())  # in place: the folder's own time stays
    images = read_dataset(grey).train.images
    assert torch.equal(images[4], images[-7])
    assert len(reads) == 4


def test_the_options_decide_moments_imbalance_and_validation(caplog):
    caplog.set_level("INFO", logger="infer")
    whole = read_dataset(DIGITS)
    assert whole.fingerprint == digits_splits("digits", 0.2, 0).fingerprint
    assert "digits: 1438 train and 359 test pictures, 10 classes, 8 x 8, grey" in caplog.text
    given = read_dataset(replace(DIGITS, mean=[0.5], std=[0.25]))
    assert [moment.tolist() for moment in given.moments] == [[0.5], [0.25]]
    tailed = read_dataset(replace(DIGITS, imbalance=40, validation=0.1, split_seed=2))
    expected = digits_splits("digits", 0.2, 2).long_tailed(40, 2).held_out(0.1, 2)
    assert tailed.fingerprint == expected.fingerprint


def test_notes_are_logged_each_time(pictures, caplog):
    for _ in range(2):
        read_dataset(DatasetOptions(root=str(pictures / "train"), image_size=16, stream=True))
        assert "near-duplicates were not looked for: the pictures are streamed" in caplog.text
        caplog.clear()


def test_data_of_another_shape_are_refused():
    with pytest.raises(UserError, match=r"dataset.channels=3: the pictures of digits have 1; leave it"):
        read_dataset(replace(DIGITS, channels=3))
    with pytest.raises(UserError, match=r"dataset.image_size=16: the pictures of digits have 8; leave it"):
        read_dataset(replace(DIGITS, image_size=16))


def test_data_without_a_test_split_need_a_test_fraction():
    with pytest.raises(UserError, match=r"dataset.test_fraction=null: digits has no test split of its own"):
        read_dataset(replace(DIGITS, test_fraction=None))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "folders"}, "dataset.kind=folders: unknown; did you mean folder? choose one of"),
        ({"channels": 2}, "dataset.channels=2: unknown; choose one of 1, 3"),
        ({"image_size": 2}, "dataset.image_size=2: must lie between 4 and 1024"),
        ({"crop": 65}, "dataset.crop=65: must lie between 0 and 64"),
        ({"crop": -1}, "dataset.crop=-1: must lie between 0 and 64"),
        ({"resized_crop": 0.0}, "dataset.resized_crop=0.0: must lie between 0.01 and 1"),
        ({"mean": [0.5] * 3}, "dataset.mean=[0.5,0.5,0.5]: give mean and std a value for each of 3 channels"),
        (
            {"mean": [0.5] * 3, "std": [0.2]},
            "dataset.std=[0.2]: give mean and std a value for each of 3 channels",
        ),
        ({"std": [0.2] * 3}, "dataset.mean=null: give mean and std a value for each of 3 channels"),
        ({"mean": [math.nan] * 3, "std": [0.2] * 3}, "dataset.mean=[nan,nan,nan]: must be a number between"),
        ({"mean": [0.5] * 3, "std": [0.2, 0.2, 0.0]}, "dataset.std=[0.2,0.2,0.0]: must lie between"),
        ({"mean": [0.5] * 3, "std": [-1.0] * 3}, "dataset.std=[-1.0,-1.0,-1.0]: must lie between"),
        ({"mean": [0.5] * 3, "std": [math.inf] * 3}, "dataset.std=[inf,inf,inf]: must be a number between"),
        ({"test_fraction": 0.95}, "dataset.test_fraction=0.95: must lie between 0.01 and 0.9"),
        ({"validation": 0.0}, "dataset.validation=0.0: must lie between 0.01 and 0.9"),
        ({"imbalance": 0.5}, "dataset.imbalance=0.5: must lie between 1 and 1000000.0"),
        ({"name": "a/b"}, "dataset.name=a/b: has / in it, and names a folder below output=; choose another"),
        ({"name": ".a"}, "dataset.name=.a: begins or ends with a dot or a space, and names a folder below output="),
        ({"background": "wite"}, "dataset.background=wite: not a colour; give a name, such as white, or #rrggbb"),
        ({"background": "#ffffff80"}, "dataset.background=#ffffff80: not a colour; give a name"),
        ({"depth": 0}, "dataset.depth=0: must lie between 1 and 32"),
        ({"depth": 12.5}, "dataset.depth=12.5: must be"),
        ({"split_seed": -1}, "dataset.split_seed=-1: must lie between 0 and"),
        ({"root": None}, "dataset.root=null: give the folder of pictures, dataset.root=<folder>"),
    ],
)
def test_a_wrong_option_is_one_line(wrong, says):
    with pytest.raises(UserError) as error:
        check(DatasetOptions(**{"root": "parts", **wrong}), "dataset.")
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


def test_the_defaults_are_those_of_the_image_folder():
    stored = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "dataset" / "image_folder.yaml"))
    own = asdict(DatasetOptions())
    assert list(own) == list(stored)
    site = {"root", "data_dir"}  # the file asks for the one, and takes the other from the environment
    assert {key: own[key] for key in own if key not in site} == {key: stored[key] for key in own if key not in site}
