"""datasheet.md: what a distilled file is, where it comes from, who may see it, and what it was tested for.

Reference: Gebru et al., Datasheets for Datasets, 2021, arXiv 1803.09010.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from infer.core.errors import escaped
from infer.core.files import write_bytes
from infer.distilled import DistilledSet
from infer.report.file_facts import file_facts
from infer.report.wording import Wording, plain

_MARKS = re.compile(r"([\\`*\[\]<>|#]|\b_|_\b)")
"""Characters by which Markdown formats a text."""


def write(result: Mapping[str, Any], distilled: DistilledSet, path: Path) -> None:
    """Write the datasheet, in the language of the report or, where there is none, in English.

    Args:
        result: The content of result.json.
        distilled: The set in the distilled file.
        path: The file. It is written completely or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    text = "".join(f"{plain(line)}\n" for line in lines(result, distilled))
    write_bytes(path, text.encode(errors="replace"))  # a path in the command may be no UTF-8


def lines(result: Mapping[str, Any], distilled: DistilledSet) -> list[Markup]:
    """Render the lines of the datasheet, in Markdown. Every number is in a <data> element.

    Args:
        result: The content of result.json.
        distilled: The set in the distilled file.
    """
    file = file_facts(result, distilled)
    wording = Wording(result.get("report", {}).get("language") or "en", result, file)
    sections = {
        "holds": _holds(wording),
        "pictures": _pictures(wording, distilled),
        "made": _made(wording),
        "seen": [wording.text(f"datasheet.seen_{file.origin}", "datasheet.terms")],
        "tested": _tested(wording),
        "untested": [wording.text("datasheet.not_tested")],
        "again": _again(wording),
    }
    found = [Markup("# ") + wording.text("datasheet.title"), Markup(""), wording.text("datasheet.intro")]
    for name, content in sections.items():
        found += [Markup(""), Markup("## ") + wording.text(f"datasheet.{name}_head"), Markup(""), *content]
    return found


def _holds(wording: Wording) -> Iterator[Markup]:
    """Describe the content of the file."""
    result = wording.result
    composes = "datasheet.composes" if result["images"]["compensators"] else None
    yield wording.text("datasheet.stores", composes, "verdict.whole" if wording.file.whole else None)
    yield wording.text(f"pictures.labels_{result['labels']}", "datasheet.size")


def _pictures(wording: Wording, distilled: DistilledSet) -> Iterator[Markup]:
    """Describe the pictures that the file was made from, and count them by class."""
    settings = wording.file.settings
    yield wording.text("datasheet.source", dataset=_name(wording.result["dataset"]), data=_code(settings.get("data")))
    if update := wording.result.get("update"):
        yield wording.text("datasheet.update", earlier=_code(update["file"]), digest=_code(update["digest"]))
    yield Markup("")
    yield from _header(wording, ["class", "train", "test", "stored"])
    for number, name in enumerate(distilled.classes):
        keys = (f"{part}.{number}" for part in ("train_pictures", "test_pictures", "images.naturals"))
        yield _row([_name(name), *(wording.number(key, "count") for key in keys)])


def _made(wording: Wording) -> Iterator[Markup]:
    """Describe the method and the teachers."""
    result = wording.result
    yield wording.text("datasheet.method", f"pictures.by_{result['budget']['by']}", method=_code(result["method"]))
    accuracies = (
        _name(name) + Markup(" ") + wording.number(f"teachers.{name}.accuracy", "percent")
        for name in result["teachers"]
    )
    listed = Markup(wording.texts["mark"]["list"]).join(accuracies)
    yield wording.text("datasheet.teachers", "datasheet.settings", teachers=listed)


def _tested(wording: Wording) -> Iterator[Markup]:
    """List the accuracy of the students."""
    yield wording.text("datasheet.students")
    yield Markup("")
    yield from _header(wording, ["student", "trained_on", "accuracy", "students"])
    for number, row in enumerate(wording.result["students"]):
        at = f"students.{number}"
        accuracy = wording.number(f"{at}.accuracy_mean", "percent")
        if row["seeds"] > 1:
            accuracy += Markup(" ± ") + wording.number(f"{at}.accuracy_std", "points")
        source = wording.text(f"source.{row['source']}")
        yield _row([_name(row["backbone"]), source, accuracy, wording.number(f"{at}.seeds", "count")])


def _again(wording: Wording) -> Iterator[Markup]:
    """Give the command and the versions."""
    result = wording.result
    versions = [_code(f"infer {result['version']}"), _code(f"torch {result['hardware']['torch']}")]
    timed = "datasheet.again_time" if re.search(r"(^|\s)time=", result["command"]) else None
    yield wording.text("datasheet.again", timed, versions=Markup(wording.texts["mark"]["list"]).join(versions))
    yield from (Markup(""), Markup("```bash"), _quoted(result["command"]), Markup("```"))


def _header(wording: Wording, columns: Sequence[str]) -> Iterator[Markup]:
    """Render the first two lines of a table."""
    yield _row([wording.text(f"datasheet.column_{column}") for column in columns])
    yield _row([Markup("---")] * len(columns))


def _row(cells: Sequence[Markup]) -> Markup:
    return Markup("| ") + Markup(" | ").join(cells) + Markup(" |")


def _name(name: str) -> Markup:
    """Return a name, with what Markdown would take for a format escaped."""
    return Markup('<bdi class="name">{}</bdi>').format(_MARKS.sub(r"\\\1", escaped(name)))


def _code(text: object) -> Markup:
    """Return a short text as code."""
    return Markup("`{}`").format(_quoted(str(text)))


def _quoted(text: str) -> Markup:
    return Markup('<span class="setting">{}</span>').format(text)
