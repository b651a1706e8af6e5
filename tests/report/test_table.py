"""The comparison on screen."""

import io

import pytest
from rich.console import Console

from infer.core.sources import SOURCES
from infer.report import table


def result(pictures: tuple[int, ...] = (50, 50)) -> dict:
    def row(source: str) -> dict:
        scores = {"accuracy_mean": 0.912, "accuracy_std": 0.004, "balanced_accuracy": 0.9, "macro_f1": 0.89}
        facts = {"recall": [0.9, 0.456], "seeds": 2, "seconds": 5.0, "bytes": 123456}
        return {
            "backbone": "convnet_narrow",
            "source": source,
            **scores,
            **facts,
            "steps": 400 if source == "real" else 100,
        }

    return {
        "dataset": "digits",
        "method": "infer",
        "ipc": 10,
        "labels": "views",
        "train_pictures": list(pictures),
        "test_pictures": [10] * len(pictures),
        "images": {"natural_per_class": 5.0, "compensators": 10, "composed_per_class": 30},
        "bytes": {"budget": 6400, "file": 9876, "real": 92032},
        "students": [row(source) for source in SOURCES],
        "recipe": {"batch": 64, "epochs": None, "steps": 100, "mixing": "mixup"},
        "published": {"convnet_narrow": 93.0, "resnet18": 95.0},
        "scores": {"convnet_narrow": {"improvement": 0.1, "label_robust": 0.3456}},
        "teachers": {"a": {"accuracy": 0.8}},
    }


def shown(content: dict, width: int) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(table.comparison(content))
    return output.getvalue()


def test_every_row_of_a_table_is_one_line_at_110_columns():
    printed = shown(result(), 110)
    for title in SOURCES.values():
        (line,) = [line for line in printed.splitlines() if f" {title} " in line]
        assert "convnet_narrow" in line
        assert "123,456 │ 91.2 ± 0.4 │       2.5" in line
    assert "rarest" not in printed


def test_imbalanced_classes_have_scores_of_their_own():
    printed = shown(result((50, 20)), 200)
    assert "rarest class %" in printed
    assert "90.0 │       89.0 │           45.6" in printed


def test_the_rarest_class_is_one_that_test_pictures_measure():
    content = {**result((50, 20)), "test_pictures": [10, 0]}
    for row in content["students"]:
        row["recall"] = [0.321, None]
    assert "90.0 │       89.0 │           32.1" in shown(content, 200)


def test_the_lines_below_the_table(capsys):
    table.show(result())
    printed = capsys.readouterr().out
    assert "Recipe of every student: batch 64, steps 100, mixing mixup" in printed
    assert "100 or 400 steps taken" in printed
    assert "convnet_narrow: published 93.0 %, here 91.2 %, difference -1.8" in printed
    assert "resnet18" not in printed
    assert "DD-Ranking label-robust score of convnet_narrow: 0.346" in printed
    assert "augmentation-robust" not in printed
    assert "The best teacher is 11.2 points less accurate" in printed


def test_the_caption_says_what_the_file_stores():
    assert "5 stored images per class and 10 compensators compose 30 more images per class" in table._caption(result())
    images = {"natural_per_class": 143 / 3, "naturals": [48, 48, 47], "compensators": 0, "composed_per_class": 0}
    given = {**result((48, 48, 47)), "images": images}
    assert table._caption(given).startswith(
        "47.67 stored images per class (every training picture: nothing was selected); budget 6,400 B"
    )
    assert "every" not in table._caption({**given, "method": "sre2l"})
    assert "every" not in table._caption({**given, "train_pictures": [48, 48, 48]})


def test_good_teachers_need_no_warning():
    assert table.teachers_lines({**result(), "teachers": {"a": {"accuracy": 0.9}}}) == []


@pytest.mark.parametrize("labels", ["static", "hard"])
def test_only_mixed_views_are_not_mixed_again(labels):
    assert "mixed views" in table.recipe_line(result())
    unmixed = table.recipe_line({**result(), "recipe": {"mixing": "none"}})
    assert "mixing none; 100 or" in unmixed
    assert "mixed views" not in table.recipe_line({**result(), "labels": labels})


def test_frozen_networks_have_no_recipe_of_steps():
    students = [{**row, "steps": 0} for row in result()["students"]]
    fitted = "the last layer of frozen networks is a logistic regression"
    assert table.recipe_line({**result(), "students": students}) == f"Recipe of every student: none; {fitted}"
    some = table.recipe_line({**result(), "students": [*students, *result()["students"]]})
    assert some.startswith("Recipe of every student: batch 64")
    assert some.endswith(f" steps taken; {fitted}")
    assert "; 0 or" not in some
    assert fitted not in table.recipe_line(result())
