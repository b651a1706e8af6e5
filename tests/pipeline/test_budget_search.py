"""budget=auto: settings are chosen on held-out pictures, once."""

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
    with caplog.at_level("INFO", logger="infer"):
        again = run("distill", *words, "seed=1")
    assert again["choices"] == result["choices"]
    assert "Chosen on held-out pictures" in caplog.text
    assert "of the held-out pictures" not in caplog.text  # found, not measured again
    assert infer.load(files(tmp_path)[0]).mixed_views.count == round(best["labels.share"] * 20 * 64)


def test_a_class_with_no_picture_to_hold_out_is_an_error_before_teachers_are_trained(run, tmp_path):
    with pytest.raises(infer.UserError, match="class number 9 has one picture; a split needs two"):
        run("distill", "method=random", "budget=auto", "dataset.imbalance=142", "ipc=20")
    assert not list(tmp_path.rglob("teacher.safetensors"))
