"""The comparison on screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from infer.cli.schema import SOURCES
from infer.report.verdict import teachers_behind


def comparison(result: Mapping[str, Any]) -> Table:
    """The students of ``result`` (the content of result.json), a line each."""
    sizes, images = result["bytes"], result["images"]
    table = Table(
        title=f"{result['dataset']}, {result['method']}, ipc {result['ipc']}: test accuracy (last epoch, "
        f"mean and std over {max(row['seeds'] for row in result['students'])} seeds)",
        caption=f"{images['natural_per_class']} naturals a class + {images['compensators']} compensators -> "
        f"{images['composed_per_class']} more images a class; budget {sizes['budget']:,} B, file {sizes['file']:,} B, "
        f"real set {sizes['real']:,} B",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("student", "trained on"):
        table.add_column(column)
    pictures = result["train_pictures"]
    uneven, rarest = max(pictures) > 2 * min(pictures), pictures.index(min(pictures))
    columns = ("balanced %", "macro F1 %", "rarest class %") if uneven else ()
    for column in ("bytes", "accuracy %", *columns, "seconds a student"):
        table.add_column(column, justify="right")
    for row in result["students"]:
        more = (row["balanced_accuracy"], row["macro_f1"], row["recall"][rarest]) if uneven else ()
        table.add_row(
            row["backbone"],
            SOURCES[row["source"]],
            f"{row['bytes']:,}",
            f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f}",
            *(f"{100 * share:.1f}" for share in more),
            f"{row['seconds'] / row['seeds']:.1f}",
        )
    return table


def recipe_line(result: Mapping[str, Any]) -> str:
    """How every student was trained, whatever it was trained on; one of the whole real set may take more steps."""
    recipe = ", ".join(f"{key} {value}" for key, value in result["recipe"].items() if value is not None)
    taken = " or ".join(f"{steps:,}" for steps in sorted({row["steps"] for row in result["students"]}))
    mixed = " (views are mixed already)" if result["labels"] == "views" else ""
    return f"Recipe of every student: {recipe}{mixed}; {taken} steps taken"


def published_lines(result: Mapping[str, Any]) -> list[str]:
    """Of an experiment, the published figure of each student, ours, and the difference."""
    ours = {row["backbone"]: 100 * row["accuracy_mean"] for row in result["students"] if row["source"] == "distilled"}
    return [
        f"{name}: published {figure:.1f} %, here {ours[name]:.1f} %, difference {ours[name] - figure:+.1f}"
        for name, figure in result["published"].items()
        if name in ours
    ]


def scores_lines(result: Mapping[str, Any]) -> list[str]:
    """DD-Ranking's scores, where the run has what they take."""
    return [
        f"DD-Ranking's {kind}-robust score: {name} {score[f'{kind}_robust']:.3f}"
        for kind in ("label", "augmentation")
        for name, score in result["scores"].items()
        if score and f"{kind}_robust" in score
    ]


def teachers_lines(result: Mapping[str, Any]) -> list[str]:
    """A word where the teachers are too weak for their labels to be worth much."""
    gap = teachers_behind(result)
    if gap is None:
        return []
    return [
        f"The best teacher is {100 * gap:.1f} points behind a student of the whole real set, and its labels hold back "
        "whoever learns from them; train teachers longer (recipe.teacher.epochs or min_steps)"
    ]


def show(result: Mapping[str, Any]) -> None:
    """Print the comparison."""
    Console(width=None if Console().is_terminal else 120).print(comparison(result))
    for line in [recipe_line(result), *published_lines(result), *scores_lines(result), *teachers_lines(result)]:
        print(line)
