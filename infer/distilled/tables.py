"""Cells of CSV tables that spreadsheets open."""

from __future__ import annotations

from collections.abc import Container

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


def rounded(probability: float) -> float:
    """Return a probability as tables have it, with six significant digits."""
    return float(f"{probability:.6g}")
