"""A reader of report.html for the tests of this folder."""

import math
import re
from collections.abc import Mapping
from html.parser import HTMLParser

from infer.report.page import UNITS, lookup

VOID = ("meta", "link", "img", "br")


class Reader(HTMLParser):
    """Collects a page's <data> elements, and its words outside plots, styles and quotations."""

    QUOTED = ("name", "note", "setting", "ordinal")

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[list[str]] = []
        self.words: list[str] = []
        self.open: list[bool] = []  # of the enclosing elements, whether their words are quoted

    def handle_starttag(self, tag, attrs):
        if tag in VOID:
            return
        found = dict(attrs)
        quoted = tag in ("svg", "style", "title", "data") or found.get("class") in self.QUOTED
        self.open.append(quoted)
        if tag == "data":
            self.figures.append([found["data-key"], found["data-unit"], found["value"], ""])

    def handle_endtag(self, tag):
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data):
        if self.figures and self.open and self.get_starttag_text().startswith("<data"):
            self.figures[-1][3] += data
        if not any(self.open):
            self.words.append(data)


def assert_numbers_are_those_of(result: Mapping, page: str) -> None:
    """Every number on the page is in a <data> element that names its place in result.json, and is the number there."""
    reader = Reader()
    reader.feed(page)
    assert len(reader.figures) > 80
    for key, unit, value, shown in reader.figures:
        known = lookup(result, key)
        if known is None or math.isnan(known):
            assert (value, shown.strip()) == ("", "–")
            continue
        assert float(value) == known, key
        assert shown.startswith(UNITS[unit](known)), key
    stray = [words for words in reader.words if re.search(r"\d", words.replace("F1", ""))]
    assert stray == []
    for at, note in enumerate(result["data"]["notes"]):
        assert f'data-key="data.notes.{at}"' in page
        assert note


def assert_page_is_self_contained(page: str) -> None:
    """The page fetches nothing and links to nothing."""
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert {address for address in addresses if "www.w3.org" not in address} == set()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
