"""Classes of very different sizes: what is stored of them, how they are learnt, and what is reported of the rare."""

import pytest
import torch
import torch.nn.functional as F
from conftest import files

import infer
from infer.core.options import AugmentOptions, MixingOptions
from infer.models.classifier import Task
from infer.models.networks import build
from infer.models.options import OptimiserOptions, backbone
from infer.models.student import StudentModule
from infer.models.teacher import TeacherModule

WORDS = ["dataset.imbalance=40", "ipc=6", "students.seeds=2", "students.sources=[distilled,random,real]"]


def test_rare_classes_are_stored_whole_and_lend_their_pictures_to_every_round(run, tmp_path, capsys):
    result = run("distill", *WORDS)
    counts = result["train_pictures"]
    assert counts[0] == max(counts)
    assert counts[9] == min(counts) == 4
    naturals = result["images"]["naturals"]
    assert naturals[9] == 4  # whole, where the split has five of a class
    assert sum(naturals) == 50
    made = infer.load(files(tmp_path)[0])
    assert made.natural_targets.bincount().tolist() == naturals
    assert len(made.compensators) == 5
    pairs = [tuple(pair) for pair in made.pairs.tolist()]
    assert len(set(pairs)) == len(pairs) == sum(min(count, 5) for count in naturals)
    for row in result["students"]:
        assert len(row["recall"]) == 10
        assert row["balanced_accuracy"] == pytest.approx(sum(row["recall"]) / 10)
        assert 0 <= row["macro_f1"] <= 1
    shown = capsys.readouterr().out
    for column in ("balanced", "macro F1", "rarest"):
        assert column in shown


@pytest.mark.parametrize(("per_class", "power"), [("sqrt", 0.5), ("proportional", 1.0)])
def test_naturals_are_shared_by_the_sizes_of_classes_where_asked(per_class, power, run):
    words = [*WORDS, f"budget.per_class={per_class}", "ipc=4", "students.sources=[distilled]", "method=random"]
    result = run("distill", *words, "recipe.student.steps=2", "students.seeds=1")
    pictures = torch.tensor(result["train_pictures"]).double()
    weights = pictures**power
    wanted = (weights / weights.sum() * 40).clamp(min=1)
    assert (torch.tensor(result["images"]["naturals"]) - wanted).abs().max() <= 2
    assert sum(result["images"]["naturals"]) == 40


def test_balanced_is_another_teacher_where_sizes_differ_and_the_same_where_they_do_not(run, pictures, tmp_path):
    words = ["backbone=convnet_narrow", "recipe.teacher.epochs=1", "dataset.test_fraction=0.25"]
    own = ["dataset=image_folder", f"dataset.root={pictures}", "recipe=cpu", "dataset.image_size=16"]
    for balanced in ("true", "false"):
        run("train", *own, *words, f"dataset.balanced={balanced}")
        run("train", "dataset.imbalance=10", *words, f"dataset.balanced={balanced}")
    made = [path.parent.relative_to(tmp_path) for path in tmp_path.rglob("teacher.safetensors")]
    assert len([path for path in made if "image_folder" in path.parts]) == 1
    assert len([path for path in made if "digits" in path.parts]) == 2


@pytest.mark.parametrize(
    ("epochs", "taken"), [(4, "(9 epochs of 6 "), (12, "(12 epochs of 6 "), (0, "(0 epochs of 6 ")]
)
def test_teachers_of_few_pictures_take_more_epochs(epochs, taken, run, caplog):
    """An epoch of few pictures is few steps, of which a rare class gets next to nothing."""
    caplog.set_level("INFO", logger="infer")
    words = ["dataset.imbalance=40", "backbone=convnet_narrow", "recipe.teacher.min_steps=50"]
    run("train", *words, f"recipe.teacher.epochs={epochs}")
    assert f"Training teacher convnet_narrow {taken}" in caplog.text


@pytest.mark.parametrize("kind", [TeacherModule, StudentModule])
def test_the_adjusted_loss_is_that_of_the_paper(kind, monkeypatch):
    """Cross-entropy of the logits plus the logarithms of the classes' shares; the answer itself is not adjusted."""
    network = build(backbone("convnet_narrow"), 3, 1, 8)
    shares = torch.tensor([0.7, 0.2, 0.1])
    moments = (torch.tensor([0.5]), torch.tensor([0.25]))
    task = Task(3, moments, AugmentOptions(0, False), OptimiserOptions(optimizer="adamw", lr=1e-3), 1, shares)
    more = [] if kind is TeacherModule else [MixingOptions("none"), "probabilities", 1.0]
    module = kind("net", network, task, *more)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    targets = torch.tensor([0, 1, 2, 0, 0])
    labels = targets if kind is TeacherModule else F.one_hot(targets, 3).float()
    logits = module(images)
    expected = -(logits + shares.log()).log_softmax(dim=1)[torch.arange(5), targets].mean()
    torch.testing.assert_close(module.training_step((images, labels), 0), expected)
