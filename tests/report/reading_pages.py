"""A reader of report.html for the tests of this folder."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from html import unescape
from html.parser import HTMLParser

from infer.report.numbers import number_formats
from infer.report.wording import lookup, page_texts

VOID = ("meta", "link", "img", "br")


class Reader(HTMLParser):
    """Collects a page's <data> elements, and its words outside plots, styles and quotations."""

    QUOTED = ("name", "note", "setting", "ordinal", "constant")

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[list[str]] = []
        self.words: list[str] = []
        self.open: list[bool] = []  # of the enclosing elements, whether their words are quoted
        self.in_data = False

    def handle_starttag(self, tag, attrs):
        if tag in VOID:
            return
        found = dict(attrs)
        quoted = tag in ("svg", "style", "script", "title", "data") or found.get("class") in self.QUOTED
        self.open.append(quoted)
        if tag == "data":
            self.in_data = True
            self.figures.append([found["data-key"], found["data-unit"], found["value"], ""])

    def handle_endtag(self, tag):
        if tag not in VOID:
            self.open.pop()
            self.in_data = False

    def handle_data(self, data):
        if self.in_data:
            self.figures[-1][3] += data
        if not any(self.open):
            self.words.append(data)


def language_of(page: str) -> str:
    """The language that a page declares."""
    return re.search(r'<html lang="(\w+)">', page).group(1)


def blocks(page: str) -> list[str]:
    """The text of each paragraph, cell, heading, caption and item, without names, quotations and settings."""
    page = re.sub(r"<(svg|style|script|pre)\b.*?</\1>", "", page, flags=re.S)
    page = re.sub(r'<span class="key"[^>]*></span>', "", page)
    page = re.sub(r'<(bdi|q|span) class="(?:name|note|setting)"[^>]*>[^<]*</\1>', "X", page)
    found = re.findall(r"<(p|li|td|th|figcaption|h\d|summary)\b[^>]*>(.*?)</\1>", page, flags=re.S)
    return [" ".join(unescape(re.sub(r"<[^>]+>", "", block)).split()) for _, block in found]


def assert_numbers_are_those_of(result: Mapping, page: str) -> None:
    """Every number on the page is in a <data> element that names its place in result.json, and is the number there."""
    reader = Reader()
    reader.feed(page)
    formats = number_formats(page_texts(language_of(page))["unit"])
    assert len(reader.figures) > 80
    for key, unit, value, shown in reader.figures:
        known = lookup(result, key)
        if known is None or math.isnan(known):
            assert (value, shown.strip()) == ("", "–")
            continue
        assert float(value) == known, key
        assert shown == formats[unit](known), key
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
