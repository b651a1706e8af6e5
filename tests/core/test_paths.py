"""``~`` is the home folder wherever a caller of the library gives a path, and a folder of that name stays reachable."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import infer
from infer.core.paths import user_path
from infer.data import DatasetOptions, datasets, read_dataset
from infer.data.summary import summarise
from infer.distilled import Header
from infer.models.networks import build
from infer.pipeline import run as runs
from infer.pipeline import tune
from infer.pipeline.run_folder import Run
from infer.training.context import Context
from infer.training.teachers import training_folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home folder that is not the working folder, in which nothing called ``~`` may appear."""
    folder, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(elsewhere)
    yield folder
    assert not list(elsewhere.iterdir())


def small() -> infer.DistilledSet:
    header = Header(["cat", "dog"], [0.5], [0.25], "hard", "probabilities", 1.0, compensators_per_round=0)
    naturals, none = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.empty(0, 1, 8, 8, dtype=torch.int8)
    return infer.DistilledSet(naturals, torch.tensor([0, 1]), none, None, header)


def test_only_a_leading_tilde_is_the_home_folder(home):
    assert user_path("~") == home
    assert user_path("~/a/~") == user_path(Path("~/a/~")) == home / "a" / "~"
    for path in ("a/~", "a~", "./~/a", "~no-such-user/a"):
        assert user_path(path) == Path(path)


def test_a_set_is_saved_read_exported_and_trained_on_in_the_home_folder(home):
    small().save("~/sets/small.safetensors")
    assert (home / "sets" / "small.safetensors").is_file()
    for path in ("~/sets/small.safetensors", Path("~/sets/small.safetensors")):
        assert len(infer.load(path)) == len(infer.DistilledDataModule(path).dataset) == 2
    infer.train_student("~/sets/small.safetensors", "convnet_narrow", steps=1)
    small().export("~/out")
    assert (home / "out" / "meta.json").is_file()
    with pytest.raises(infer.UserError, match=f"^{home}/none.safetensors: no such distilled file"):
        infer.load("~/none.safetensors")


def test_pictures_are_read_from_the_home_folder(home, pictures):
    (home / "pictures").symlink_to(pictures)
    data = infer.read_folder("~/pictures", image_size=8)
    assert len(data.train) == 36
    options = DatasetOptions("set", root="~/pictures", image_size=8)
    assert read_dataset(options).fingerprint == data.fingerprint
    assert summarise(data, "~/pictures")["files"] == 48


def test_a_changed_file_in_the_home_folder_is_noticed(home, pictures):
    for name in ("a", "b"):
        (home / "own" / name).mkdir(parents=True)
        for number in range(4):
            (home / "own" / name / f"{number}.png").write_bytes((pictures / "train/flat/0.png").read_bytes())
    options = DatasetOptions("set", root="~/own", image_size=8)
    before = read_dataset(options)
    (home / "own" / "a" / "4.png").write_bytes((pictures / "train/ridge/0.png").read_bytes())
    assert len(read_dataset(options).train) == len(before.train) + 1


def test_downloads_go_into_the_home_folder(home, monkeypatch):
    found, splits = [], datasets.digits_splits("digits", 0.2, 0)
    monkeypatch.setattr(datasets, "torchvision_splits", lambda *words: found.append(words) or splits)
    read_dataset(DatasetOptions("d", "torchvision", "MNIST", data_dir="~/data", image_size=8, channels=1))
    assert found == [("d", "MNIST", home / "data")]


def test_a_networks_weights_are_read_from_the_home_folder(home):
    options = {"channels": [8, 8, 8, 8], "stem_width": 8}
    own = infer.BackboneOptions("own", "resnet10t", "full", options)
    torch.manual_seed(1)
    trained = build(own, 3, 3, 32)
    torch.save(trained.state_dict(), home / "own.pth")
    for more in (
        {"checkpoint_path": "~/own.pth"},
        {"pretrained": True, "pretrained_cfg_overlay": {"file": "~/own.pth", "num_classes": 3}},
    ):
        found = build(replace(own, options={**options, **more}), 3, 3, 32)
        assert torch.equal(found.conv1[0].weight, trained.conv1[0].weight)


def test_the_folders_of_runs_lie_in_the_home_folder(home, config):
    options = replace(config("distill", "dataset=digits"), output="~/out")
    assert Run.prepare(options, {}).place == home / "out" / "distill" / "digits" / "infer-ipc10" / "seed0"
    assert runs.plan(options, {})["folder"].startswith(str(home / "out"))
    assert tune._place(options).is_relative_to(home / "out" / "tune")
    context = Context(datasets.digits_splits("digits", 0.2, 0))
    assert training_folder(context, "convnet", "~/out") == home / "out" / "train" / "digits" / "convnet"


def test_a_folder_called_like_the_home_folder_is_reached_by_its_whole_name(tmp_path, monkeypatch, pictures):
    monkeypatch.chdir(tmp_path)
    small().save("./~/small.safetensors")
    assert (tmp_path / "~" / "small.safetensors").is_file()
    assert len(infer.load("./~/small.safetensors")) == 2
    (tmp_path / "~" / "pictures").symlink_to(pictures)
    data = infer.read_folder("./~/pictures", image_size=8)
    assert len(data.train) == 36
    assert len(read_dataset(DatasetOptions("set", root="./~/pictures", image_size=8)).train) == 36
    assert summarise(data, "./~/pictures")["files"] == 48
