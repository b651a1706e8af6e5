"""Text in plots: the names of data sets and settings, which may have any letters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib import font_manager

_FONTS = (
    "DejaVu Sans",
    *("Noto Sans CJK JP", "Hiragino Sans", "Yu Gothic", "Meiryo", "IPAexGothic", "TakaoGothic", "VL Gothic"),
    *("Arial Unicode MS", "Segoe UI Emoji", "Noto Emoji", "Symbola"),
)
"""Fonts in the order that a letter is looked for in them; those that are not installed are left out."""


@contextmanager
def literal_text() -> Iterator[None]:
    """Draw text as it is written: a dollar sign begins no formula, and a letter that no font has is a box.

    The plot is created and saved within the block.
    """
    installed = set(font_manager.get_font_names())
    fonts = [font for font in _FONTS if font in installed]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        yield
