"""The texts of a report in one language, with the numbers of a result in them."""

from __future__ import annotations

import html
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from infer.report.file_facts import FileFacts
from infer.report.numbers import number_formats

_HERE = Path(__file__).parent


def page_texts(language: str) -> dict[str, Any]:
    """Read the texts of a language.

    Args:
        language: The name of a file in texts/, such as ``en``.

    Returns:
        The tables of the file.
    """
    return tomllib.loads((_HERE / "texts" / f"{language}.toml").read_text(encoding="utf-8"))


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


def plain(text: Markup) -> str:
    """Return a text without its elements, for files that are no HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", text))


class Wording:
    """Renders the texts of a language. Every number is in a <data> element that names its place in result.json.

    Args:
        language: The name of a file in texts/, such as ``en``.
        result: The content of result.json.
        file: The facts of the distilled file.
    """

    def __init__(self, language: str, result: Mapping[str, Any], file: FileFacts) -> None:
        self.texts = page_texts(language)
        self.result, self.file = result, file
        self._formats = number_formats(self.texts["unit"])
        self.environment = Environment(
            loader=FileSystemLoader(_HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def number(self, key: str, unit: str) -> Markup:
        """Format the number at ``key`` as ``unit``, in a <data> element that names both; a dash if there is none."""
        value = lookup(self.result, key)
        if value is None or math.isnan(value):
            return Markup('<data value="" data-key="{}" data-unit="{}">–</data>').format(key, unit)
        return Markup('<data value="{}" data-key="{}" data-unit="{}">{}</data>').format(
            value, key, unit, self._formats[unit](value)
        )

    def text(self, *keys: str | None, **more: Any) -> Markup:
        """Render the texts at ``keys``, each as a template of its own, and join them as sentences; None is left out."""
        given = {"n": self.number, "t": self.text, "result": self.result, "file": self.file, **more}
        templates = (self.environment.from_string(lookup(self.texts, key)) for key in keys if key)
        return Markup(self.texts["mark"]["gap"]).join(Markup(template.render(given)) for template in templates)
