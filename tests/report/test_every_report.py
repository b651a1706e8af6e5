"""A report of every method, kind of labels and budget, of odd classes and of few pictures: complete, and true."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from markupsafe import Markup
from reading_pages import assert_numbers_are_those_of, assert_page_is_self_contained
from safetensors.torch import load_file, save_file
from untrained_reports import BUDGETS, distilled, report, splits, written

from infer.core.errors import UserError
from infer.methods.options import METHODS
from infer.report import page
from infer.report.analysis import ReportArrays
from infer.report.options import ReportOptions
from infer.report.verdict import decide

NAMES = ("flat", "kuro 黒", "ridge")
WHOLE = {
    "en": "The file holds every training picture: nothing was selected.",
    "ja": "このファイルには学習用画像がすべて含まれています。画像の選択は行われていません。",
}


def shown(html: str) -> str:
    """The words of a page, without plots, styles and settings."""
    html = re.sub(r"<(svg|style|script|pre|title)\b.*?</\1>", "", html, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())


def assert_is_complete(result: dict, html: str) -> None:
    """Every number is one of the result, and nothing is empty or no word."""
    assert_numbers_are_those_of(result, html)
    assert_page_is_self_contained(html)
    assert not re.search(r"\b(nan|NaN|None|undefined|Undefined|inf)\b", shown(html))
    assert re.findall(r"<(h\d|p|li|td|th|figcaption|strong)\b[^>]*>\s*</\1>", html) == []


def pages(made, budget: str, folder: Path, data) -> dict[str, str]:
    """The pages in both languages. Their plots are drawn once, with the keys of the titles of their axes."""
    result, arrays = report(data, made, budget=budget)
    found, plots = {}, page._figures(result | decide(result, ReportOptions("en")), arrays, Markup)
    for language in ("en", "ja"):
        with patch.object(page, "_figures", return_value=plots):
            numbers, found[language] = written(result, arrays, made, folder, language)
        assert_is_complete(numbers, found[language])
        assert (WHOLE[language] in found[language]) == (len(made.naturals) == len(data.train))
    return found


@pytest.mark.parametrize("labels", ["hard", "static", "views", "dynamic"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_with_every_kind_of_labels_has_a_report(method, labels, tmp_path):
    data = splits(NAMES)
    made = distilled(data, method, labels, "raw" if method == "infer_plus" else "infer")
    html = pages(made, "infer", tmp_path, data)["en"]
    composes = method == "infer" or labels == "views"
    assert ("nothing is composed" in html) != composes
    assert ("Crosses" in html) == composes
    assert ("MiFID" in html) == (composes or method in ("rded", "sre2l"))
    assert ("students need the teachers themselves" in html) == (labels == "dynamic")
    real = f"The file contains {len(made.naturals)} real images."
    assert (real in shown(html)) == (method not in ("rded", "sre2l"))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("method", ["infer", "infer_plus"])
def test_every_budget_has_a_report_that_says_what_its_file_holds(method, budget, tmp_path):
    data = splits(NAMES)
    made = distilled(data, method, "views" if method == "infer_plus" else "static", budget)
    html = pages(made, budget, tmp_path, data)["en"]
    counts = made.natural_targets.bincount().tolist()
    low, high = min(counts), max(counts)
    each = f"{low} to {high}" if high > low else f"{low}"
    kept = {"coded": "compressed as WEBP at quality 50", "auto": "compressed as WEBP at quality 60"}
    held = f"The file stores {len(made.naturals)} images, {each} of each class, {kept.get(budget, 'as uncompressed')}"
    assert held in shown(html)
    assert ("2 of 3 choices tried" in shown(html)) == (budget == "auto")
    assert "images per class" not in shown(html)


def test_a_file_of_every_training_picture_says_so(tmp_path):
    """A compressed file has room for all pictures, although ipc is fewer."""
    data = splits(NAMES, each=12)
    made = distilled(data, "infer_plus", "hard", "coded", ipc=8)
    assert made.natural_targets.bincount().tolist() == [12, 12, 12]
    found = pages(made, "coded", tmp_path, data)
    assert "stores 36 images, 12 of each class, compressed as WEBP" in shown(found["en"])
    assert "8 images of each" not in shown(found["en"])


def test_created_images_are_no_training_pictures_however_many_they_are(tmp_path):
    created = distilled(splits(NAMES, each=10), "sre2l", "hard", "infer")
    assert len(created.naturals) == 30
    result, arrays = report(splits(NAMES, each=10), created)
    assert WHOLE["en"] not in written(result, arrays, created, tmp_path)[1]


def test_the_file_counts_and_not_what_was_asked_for(tmp_path):
    """A result that says other numbers of its file, as those of an earlier version or of other options."""
    data = splits(NAMES)
    made = distilled(data, "random", "hard", "auto")
    result, arrays = report(data, made, budget="auto")
    stale = {"codec": "avif", "quality": 40, "by": "bytes"}
    provenance = made.header.provenance["settings"]
    provenance["budget"]["quality"] = 40  # files of earlier versions have what was asked for
    html = written({**result, "budget": stale, "choices": result["choices"][1:]}, arrays, made, tmp_path)[1]
    assert "compressed as WEBP at quality 60" in shown(html)
    assert "1 of 3 choices tried" in shown(html)
    assert "The time limit (report.time_budget) left out the others." in html
    assert "Chosen: budget.quality=60." in shown(html)
    assert "&#34;quality&#34;: 60" in html
    japanese = written({**result, "choices": result["choices"][1:]}, arrays, made, tmp_path, "ja")[1]
    assert "3件の候補のうち1件を" in shown(japanese)


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_student_has_no_spread(seeds, tmp_path):
    data = splits(NAMES)
    made = distilled(data, "random", "hard", "infer")
    html = written(*report(data, made, seeds=seeds), made, tmp_path)[1]
    assert ("±" in html) == (seeds > 1)
    assert ("One student of each training set." in html) == (seeds == 1)
    assert ("There is one student" in html) == (seeds == 1)


def test_a_class_without_test_pictures_has_dashes(tmp_path):
    data = splits(NAMES, test=[8, 0, 8])
    made = distilled(data, "infer", "static", "infer")
    result, arrays = report(data, made)
    for row in result["students"]:
        row["recall"][1] = float("nan")
    result["evidence"]["rarest"] = 1
    result["data"]["smallest_class"] = result["data"]["largest_class"] - 1
    numbers, html = written(result, arrays, made, tmp_path)
    assert_is_complete(numbers, html)
    assert '<data value="" data-key="evidence.classes.1.recall.real" data-unit="percent">–</data>' in html
    assert '<data value="" data-key="students.0.recall.1" data-unit="percent">–</data>' in html


@pytest.mark.parametrize("test", [[1, 0], [1, 1], [2, 1]])
def test_two_classes_with_few_pictures_have_a_report(test, tmp_path):
    data = splits(["a", "b"], each=3, test=test)
    made = distilled(data, "random", "hard", "infer", ipc=1)
    assert_is_complete(*written(*report(data, made), made, tmp_path))


def test_a_hundred_classes_share_colours(tmp_path):
    data = splits([f"class {number}" for number in range(100)], each=3, test=[1] * 100)
    made = distilled(data, "random", "views", "infer", ipc=1)
    html = written(*report(data, made), made, tmp_path)[1]
    assert "several classes share one" in html
    assert html.count('<bdi class="name">class 99</bdi>') == 3


@pytest.mark.parametrize(
    "names",
    [
        ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b"],
        ["n" * 300, "{{ 7 * 7 }}", "x.y.z"],
        ["שלום", "مرحبا (2)", "🐈‍⬛ $x_1$"],
    ],
)
def test_names_of_classes_are_text_and_nothing_else(names, tmp_path):
    data = splits(names)
    made = distilled(data, "random", "hard", "infer")
    result, arrays = report(data, made, dataset=names[0], command=f"python distill.py {names[1]} \udcff")
    numbers, html = written(result, arrays, made, tmp_path)
    assert_is_complete(numbers, html)
    assert html.count("<script") == 1  # the page's own
    assert not re.search(r"<img(?! src=\"data:image/png;base64,)", html)
    strips = [unescape(found) for found in re.findall(r'<div class="strip"><bdi class="name">(.*?)</bdi>', html)]
    assert strips == names


DAMAGES: dict[str, Callable[[dict], object]] = {
    "a tensor less": lambda content: content.pop("of"),
    "a tensor more": lambda content: content.update(other=torch.zeros(1)),
    "a type": lambda content: content.update(of=content["of"].float()),
    "a shape": lambda content: content.update(points=content["points"].flatten()),
    "three coordinates": lambda content: content.update(points=content["points"].repeat(1, 2)[:, :3].contiguous()),
    "a length": lambda content: content.update(kind=content["kind"][1:].clone()),
    "no number": lambda content: content["points"].fill_(float("nan")),
    "a class": lambda content: content["of"].fill_(-1),
    "a kind": lambda content: content["kind"].fill_(9),
    "no points": lambda content: content.update({name: content[name][:0].clone() for name in ("points", "of", "kind")}),
    "no decisions": lambda content: content.update({"margins.real": torch.zeros(0)}),
}


@pytest.fixture(scope="module")
def arrays() -> ReportArrays:
    data = splits(NAMES)
    return report(data, distilled(data, "random", "hard", "infer"))[1]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_arrays_are_one_line_with_the_cure(damage, arrays, tmp_path):
    path = tmp_path / "report_arrays.safetensors"
    arrays.save(path)
    content = load_file(path)
    DAMAGES[damage](content)
    save_file(content, path)
    with pytest.raises(UserError) as error:
        ReportArrays.load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("remove it, and it is created again")
    assert "\n" not in message
