"""report.html: one self-contained page, in the languages of texts/, whose numbers all come from result.json.

What the page says about its file is read from the file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from torch import Tensor

from infer.core.files import write_bytes
from infer.distilled import DistilledSet
from infer.report import figures
from infer.report.arrays import ReportArrays
from infer.report.brief import sentences
from infer.report.file_facts import file_facts, with_file_numbers
from infer.report.numbers import number_formats, time_unit
from infer.report.pictures import enlargement, grey_compensators, pixels
from infer.report.wording import Wording, page_texts

_EACH = 8  # images of a kind and class that are shown
_FEWEST = 4  # of large ones
_ROW = 768  # pixels of the images of a kind and class side by side


def write(
    result: Mapping[str, Any],
    arrays: ReportArrays,
    distilled: DistilledSet,
    path: Path,
    suspects: Tensor | None = None,
) -> None:
    """Write the page in the language of ``result["report"]``.

    Args:
        result: The content of result.json, with ``evidence``, ``data``, ``report`` and what the verdict adds.
        arrays: The tensors of the analysis.
        distilled: The set in the distilled file.
        path: The file. It is written completely or not at all.
        suspects: The training images of ``result["suspects"]["pictures"]``, uint8 [N, ch, H, W].

    Raises:
        UserError: If the file cannot be written.
    """
    file = file_facts(result, distilled)
    result = with_file_numbers(result, distilled)
    wording = Wording(result["report"]["language"], result, file)
    scale = enlargement(distilled.naturals.shape[-1])
    each = min(max(_ROW // (scale * distilled.naturals.shape[-1]), _FEWEST), _EACH)
    page = wording.environment.get_template("page.html.j2").render(
        result=result,
        file=file,
        n=wording.number,
        t=wording.text,
        mark=wording.texts["mark"],
        language=result["report"]["language"],
        rows=_rows(result),
        figures=_figures(result, arrays, wording.text),
        brief=sentences(wording),
        colour=figures.colour,
        colours=figures.SOURCE_COLOURS,
        curve_colours=figures.CURVE_COLOURS,
        palette=len(figures.PALETTE),
        classes=_classes(arrays, distilled, each),
        suspects=[_uri(image) for image in ([] if suspects is None else suspects)],
        settings=json.dumps(file.settings, indent=1, ensure_ascii=False),
        compensators=[_uri(image) for image in grey_compensators(distilled)[: 2 * each]],
        scale=scale,
        shape=distilled.naturals.shape[-2:],
    )
    write_bytes(path, page.encode(errors="replace"))  # a path in the command may be no UTF-8


def _rows(result: Mapping[str, Any]) -> dict[str, int]:
    """Return the positions of the rows of the report's student in ``result["students"]``, by source."""
    student = result["evidence"]["student"]
    return {row["source"]: at for at, row in enumerate(result["students"]) if row["backbone"] == student}


def _figures(result: Mapping[str, Any], arrays: ReportArrays, text: Callable[..., Markup]) -> dict[str, Markup]:
    """Draw the plots of the page, by name. ``text`` returns the titles of their axes."""

    def titles(x: str, y: str) -> figures.Titles:
        return figures.Titles(*(text(f"axis.{key}").unescape() for key in (x, y)))

    cost, retrainings = result["cost"], result["report"]["retrainings"]
    making, file, real = (cost[f"{name}_seconds"] for name in ("making", "file", "real"))
    unit = time_unit(3600 * max(cost["hours_real"], cost["hours_file"]))
    points = (arrays.points, arrays.of, arrays.kind)
    plots = {
        "map_distilled": figures.class_map(*points, naturals=1, composed=2, titles=titles("map_x", "map_y")),
        "map_random": figures.class_map(*points, naturals=3, composed=4, titles=titles("map_x", "map_y")),
        "margins": figures.margins(arrays.margins, titles("margin", "share")),
        "cost": figures.cost(making, file, real, retrainings, unit, titles("retrainings", unit.name)),
    }
    if len(result["choices"]) > 1:
        accuracies = [choice["accuracy"] for choice in result["choices"]]
        plots["choices"] = figures.choices(accuracies, titles("choice", "held_out"))
    if "curve" in result:
        formats = number_formats(page_texts(result["report"]["language"])["unit"])
        for size, formatted in (("pictures", formats["count"]), ("bytes", formats["bytes"])):
            axes = titles(f"curve_{size}", "accuracy")
            plots[f"curve_{size}"] = figures.learning_curve(result["curve"], size, formatted, axes)
    return {name: Markup(svg) for name, svg in plots.items()}


def _classes(arrays: ReportArrays, distilled: DistilledSet, each: int) -> list[dict[str, Any]]:
    """List the classes: the name, ``each`` stored and composed images, and the mistakes on test images of each.

    A mistake is an image that only students of the file misclassify, with the class that they predict.
    """
    stored, composed = torch.arange(len(distilled.naturals)), _composed(distilled)
    targets = distilled.classes_of(composed)
    entries = []
    for number, name in enumerate(distilled.classes):
        mistakes = (arrays.taken[:, 0] == number).nonzero().flatten().tolist()
        entries.append(
            {
                "name": name,
                "naturals": _shown(distilled.pool_images, stored[distilled.natural_targets == number][:each]),
                "composed": _shown(distilled.images, composed[targets == number][:each]),
                "mistakes": [
                    (_uri(arrays.mistakes[at]), distilled.classes[int(arrays.taken[at, 1])]) for at in mistakes
                ],
            }
        )
    return entries


def _composed(distilled: DistilledSet) -> Tensor:
    """Return the positions of the items that the set composes: all mixed views, or the images after the stored."""
    numbers = torch.arange(len(distilled))
    return numbers if distilled.mixed_views else numbers[len(distilled.naturals) :]


def _shown(images: Callable[[Tensor], Tensor], positions: Tensor) -> list[str]:
    """Return the addresses of the images at ``positions``."""
    return [_uri(image) for image in images(positions)] if len(positions) else []


def _uri(image: Tensor) -> str:
    """Return the address of an image, uint8 [ch, H, W], whose PNG lies in the page."""
    return "data:image/png;base64," + base64.b64encode(pixels(image)).decode()
