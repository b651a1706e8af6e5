"""The section of report.html on labels that look wrong: its numbers, its pictures, and what it says of them."""

import json
from functools import cache

import pytest
from reading_pages import assert_numbers_are_those_of, assert_page_is_self_contained
from untrained_reports import distilled, report, splits

from infer.report import page
from infer.report.file_facts import with_file_numbers
from infer.report.options import ReportOptions
from infer.report.verdict import decide
from infer.report.wording import page_texts

DATA = splits(["flat", "<b>kuro 黒</b>", "ridge"])
NONE = {
    "network": "tf_efficientnet_lite0",
    "pretrained": True,
    "side": 128,
    "train": 90,
    "checked": 88,
    "fewest": 3,
    "left_out": [],
    "duplicates_together": True,
    "agreement": 0.9375,
    "times": 2,
    "found": 0,
    "share": 0.05,
    "listed": 0,
    "shown": 0,
    "pictures": [],
    "digest": "0",
}
PICTURE = {
    "index": 4,
    "path": "train/flat/a & b.png",
    "class": "flat",
    "looks_like": "<b>kuro 黒</b>",
    "probability_of_class": 0.125,
    "probability_of_other": 0.75,
}
SOME = {**NONE, "found": 9, "listed": 5, "shown": 2, "pictures": [PICTURE, {**PICTURE, "index": 7, "path": "train/7"}]}
TEACHER = {**SOME, "network": "convnet_deep", "pretrained": False, "duplicates_together": False, "left_out": ["ridge"]}


@cache
def analysed() -> tuple:
    made = distilled(DATA, "random", "hard", "infer")
    return (made, *report(DATA, made))


def written(found: dict | None, language: str, folder) -> str:
    """The page of a run that looked for suspects; its numbers are checked."""
    made, result, arrays = analysed()
    result = {**result, **({"suspects": found} if found else {})}
    result = json.loads(json.dumps({**result, **decide(result, ReportOptions(language))}))
    shown = [each["index"] for each in found["pictures"]] if found else []
    page.write(result, arrays, made, folder / "report.html", DATA.train.images[shown] if found else None)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert_numbers_are_those_of(with_file_numbers(result, made), html)
    assert_page_is_self_contained(html)
    return html


def section(html: str, language: str) -> str:
    """The section on suspects."""
    texts = page_texts(language)
    _, head, after = html.partition(f"<h2>{texts['suspects']['head']}</h2>")
    assert head
    return after.partition("</section>")[0]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_suspect_has_its_picture_both_classes_and_its_path(language, tmp_path):
    html = section(written(SOME, language, tmp_path), language)
    assert html.count("<img src=") == 2
    assert html.count('→ <bdi class="name">&lt;b&gt;kuro 黒&lt;/b&gt;</bdi>') == 2
    assert "train/flat/a &amp; b.png" in html
    assert '<data value="0.75" data-key="suspects.pictures.1.probability_of_other" data-unit="percent">75.0' in html
    assert 'data-key="suspects.listed" data-unit="count">5<' in html
    assert html.count("tf_efficientnet_lite0") >= 1


def test_the_page_says_that_suspects_are_no_errors_and_who_judged(tmp_path):
    html = section(written(SOME, "en", tmp_path), "en")
    assert "They are candidates to look at, not errors" in html
    assert "knows none of these labels" in html
    assert "left out:" not in html
    html = section(written(TEACHER, "en", tmp_path), "en")
    assert "The teacher was trained with these labels" in html
    assert "Near-duplicates were not searched for" in html
    assert 'different images were left out: <bdi class="name">ridge</bdi>' in html


@pytest.mark.parametrize(("language", "words"), [("en", "None of the"), ("ja", "ものはありませんでした")])
def test_a_set_without_suspects_has_no_pictures_of_them(language, words, tmp_path):
    html = section(written(NONE, language, tmp_path), language)
    assert words in html
    assert "<img" not in html
    assert "suspects.csv" not in html


def test_nothing_is_said_where_nothing_was_judged(tmp_path):
    html = section(written({**NONE, "checked": 0, "agreement": None, "left_out": ["flat"]}, "en", tmp_path), "en")
    assert 'data-key="suspects.checked" data-unit="count">0<' in html


def test_a_run_that_did_not_look_has_no_section(tmp_path):
    html = written(None, "en", tmp_path)
    assert page_texts("en")["suspects"]["head"] not in html
