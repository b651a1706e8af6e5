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
from infer.report.pictures import grey_compensators, png

_HERE = Path(__file__).parent
_EACH = 8  # images of a kind and class that are shown


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
    number, text = _formatters(environment, result, file)
    compensators = png(grey_compensators(distilled)[: 2 * _EACH], _EACH) if len(distilled.compensators) else None
    page = environment.get_template("page.html.j2").render(
        result=result,
        file=file,
        n=number,
        t=text,
        language=result["report"]["language"],
        rows=_rows(result),
        figures=_figures(result, arrays),
        colour=figures.colour,
        colours=figures.SOURCE_COLOURS,
        palette=len(figures.PALETTE),
        classes=_classes(arrays, distilled),
        settings=json.dumps(file.settings, indent=1, ensure_ascii=False),
        compensators=compensators and _uri(compensators),
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


def _formatters(
    environment: Environment, result: Mapping[str, Any], file: FileFacts
) -> tuple[Callable[[str, str], Markup], Callable[..., Markup]]:
    """Build the template's functions ``n`` (a number of result.json) and ``t`` (a text in the page's language)."""
    texts = tomllib.loads((_HERE / "texts" / f"{result['report']['language']}.toml").read_text(encoding="utf-8"))

    def number(key: str, unit: str) -> Markup:
        """Format the number at ``key`` as ``unit``, in a <data> element that names both; a dash if there is none."""
        value = lookup(result, key)
        if value is None or math.isnan(value):
            return Markup('<data value="" data-key="{}" data-unit="{}">–</data>').format(key, unit)
        return Markup('<data value="{}" data-key="{}" data-unit="{}">{}</data>').format(
            value, key, unit, UNITS[unit](value)
        )

    def text(key: str, **more: Any) -> Markup:
        """Render the text at ``key`` as a template of its own."""
        template = environment.from_string(lookup(texts, key))
        return Markup(template.render(n=number, t=text, result=result, file=file, **more))

    return number, text


def _rows(result: Mapping[str, Any]) -> dict[str, int]:
    """Return the positions of the rows of the report's student in ``result["students"]``, by source."""
    student = result["evidence"]["student"]
    return {row["source"]: at for at, row in enumerate(result["students"]) if row["backbone"] == student}


def _figures(result: Mapping[str, Any], arrays: ReportArrays) -> dict[str, Markup]:
    """Draw the plots of the page, by name."""
    cost, retrainings = result["cost"], result["report"]["retrainings"]
    plots = {
        "map_distilled": figures.class_map(arrays.points, arrays.of, arrays.kind, naturals=1, composed=2),
        "map_random": figures.class_map(arrays.points, arrays.of, arrays.kind, naturals=3, composed=4),
        "margins": figures.margins(arrays.margins),
        "cost": figures.cost(cost["making_seconds"], cost["file_seconds"], cost["real_seconds"], retrainings),
    }
    if len(result["choices"]) > 1:
        plots["choices"] = figures.choices([choice["accuracy"] for choice in result["choices"]])
    return {name: Markup(svg) for name, svg in plots.items()}


def _classes(arrays: ReportArrays, distilled: DistilledSet) -> list[dict[str, Any]]:
    """List the classes: the name, a row of stored and of composed images, and the mistakes on test images of each.

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
                "naturals": _row(distilled.pool_images, stored[distilled.natural_targets == number]),
                "composed": _row(distilled.images, composed[targets == number]),
                "mistakes": [
                    (_uri(png(arrays.mistakes[at : at + 1], 1)), distilled.classes[int(arrays.taken[at, 1])])
                    for at in mistakes
                ],
            }
        )
    return entries


def _composed(distilled: DistilledSet) -> Tensor:
    """Return the positions of the items that the set composes: all mixed views, or the images after the stored."""
    numbers = torch.arange(len(distilled))
    return numbers if distilled.mixed_views else numbers[len(distilled.naturals) :]


def _row(images: Callable[[Tensor], Tensor], positions: Tensor) -> str | None:
    """Draw the first images at ``positions`` as one row; None if there are none."""
    return _uri(png(images(positions[:_EACH]), _EACH)) if len(positions) else None


def _uri(content: bytes) -> str:
    """Return the address of a PNG file that lies in the page."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _bytes(value: float) -> str:
    """Format a number of bytes."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _seconds(value: float) -> str:
    """Format a time."""
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


UNITS: dict[str, Callable[[Any], str]] = {
    "percent": lambda value: f"{100 * value:.1f} %",
    "whole_percent": lambda value: f"{100 * value:.0f} %",
    "points": lambda value: f"{100 * value:.1f}",
    "count": lambda value: f"{value:,.0f}",
    "bytes": _bytes,
    "seconds": _seconds,
    "hours": lambda value: _seconds(3600 * value),
    "kwh": lambda value: f"{value:.2f} kWh",
    "watts": lambda value: f"{value:.0f} W",
    "tenth": lambda value: f"{value:.1f}",
    "times": lambda value: f"{value:.0f}" if value >= 10 else f"{value:.1f}",
    "number": lambda value: f"{value:.3g}",
    "hundredth": lambda value: f"{value:.2f}",
}
"""Formats of numbers by unit."""
