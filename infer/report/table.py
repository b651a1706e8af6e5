"""The comparison of students as a table on screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from infer.core.sources import SOURCES
from infer.report.file_facts import origin_by
from infer.report.verdict import teachers_behind

_UNEVEN = 2  # largest class over smallest class from which on scores of rare classes are shown
_WIDTH = 120  # columns where the output is no terminal


def comparison(result: Mapping[str, Any]) -> Table:
    """Build the table of the comparison.

    Args:
        result: The content of result.json.

    Returns:
        A table with a row for each student and source. It has scores of rare classes if the classes are imbalanced.
    """
    images = result["train_pictures"]
    tested = [number for number, pictures in enumerate(result["test_pictures"]) if pictures]
    uneven, rarest = max(images) > _UNEVEN * min(images), min(tested, key=images.__getitem__)
    table = Table(title=_title(result), caption=_caption(result), title_justify="left", caption_justify="left")
    for column in ("student", "trained on"):
        table.add_column(column)
    scores = ("balanced %", "macro F1 %", "rarest class %") if uneven else ()
    for column in ("bytes", "accuracy %", *scores, "s/student"):
        table.add_column(column, justify="right")
    for row in result["students"]:
        more = (row["balanced_accuracy"], row["macro_f1"], row["recall"][rarest]) if uneven else ()
        table.add_row(
            row["backbone"],
            SOURCES[row["source"]],
            f"{row['bytes']:,}",
            accuracy(row),
            *(f"{100 * share:.1f}" for share in more),
            f"{row['seconds'] / row['seeds']:.1f}",
        )
    return table


def accuracy(row: Mapping[str, Any]) -> str:
    """Format mean and std in percent. One student has no std."""
    std = f" ± {100 * row['accuracy_std']:.1f}" if row["seeds"] > 1 else ""
    return f"{100 * row['accuracy_mean']:.1f}{std}"


def _title(result: Mapping[str, Any]) -> str:
    """Describe the run."""
    seeds = max(row["seeds"] for row in result["students"])
    over = f"mean and std over {seeds} seeds" if seeds > 1 else "one student a row"
    return f"{result['dataset']}, {result['method']}, ipc {result['ipc']}: test accuracy (last epoch, {over})"


def _caption(result: Mapping[str, Any]) -> str:
    """Describe the file: its images and its bytes."""
    sizes, images = result["bytes"], result["images"]
    stored = f"{images['natural_per_class']:.4g} stored images per class"
    if images.get("naturals") == result["train_pictures"] and origin_by(result["method"]) == "real":
        stored += " (every training picture: nothing was selected)"
    if images["compensators"]:
        composed = images["composed_per_class"]
        stored += f" and {images['compensators']} compensators compose {composed} more images per class"
    return f"{stored}; budget {sizes['budget']:,} B, file {sizes['file']:,} B, training set {sizes['real']:,} B"


def recipe_line(result: Mapping[str, Any]) -> str:
    """Return a line with the recipe of all students. Students of the full training set can take more steps.

    Frozen networks take none.
    """
    counts = sorted({row["steps"] for row in result["students"]})
    fitted = "the last layer of frozen networks is a logistic regression"
    if counts == [0]:
        return f"Recipe of every student: none; {fitted}"
    recipe = ", ".join(f"{key} {value}" for key, value in result["recipe"].items() if value is not None)
    taken = " or ".join(f"{steps:,}" for steps in counts if steps)
    again = result["labels"] == "views" and result["recipe"].get("mixing") != "none"
    mixed = " (mixed views are not mixed again)" if again else ""
    return f"Recipe of every student: {recipe}{mixed}; {taken} steps taken" + (f"; {fitted}" if 0 in counts else "")


def published_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each student of an experiment: the published accuracy, this run's, and the difference."""
    ours = {row["backbone"]: 100 * row["accuracy_mean"] for row in result["students"] if row["source"] == "distilled"}
    return [
        f"{name}: published {figure:.1f} %, here {ours[name]:.1f} %, difference {ours[name] - figure:+.1f}"
        for name, figure in result["published"].items()
        if name in ours
    ]


def scores_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each DD-Ranking score that the run has the rows for."""
    return [
        f"DD-Ranking {kind}-robust score of {name}: {score[f'{kind}_robust']:.3f}"
        for kind in ("label", "augmentation")
        for name, score in result["scores"].items()
        if score and f"{kind}_robust" in score
    ]


def teachers_lines(result: Mapping[str, Any]) -> list[str]:
    """Return a warning if the teachers are less accurate than a student of the full training set."""
    gap = teachers_behind(result)
    if gap is None:
        return []
    return [
        f"The best teacher is {100 * gap:.1f} points less accurate than a student of the full training set, which "
        "limits the value of its labels; train the teachers longer (recipe.teacher.epochs or min_steps)"
    ]


def show(result: Mapping[str, Any]) -> None:
    """Print the table of the comparison and the lines below it.

    Args:
        result: The content of result.json.
    """
    Console(width=None if Console().is_terminal else _WIDTH).print(comparison(result))
    for line in [recipe_line(result), *published_lines(result), *scores_lines(result), *teachers_lines(result)]:
        print(line)
