"""suspects.csv of a run: the labels that look wrong, in its report, and added to a run that is finished."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from infer.cli import schema
from infer.data import read_folder
from infer.models.options import BackboneOptions
from infer.models.pretrained import packaged_weights
from infer.pipeline import suspects
from infer.training.context import Context

WORDS = [
    "experiment=poc",
    *TINY,
    "dataset.image_size=16",
    "dataset.channels=1",
    "ipc=4",
    "labels=hard",
    "method=random",
    "students.seeds=1",
    "students.sources=[distilled,random,real]",
    "teachers.margin=-1",
    "budget.choices.budget.quality=null",
    "report.curve=null",
]
WRONG = {"train/plain/wrong0.png": "striped", "train/plain/wrong1.png": "striped", "train/striped/wrong2.png": "plain"}
HEADS = {"en": "Labels to look at", "ja": "確認をお勧めするラベル"}


def draw(root: Path, wrong: dict[str, str]) -> Path:
    """Draw 57 train and 8 test pictures of two classes, and those in ``wrong``, which have the look of the other."""
    generator = np.random.default_rng(0)
    height = {"plain": 0, "striped": 100}

    def picture(path: Path, looks_like: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        waves = np.sin(np.arange(16) * 1.5 + generator.uniform(0, 6))
        pixels = 128 + height[looks_like] * waves + generator.normal(0, 10, (16, 16))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

    for part, counts in (("train", (28, 29)), ("test", (4, 4))):
        for name, count in zip(height, counts, strict=True):
            for number in range(count):
                picture(root / part / name / f"{number}.png", name)
    for path, looks_like in wrong.items():
        picture(root / path, looks_like)
    return root


def listed(output: Path) -> list[dict[str, str]]:
    (file,) = output.rglob("suspects.csv")
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def times(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}


@pytest.fixture(params=["weights", "teacher"])
def network(request, monkeypatch) -> str:
    """Whether ImageNet weights are installed, and whose features are taken."""
    if request.param == "teacher":
        monkeypatch.setattr(suspects, "packaged_weights", lambda model: None)
    elif packaged_weights("tf_efficientnet_lite0") is None:
        pytest.skip("the extra weights is not installed")
    return {"weights": "tf_efficientnet_lite0", "teacher": "convnet_narrow"}[request.param]


def test_three_flipped_labels_come_to_a_finished_run_and_are_the_only_ones(config, run, tmp_path, network):
    root, output = draw(tmp_path / "pictures", WRONG), tmp_path / "outputs"
    words = [*WORDS, f"dataset.root={root}"]
    result = run("distill", *words, "report.suspects=false", "recipe.teacher.epochs=30")
    assert "suspects" not in result
    assert not list(output.rglob("suspects.csv"))
    (page,) = output.rglob("report.html")
    assert HEADS["en"] not in page.read_text(encoding="utf-8")
    before = times(output)
    for language, head in HEADS.items():
        found = run("distill", *words, "recipe.teacher.epochs=30", f"report.language={language}")["suspects"]
        assert times(output) == before
        assert found["network"] == network
        assert (found["checked"], found["train"], found["listed"]) == (60, 60, 3)
        html = page.read_text(encoding="utf-8")
        assert head in html
        assert html.count("→ <bdi") == 3 + html.count("<figcaption>→")
        assert all(path in html for path in WRONG)
        for path, looks_like in WRONG.items():
            (entry,) = [each for each in found["pictures"] if each["path"] == path]
            assert entry["looks_like"] == looks_like
    table = listed(output)
    assert {each["path"]: each["looks_like"] for each in table} == WRONG
    assert [each["rank"] for each in table] == ["1", "2", "3"]
    assert all(float(each["probability_of_other"]) > float(each["probability_of_class"]) for each in table)
    assert list(table[0]) == [
        *("path", "class", "looks_like", "probability_of_class", "probability_of_other", "rank"),
    ]


def test_a_list_that_was_changed_is_made_again(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(suspects, "packaged_weights", lambda model: None)
    words = [*WORDS, f"dataset.root={draw(tmp_path / 'pictures', {})}", "report.suspects=true"]
    first = run("distill", *words)["suspects"]
    (file,) = (tmp_path / "outputs").rglob("suspects.csv")
    kept = file.read_text()
    assert run("distill", *words)["suspects"] == first
    assert "looks wrong" not in caplog.text.rpartition("finished before")[2]
    file.write_text("path\n")
    caplog.clear()
    assert run("distill", *words)["suspects"] == first
    assert file.read_text() == kept
    assert "suspects.csv: is not the list" in caplog.text


def test_a_clean_set_has_an_empty_list_and_the_page_says_so(run, tmp_path, network):
    words = [*WORDS, f"dataset.root={draw(tmp_path / 'pictures', {})}", "recipe.teacher.epochs=30"]
    result = run("distill", *words)
    assert (result["suspects"]["found"], result["suspects"]["pictures"]) == (0, [])
    assert listed(tmp_path / "outputs") == []
    (page,) = (tmp_path / "outputs").rglob("report.html")
    assert "None of the" in page.read_text(encoding="utf-8")


def test_digits_have_no_files_and_a_list_without_a_report(run, tmp_path, monkeypatch):
    monkeypatch.setattr(suspects, "packaged_weights", lambda model: None)
    monkeypatch.setattr(suspects, "CHECKED", 300)
    result = run("distill", "ipc=10", "students.sources=[distilled]", "report.suspects=true", "students.seeds=1")
    found = result["suspects"]
    assert (found["checked"], found["train"]) == (300, sum(result["train_pictures"]))
    assert 0 < found["listed"] <= 15
    assert all(each["path"] == f"train/{each['index']}" for each in found["pictures"])
    assert [each["path"] for each in listed(tmp_path / "outputs")] == [each["path"] for each in found["pictures"]]
    assert not list((tmp_path / "outputs").rglob("report.html"))
    stored = json.loads(next((tmp_path / "outputs").rglob("distill/**/result.json")).read_text())
    assert stored["suspects"] == found


@pytest.mark.parametrize("channels", [1, 3])
def test_features_of_many_maps_are_averaged(channels, tmp_path):
    data = read_folder(draw(tmp_path, {}), image_size=128, channels=channels)
    context = Context(data)
    extractor = suspects.Extractor("wide", context.network("convnet_narrow").eval(), 128, pretrained=False)
    positions = torch.arange(3)
    assert extractor.features(context, positions).shape == (3, 2048)  # of 32 x 16 x 16


@pytest.mark.parametrize(
    "weights",
    [
        {"pretrained": "mine.safetensors"},
        {"options": {"checkpoint_path": "mine.pth"}},
        {"options": {"pretrained": True, "pretrained_cfg_overlay": {"file": "mine.pth"}}},
        {"options": {"pretrained": True, "pretrained_cfg": {"hf_hub_id": "me/mine"}}},
    ],
)
def test_own_weights_do_not_count_as_blind_to_the_labels(weights, tmp_path, monkeypatch, caplog):
    """They may be of a training with these labels: installed weights, or none, take their place."""
    own = BackboneOptions("mine", "resnet10t", "full", **weights)
    context = Context(read_folder(draw(tmp_path, {}), image_size=16), backbones={"mine": own})
    monkeypatch.setattr(suspects, "packaged_weights", lambda model: None)
    with caplog.at_level("INFO", "infer"):
        assert suspects.Extractor.with_weights(context, ["mine", "convnet_narrow", "mine"]) is None
    line = "report.suspects: the weights of mine may come from these labels; its features are not used"
    assert [record.message for record in caplog.records].count(line) == 1


@pytest.mark.parametrize("options", [{}, {"pretrained_cfg_overlay": {"mean": [0.5] * 3, "std": [0.5] * 3}}])
def test_published_weights_are_blind_to_the_labels(options):
    assert BackboneOptions("mine", "resnet10t", "full", options, pretrained=True).is_published
    assert not BackboneOptions("mine", "resnet10t", "full", options).is_published


def test_pictures_that_a_run_may_fine_tune_are_compared_by_the_weights_before(config, tmp_path):
    if packaged_weights("tf_efficientnet_lite0") is None:
        pytest.skip("the extra weights is not installed")
    options = config("distill")
    context = Context(read_folder(draw(tmp_path, {}), image_size=16), backbones=schema.backbones(options))
    one, other = (
        suspects.Extractor.with_weights(context, names)
        for names in (["convnet_narrow", "efficientnet_lite0_pretrained"], ["convnet_narrow"])
    )
    positions = torch.arange(2)
    assert (one.name, one.side, one.pretrained) == (other.name, other.side, other.pretrained)
    assert one.features(context, positions).equal(other.features(context, positions))
