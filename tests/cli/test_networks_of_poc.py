"""experiment=poc takes networks with ImageNet weights where they are installed, unless the user says otherwise."""

import subprocess
import sys

import pytest
from conftest import ROOT

from infer.cli import networks, schema
from infer.cli.networks import with_networks
from infer.cli.words import arranged

OWN = ["dataset.root=pictures", "dataset.name=parts"]


def settings(monkeypatch, installed: bool, *words: str):
    """The options of a command on a machine with the weights or without them."""
    monkeypatch.setattr(networks, "has_packaged_weights", lambda model: installed)
    given = with_networks(arranged("distill", ["experiment=poc", *OWN, *words]))
    return schema.typed(schema.composed("distill", given))


def test_installed_weights_are_taken_with_the_recipe_of_fine_tuning(monkeypatch, capsys):
    options = settings(monkeypatch, True)
    assert options.teachers.backbones == ["efficientnet_lite0_pretrained"]
    assert options.students.backbones == ["efficientnet_lite0_linear", "efficientnet_lite0_pretrained"]
    assert (options.recipe.student.steps, options.recipe.student.batch, options.recipe.teacher.epochs) == (300, 32, 5)
    assert (options.dataset.image_size, options.dataset.channels) == ("auto", "auto")
    assert options.labels.kind == "hard"  # its students learn from natural images and classes
    assert "note: experiment=poc: EfficientNet-Lite0 with ImageNet weights" in capsys.readouterr().err


def test_without_weights_networks_are_trained_from_scratch_and_the_extra_is_named(monkeypatch, capsys):
    options = settings(monkeypatch, False)
    assert options.teachers.backbones == ["convnet_narrow", "convnet_deep", "resnet_narrow"]
    assert (options.recipe.student.steps, options.recipe.student.batch) == (1000, 64)
    assert (options.dataset.image_size, options.dataset.channels) == (64, "auto")
    assert (options.labels.kind, options.labels.views) == ("views", "auto")
    assert "python -m pip install 'infer-distillation[weights]'" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["recipe=poc", "recipe=cpu", "teachers=single", "students.backbones=[resnet18]"])
def test_what_the_user_says_wins(monkeypatch, capsys, word):
    options = settings(monkeypatch, True, word)
    assert not any("lite0" in name for name in (*options.teachers.backbones, *options.students.backbones))
    assert options.labels.kind == "views"
    assert capsys.readouterr().err == ""


def test_fine_tuning_is_the_same_asked_for_or_not(monkeypatch):
    assert settings(monkeypatch, False, "recipe=finetune") == settings(monkeypatch, True)


def test_other_keys_of_networks_and_recipes_change_nothing_else(monkeypatch):
    options = settings(monkeypatch, True, "students.seeds=1", "dataset.image_size=48", "labels=views")
    assert (options.students.seeds, options.dataset.image_size, options.labels.kind) == (1, 48, "views")
    assert options.recipe.student.steps == 300


@pytest.mark.parametrize("words", [["method=random"], ["experiment=cifar10-ipc10", "dataset=cifar10"]])
def test_other_commands_are_as_they_are(words, capsys):
    assert with_networks(words) == words
    assert capsys.readouterr().err == ""


def test_the_configuration_that_is_printed_is_the_chosen_one(tmp_path):
    words = [sys.executable, ROOT / "distill.py", "experiment=poc", "recipe=finetune", *OWN, "--cfg", "job"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "efficientnet_lite0_linear" in done.stdout
