"""report.html: one page that holds all it shows, in the languages of texts/, with every number from result.json."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from infer.core.files import write_bytes
from infer.distilled.dataset import DistilledSet
from infer.report import figures
from infer.report.pictures import png, visible

_HERE = Path(__file__).parent
_EACH = 8  # pictures of a kind and class


def write(result: Mapping[str, Any], drawn: Any, distilled: DistilledSet, path: Path) -> None:
    """Write the page in the language of ``result["report"]`` to ``path``, whole or not at all.

    ``drawn`` are the run's :class:`infer.evidence.Exhibits`.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    texts = tomllib.loads((_HERE / "texts" / f"{result['report']['language']}.toml").read_text(encoding="utf-8"))

    def number(key: str, unit: str) -> Markup:
        """A figure of result.json, by its path, as ``unit`` has it; a reader of the page finds it there."""
        value = lookup(result, key)
        if value is None:
            return Markup('<data value="" data-key="{}" data-unit="{}">–</data>').format(key, unit)
        return Markup('<data value="{}" data-key="{}" data-unit="{}">{}</data>').format(
            value, key, unit, UNITS[unit](value)
        )

    def text(key: str, **more: Any) -> Markup:
        return Markup(environment.from_string(lookup(texts, key)).render(n=number, result=result, **more))

    page = environment.get_template("page.html.j2").render(
        result=result,
        n=number,
        t=text,
        language=result["report"]["language"],
        rows=_rows(result),
        figures=_figures(result, drawn),
        colour=figures.colour,
        colours=figures.SOURCES,
        classes=_classes(result, drawn, distilled),
        settings=json.dumps(distilled.header.provenance["settings"], indent=1, ensure_ascii=False),
        compensators=_uri(png(visible(distilled)[: 2 * _EACH], _EACH)) if len(distilled.compensators) else None,
    )
    write_bytes(path, page.encode())


def lookup(content: Any, key: str) -> Any:
    """What lies at a path such as ``students.0.accuracy_mean``."""
    for part in key.split("."):
        content = content[int(part)] if isinstance(content, Sequence) else content[part]
    return content


def _rows(result: Mapping[str, Any]) -> dict[str, int]:
    """Where in result.json the rows of the report's student lie, by source."""
    student = result["evidence"]["student"]
    return {row["source"]: at for at, row in enumerate(result["students"]) if row["backbone"] == student}


def _figures(result: Mapping[str, Any], drawn: Any) -> dict[str, Markup]:
    cost = result["cost"]
    found = {
        "map_distilled": figures.class_map(drawn.points, drawn.of, drawn.kind, 1, 2),
        "map_random": figures.class_map(drawn.points, drawn.of, drawn.kind, 3, 4),
        "margins": figures.margins(drawn.margins),
        "cost": figures.cost(
            cost["making_seconds"], cost["file_seconds"], cost["real_seconds"], result["report"]["retrainings"]
        ),
    }
    if len(result["choices"]) > 1:
        found["choices"] = figures.choices([choice["accuracy"] for choice in result["choices"]])
    return {name: Markup(svg) for name, svg in found.items()}


def _classes(result: Mapping[str, Any], drawn: Any, distilled: DistilledSet) -> list[dict[str, Any]]:
    """By class: its name, and pictures of its naturals, of what is composed of them, and of real ones that only the
    student of the file gets wrong, each with the class it was taken for."""
    numbers = torch.arange(len(distilled))
    kinds = {"naturals": (distilled.of_pool, torch.arange(len(distilled.naturals)), distilled.targets)}
    if distilled.views or len(distilled.pairs):
        shown = numbers if distilled.views else numbers[len(distilled.naturals) :]
        kinds["composed"] = (distilled.images, shown, distilled.classes_of(shown))
    names = distilled.header.classes
    found = []
    for number, name in enumerate(names):
        pictures = {kind: _row(make, at[of == number][:_EACH]) for kind, (make, at, of) in kinds.items()}
        own = (drawn.taken[:, 0] == number).nonzero().flatten().tolist()
        mistakes = [(_uri(png(drawn.mistakes[at : at + 1], 1)), names[int(drawn.taken[at, 1])]) for at in own]
        found.append({"name": name, **pictures, "mistakes": mistakes})
    return found


def _row(make: Callable[[Tensor], Tensor], at: Tensor) -> str | None:
    return _uri(png(make(at), _EACH)) if len(at) else None


def _uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _seconds(value: float) -> str:
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
    "times": lambda value: f"{value:.0f}",
    "number": lambda value: f"{value:.3g}",
    "hundredth": lambda value: f"{value:.2f}",
}
"""How a figure is written, by its unit."""
