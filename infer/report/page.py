"""report.html: one self-contained page, in the languages of texts/, whose numbers all come from result.json.

What the page says about its file is read from the file.
"""

from __future__ import annotations

import base64
import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from infer.core.files import write_bytes
from infer.distilled import DistilledSet
from infer.report import figures
from infer.report.arrays import ReportArrays
from infer.report.file_facts import FileFacts, file_facts, with_file_numbers
from infer.report.numbers import number_formats, time_unit
from infer.report.pictures import enlargement, grey_compensators, pixels

_HERE = Path(__file__).parent
_EACH = 8  # images of a kind and class that are shown
_FEWEST = 4  # of large ones
_ROW = 768  # pixels of the images of a kind and class side by side


def write(result: Mapping[str, Any], arrays: ReportArrays, distilled: DistilledSet, path: Path) -> None:
    """Write the page in the language of ``result["report"]``.

    Args:
        result: The content of result.json, with ``evidence``, ``data``, ``report``, ``cost`` and ``verdict``.
        arrays: The tensors of the analysis.
        distilled: The set in the distilled file.
        path: The file. It is written completely or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    file = file_facts(result, distilled)
    result = with_file_numbers(result, distilled)
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    texts = page_texts(result["report"]["language"])
    number, text = _formatters(environment, texts, result, file)
    scale = enlargement(distilled.naturals.shape[-1])
    each = min(max(_ROW // (scale * distilled.naturals.shape[-1]), _FEWEST), _EACH)
    page = environment.get_template("page.html.j2").render(
        result=result,
        file=file,
        n=number,
        t=text,
        mark=texts["mark"],
        language=result["report"]["language"],
        rows=_rows(result),
        figures=_figures(result, arrays, text),
        colour=figures.colour,
        colours=figures.SOURCE_COLOURS,
        palette=len(figures.PALETTE),
        classes=_classes(arrays, distilled, each),
        settings=json.dumps(file.settings, indent=1, ensure_ascii=False),
        compensators=[_uri(image) for image in grey_compensators(distilled)[: 2 * each]],
        scale=scale,
        shape=distilled.naturals.shape[-2:],
    )
    write_bytes(path, page.encode(errors="replace"))  # a path in the command may be no UTF-8


def lookup(content: Any, key: str) -> Any:
    """Return the value at a dotted path, such as ``students.0.accuracy_mean``.

    Args:
        content: Nested mappings and sequences.
        key: Keys and positions, separated by dots.
    """
    if not key:
        return content
    names = map(str, range(len(content))) if isinstance(content, Sequence) else content
    # A name may have dots of its own: of several that fit, the longest is meant.
    name = max((name for name in names if f"{key}.".startswith(f"{name}.")), key=len, default=None)
    if name is None:
        raise KeyError(key)
    return lookup(content[int(name)] if isinstance(content, Sequence) else content[name], key[len(name) + 1 :])


def page_texts(language: str) -> dict[str, Any]:
    """Read the texts of a language.

    Args:
        language: The name of a file in texts/, such as ``en``.

    Returns:
        The tables of the file.
    """
    return tomllib.loads((_HERE / "texts" / f"{language}.toml").read_text(encoding="utf-8"))


def _formatters(
    environment: Environment, texts: Mapping[str, Any], result: Mapping[str, Any], file: FileFacts
) -> tuple[Callable[[str, str], Markup], Callable[..., Markup]]:
    """Build the template's functions ``n`` (a number of result.json) and ``t`` (texts in the page's language)."""
    formats = number_formats(texts["unit"])

    def number(key: str, unit: str) -> Markup:
        """Format the number at ``key`` as ``unit``, in a <data> element that names both; a dash if there is none."""
        value = lookup(result, key)
        if value is None or math.isnan(value):
            return Markup('<data value="" data-key="{}" data-unit="{}">–</data>').format(key, unit)
        return Markup('<data value="{}" data-key="{}" data-unit="{}">{}</data>').format(
            value, key, unit, formats[unit](value)
        )

    def text(*keys: str | None, **more: Any) -> Markup:
        """Render the texts at ``keys``, each as a template of its own, and join them as sentences; None is left out."""
        templates = (environment.from_string(lookup(texts, key)) for key in keys if key)
        return Markup(texts["mark"]["gap"]).join(
            Markup(template.render(n=number, t=text, result=result, file=file, **more)) for template in templates
        )

    return number, text


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
