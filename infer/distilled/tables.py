"""CSV tables that spreadsheets open, and their cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterable, Sequence
from typing import Any

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""How a cell begins that a spreadsheet may take for a formula."""


def cell(name: str, taken: Container[str] = ()) -> str:
    """Return a name as tables have it; ``removeprefix("'")`` gives the name back.

    Args:
        name: of a class or a file.
        taken: names of the table's other columns, where the name is one of a column.

    Example:
        >>> cell("=1+1"), cell("file", taken=["file"]), cell("bolt")
        ("'=1+1", "'file", 'bolt')
    """
    return f"'{name}" if name.startswith(("'", *_FORMULA)) or name in taken else name


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return the content of a table in which every cell is quoted.

    Example:
        >>> table(["class", "count"], [["bolt", 2]])
        b'"class","count"\\n"bolt","2"\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def rounded(probability: float) -> float:
    """Return a probability as tables have it, with six significant digits."""
    return float(f"{probability:.6g}")
