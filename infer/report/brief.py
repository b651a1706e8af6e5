"""brief.md: a report in five sentences, for people who decide."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from infer.core.files import write_bytes
from infer.distilled import DistilledSet
from infer.report.file_facts import file_facts, with_file_numbers
from infer.report.wording import Wording, plain


def sentences(wording: Wording) -> Markup:
    """Render the recommendation, the accuracy, the comparison with random images, the cost, and who may see the file.

    Args:
        wording: Of a result with ``evidence``, ``data``, ``report``, ``cost``, ``decision`` and ``verdict``.
    """
    advice, origin = wording.result["decision"]["advice"]["choice"], wording.file.origin
    return wording.text(f"brief.{advice}", "brief.accuracy", "brief.random", "brief.cost", f"brief.holds_{origin}")


def write(result: Mapping[str, Any], distilled: DistilledSet, path: Path) -> None:
    """Write the five sentences in the language of ``result["report"]``; the page has the same ones at its top.

    Args:
        result: The content of result.json, with the keys that :func:`sentences` reads.
        distilled: The set in the distilled file.
        path: The file. It is written completely or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    numbers = with_file_numbers(result, distilled)
    wording = Wording(result["report"]["language"], numbers, file_facts(result, distilled))
    text = f"# {plain(wording.text('title'))}\n\n{plain(sentences(wording))}\n"
    write_bytes(path, text.encode(errors="replace"))
