"""The report of a whole run: its page, its analysis of the stored students, and what is not trained again."""

import json
import statistics
from pathlib import Path

import pytest
import torch
from conftest import TINY
from hydra import compose, initialize_config_dir
from reading_pages import assert_numbers_are_those_of, assert_page_is_self_contained

from infer.cli import schema
from infer.core import ufc
from infer.data import read_dataset
from infer.models.networks import build
from infer.models.weights import load_weights
from infer.pipeline.options import DistillOptions
from infer.pipeline.run import distill

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
    assert_numbers_are_those_of(*finished["pages"][language])


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
    of_pictures = 1.959964 * float(difference.std(correction=0)) / len(difference) ** 0.5
    of_students = 4.302653 * variance**0.5  # Student's t of 2 degrees of freedom: two students of each
    half = (of_pictures**2 + of_students**2) ** 0.5
    assert loss["high"] - loss["points"] == pytest.approx(half, abs=1e-6)
    lost = sum(kind["lost"] for kind in result["evidence"]["classes"])
    assert lost == int(((correct["real"] > 0.5) & ~(correct["distilled"] > 0.5)).sum())


def test_the_time_budget_is_kept_and_the_first_choice_is_always_tried(pictures, tmp_path, caplog):
    words = [f"output={tmp_path}", f"dataset.root={pictures}", "students.seeds=1"]
    result = run(*words, "report.time_budget=0.01s", "report.language=null", "students.sources=[distilled]")
    assert [choice["labels.share"] for choice in result["choices"]] == [0.1]
    assert "1 of 2 choices tried" in caplog.text
    assert not list(tmp_path.rglob("report.html"))
