"""The report of a whole run: its page, its analysis of the stored students, and what is not trained again."""

import json
import re
import statistics
from html import unescape
from pathlib import Path

import pytest
import torch
from conftest import TINY
from hydra import compose, initialize_config_dir
from reading_pages import assert_numbers_are_those_of, assert_page_is_self_contained

import infer
from infer.cli import schema
from infer.core import ufc
from infer.data import read_dataset
from infer.models.networks import build
from infer.models.weights import load_weights
from infer.pipeline.options import DistillOptions
from infer.pipeline.run import distill
from infer.report.file_facts import with_file_numbers

WORDS = [
    *TINY,
    "experiment=poc",
    "dataset.image_size=16",
    "dataset.channels=1",
    "ipc=8",
    "labels.proxy_steps=5",
    "labels.candidates=2",
    "labels.share=0.1",
    "budget.choices.labels.share=[0.1,0.2]",
    "budget.choices.budget.quality=null",
    "teachers.margin=-1",
    "students.sources=[distilled,random,real]",
    "report.curve=[0.5,1]",  # a quarter of these few bytes has no room for a picture of each class
]


def composed(*words: str) -> DistillOptions:
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return schema.typed(compose("distill", [*WORDS, *words]))


def run(*words: str) -> dict:
    options = composed(*words)
    return distill(options, schema.backbones(options))


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory) -> dict:
    """A run on the folder of stripes, its result and pages by language."""
    output = tmp_path_factory.mktemp("report")
    words = [f"output={output}", f"dataset.root={pictures}"]
    pages = {}
    for language in ("en", "ja"):
        result = run(*words, f"report.language={language}")
        (page,) = output.rglob("report.html")
        pages[language] = (json.loads((page.parent / "result.json").read_text()), page.read_text())
    return {"words": words, "pages": pages, "folder": page.parent, "result": result}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_number_of_the_report_is_that_of_result_json(finished, language):
    result, page = finished["pages"][language]
    searched = {"searched": {"tried": 2, "of": 2}}
    numbers = with_file_numbers(result, infer.load(finished["folder"] / "distilled.safetensors"))
    assert numbers == result | searched  # the file is the one that the result describes
    assert_numbers_are_those_of(numbers, page)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_needs_nothing_but_itself(finished, language):
    _, page = finished["pages"][language]
    assert_page_is_self_contained(page)
    assert f'<html lang="{language}">' in page
    assert "kuro 黒" in page


def test_another_language_is_no_new_training(finished):
    before = {path: path.stat().st_mtime_ns for path in finished["folder"].rglob("*.safetensors")}
    run(*finished["words"], "report.language=en", "report.retrainings=7")
    assert {path: path.stat().st_mtime_ns for path in finished["folder"].rglob("*.safetensors")} == before
    assert json.loads((finished["folder"] / "result.json").read_text())["report"]["retrainings"] == 7


def test_stored_students_are_those_of_the_table_and_the_loss_is_their_difference(finished):
    result = finished["result"]
    data = read_dataset(composed(*finished["words"]).dataset)
    correct, variance = {}, 0.0
    for row in result["students"]:
        hits = []
        for file, accuracy in zip(row["weights"], row["accuracies"], strict=True):
            network = build(row["backbone"], len(data.classes), data.channels, data.side).eval()
            load_weights(network, Path(file))
            with torch.no_grad():
                right = network(ufc.normalise(data.test.images, *data.moments)).argmax(1) == data.test.targets
            assert float(right.float().mean()) == pytest.approx(accuracy)
            hits.append(right.float())
        correct[row["source"]] = torch.stack(hits).mean(0)
        if row["source"] in ("real", "distilled"):
            variance += statistics.variance(row["accuracies"]) / len(row["accuracies"])
    loss = result["evidence"]["loss"]
    difference = correct["real"] - correct["distilled"]  # four test pictures of each class: the weights are equal
    assert loss["points"] == pytest.approx(float(difference.mean()), abs=1e-6)
    pictures = torch.cat([difference, torch.tensor([1.0, -1.0])])  # one more that each alone has right
    half = 1.959964 * float(pictures.std(correction=0)) / len(pictures) ** 0.5
    of_students = 4.302653 * variance**0.5  # Student's t of 2 degrees of freedom: two students of each
    for end, sign in (("high", 1), ("low", -1)):
        of_pictures = float(pictures.mean()) + sign * half - loss["points"]
        assert abs(loss[end] - loss["points"]) == pytest.approx((of_pictures**2 + of_students**2) ** 0.5, abs=1e-6)
    lost = sum(kind["lost"] for kind in result["evidence"]["classes"])
    assert lost == int(((correct["real"] > 0.5) & ~(correct["distilled"] > 0.5)).sum())


def test_the_decision_has_the_bytes_of_the_train_files_on_disk(finished, pictures):
    storage = finished["result"]["decision"]["storage"]
    assert storage["folder"] == sum(file.stat().st_size for file in (pictures / "train").rglob("*.*"))
    assert storage["file"] == (finished["folder"] / "distilled.safetensors").stat().st_size


def test_students_of_all_pictures_are_measured_up_to_their_end_and_those_of_the_file_at_it(finished):
    rows = {row["source"]: row for row in finished["result"]["students"]}
    assert "timelines" not in rows["random"]
    for source, points in (("real", 10), ("distilled", 1)):
        row = rows[source]
        assert [len(timeline) for timeline in row["timelines"]] == [points] * 2
        for timeline, accuracy in zip(row["timelines"], row["accuracies"], strict=True):
            assert timeline[-1]["step"] == row["steps"]
            assert timeline[-1]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert finished["result"]["decision"]["time"]["students"] == 2
    assert finished["result"]["decision"]["time"]["pictures"] == 12


def test_the_time_budget_is_kept_and_the_first_choice_is_always_tried(pictures, tmp_path, caplog):
    words = [f"output={tmp_path}", f"dataset.root={pictures}", "students.seeds=1"]
    words += ["report.language=null", "report.curve=null", "report.suspects=false", "students.sources=[distilled]"]
    result = run(*words, "report.time_budget=0.01s")
    assert [choice["labels.share"] for choice in result["choices"]] == [0.1]
    assert "1 of 2 choices tried" in caplog.text
    assert not list(tmp_path.rglob("report.html"))


def page_of(*words: str) -> str:
    """The words of the page of a run, without plots, styles and settings."""
    run(*words)
    (output,) = (word.partition("=")[2] for word in words if word.startswith("output="))
    (page,) = Path(output).rglob("report.html")
    html = re.sub(r"<(svg|style|script|pre|title)\b.*?</\1>", "", page.read_text(), flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def test_a_file_of_every_picture_says_what_was_chosen_and_that_nothing_was_selected(pictures, tmp_path):
    """Thirty-six train pictures, and room for more: ipc=10 is what a class may take in bytes, not what it has."""
    choices = [
        "budget.choices.labels.share=null",
        "budget.choices.budget.quality=[60,40,75]",
        "report.time_budget=0.01s",
    ]
    shown = page_of(f"output={tmp_path}", f"dataset.root={pictures}", "students.seeds=1", "ipc=10", *choices)
    assert "The file stores 36 images, 12 of each class, compressed as AVIF at quality 60." in shown
    assert "The file holds every training picture: nothing was selected." in shown
    assert "1 of 3 choices tried" in shown
    assert "Chosen: budget.quality=60." in shown
    assert "bytes of 10 uncompressed images of each class" in shown  # the budget, in bytes
    settings = infer.load(next(tmp_path.rglob("distilled.safetensors"))).header.provenance["settings"]
    assert settings["budget"]["quality"] == 60


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        (["method=random", "labels=hard", "budget=raw"], "The label of an image is its class."),
        (["method=random", "labels=dynamic", "budget=infer"], "students need the teachers themselves"),
    ],
)
def test_a_run_that_composes_nothing_has_a_report(words, labels, pictures, tmp_path):
    plain = [*words, "budget.choices.labels.share=null", "students.seeds=1", "ipc=9", "report.curve=null"]
    shown = page_of(f"output={tmp_path}", f"dataset.root={pictures}", *plain)
    assert "nothing is composed" in shown
    assert "as uncompressed pixels" in shown
    assert labels in shown
