"""budget=auto: settings are chosen on held-out pictures, once."""

import json
import time

import pytest
from conftest import files

import infer


def test_the_budget_is_chosen_on_held_out_pictures_once(run, tmp_path, caplog):
    words = ["method=random", "budget=auto", "labels=views", "students.seeds=1", "students.sources=[distilled]"]
    words += ["budget.choices.labels.share=[0.02,0.2]", "budget.choices.budget.quality=[40,60]", "ipc=20"]
    result = run("distill", *words)
    assert len(result["choices"]) == 4
    best = max(result["choices"], key=lambda choice: choice["accuracy"])
    assert result["budget"]["quality"] == best["budget.quality"]
    assert result["budget"]["label_share"] == best["labels.share"]
    settings = infer.load(files(tmp_path)[0]).header.provenance["settings"]
    assert settings["budget"]["quality"] == best["budget.quality"]
    assert settings["labels"]["share"] == best["labels.share"]
    assert settings["budget"]["choices"]["budget"]["quality"] == [40, 60]  # from which it was chosen
    with caplog.at_level("INFO", logger="infer"):
        again = run("distill", *words, "seed=1")
    assert again["choices"] == result["choices"]
    assert "Chosen on held-out pictures" in caplog.text
    assert "4 of 4 choices tried" in caplog.text
    assert "of the held-out pictures" not in caplog.text  # found, not measured again
    assert infer.load(files(tmp_path)[0]).mixed_views.count == round(best["labels.share"] * 20 * 64)


def test_a_class_with_no_picture_to_hold_out_is_an_error_before_teachers_are_trained(run, tmp_path):
    with pytest.raises(infer.UserError, match="class 9 has one picture; a split needs two"):
        run("distill", "method=random", "budget=auto", "dataset.imbalance=142", "ipc=20")
    assert not list(tmp_path.rglob("teacher.safetensors"))


WORDS = ["method=random", "budget=auto", "students.seeds=1", "students.sources=[distilled]", "ipc=20"]
WORDS += ["labels=hard", "budget.choices.labels.share=null", "budget.choices.budget.quality=[40,60]"]


def test_choices_that_the_time_left_out_are_told(run, monkeypatch, caplog):
    caplog.set_level("INFO", logger="infer")
    began, clock = time.perf_counter(), time.perf_counter
    monkeypatch.setattr("infer.pipeline.search.time.perf_counter", lambda: began + 1000 * (clock() - began))
    result = run("distill", *WORDS, "report.time_budget=1s")
    assert [choice["budget.quality"] for choice in result["choices"]] == [40]
    assert "1 of 2 choices tried" in caplog.text


@pytest.mark.parametrize("content", ["{}", '{"choices": [], "held_out": 1, "left_out": 0}', "["])
def test_a_damaged_record_of_a_search_is_told_and_measured_again(run, tmp_path, caplog, content):
    first = run("distill", *WORDS)
    (record,) = tmp_path.rglob("auto/result.json")
    choice = next(record.parent.rglob("choice.json"))
    for damaged in (record, choice):
        damaged.write_text(content)
    again = run("distill", *WORDS, "seed=1")
    known = [(choice["budget.quality"], choice["accuracy"]) for choice in first["choices"]]
    assert [(choice["budget.quality"], choice["accuracy"]) for choice in again["choices"]] == known
    for damaged in (record, choice):
        assert str(damaged) in caplog.text
    assert json.loads(record.read_text())["left_out"] == 0


def test_a_record_of_other_choices_is_not_used(run, tmp_path):
    run("distill", *WORDS)
    (record,) = tmp_path.rglob("auto/result.json")
    content = json.loads(record.read_text())
    for choice in content["choices"]:
        choice["budget.quality"] = 99
    record.write_text(json.dumps(content))
    again = run("distill", *WORDS, "seed=1")
    assert [choice["budget.quality"] for choice in again["choices"]] == [40, 60]
