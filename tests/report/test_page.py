"""report.html: every number from result.json, both languages complete, and nothing fetched."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from reading_pages import assert_numbers_are_those_of, assert_page_is_self_contained
from tiny_analysis import CLASSES, STORED, inputs

from infer.core.sources import SOURCES
from infer.report import page, pictures
from infer.report.analysis import REPORTED, ReportArrays, analyse
from infer.report.file_facts import with_file_numbers
from infer.report.options import ReportOptions
from infer.report.verdict import decide
from infer.report.wording import lookup, page_texts

REPORT = Path(__file__).parents[2] / "infer" / "report"

DATA = {
    "classes": CLASSES,
    "train": 300,
    "test": 200,
    "validation": None,
    "smallest_class": 90,
    "largest_class": 110,
    "side": 8,
    "notes": ["train/flat/3.png: cannot be read"],
    "alike_across": 2,
    "folder_bytes": 123_456,
    "files": 500,
    "formats": {"PNG": 400, "JPEG": 100},
    "modes": {"L": 500},
    "smallest": [20, 30],
    "largest": [60, 80],
    "commonest": [40, 40],
}


def row(source: str) -> dict:
    scores = {"accuracy_mean": 0.9, "accuracy_std": 0.01, "balanced_accuracy": 0.89, "macro_f1": 0.88}
    facts = {"recall": [0.9, 0.8, 0.7], "seeds": 2, "seconds": 3.5, "steps": 100, "bytes": 4321}
    at = {"accuracy": 0.9, "balanced_accuracy": 0.89, "pictures": 200}
    measured = {"timelines": [[{"step": 50, "seconds": 0.8, **at}], [{"step": 50, "seconds": 1.2, **at}]]}
    weights = [f"students/net-{source}/seed{seed}/student.safetensors" for seed in range(2)]
    return {"backbone": "net", "source": source, **scores, **facts, **measured, "weights": weights}


@cache
def analysed(kind: str) -> tuple[dict, ReportArrays]:
    return analyse(inputs(kind))


def finished(kind: str, options: ReportOptions, **other: object) -> dict:
    """The content of a result.json with the analysis of a tiny set."""
    found, _ = analysed(kind)
    choice = {"labels.share": 0.1, "naturals": STORED, "labels": 40, "accuracy": 0.8, "seconds": 2.0}
    result = {
        "dataset": "stripes",
        "method": "infer",
        "ipc": 10,
        "classes": 3,
        "command": "python distill.py dataset=stripes",
        "labels": "views",
        "budget": {"codec": "webp", "by": "bytes"},
        "bytes": {"file": 4567, "real": 19200, "budget": 1920, "header": 345},
        "students": [row(source) for source in SOURCES],
        "teachers": {"teacher": {"accuracy": 0.8}},
        "seconds": {"teachers": 10.0, "distill": 5.0, "assemble": 1.0},
        "choices": [choice, {**choice, "labels.share": 0.2}],
        "hardware": {"peak_bytes": 10**9},
        "data": DATA,
        "evidence": {"student": "net", "seeds": 2, "real_coded": 9000, **found},
        **other,
    }
    return {**result, **decide(result, options)}


def written(kind: str, folder: Path, language: str = "en", **other: object) -> tuple[dict, str]:
    """The numbers of the result, as JSON holds it, and of the file; and the page."""
    result = json.loads(json.dumps(finished(kind, ReportOptions(language), **other)))
    page.write(result, analysed(kind)[1], inputs(kind).distilled, folder / "report.html")
    return with_file_numbers(result, inputs(kind).distilled), (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("kind", ["composed", "views", "stored"])
def test_every_number_of_the_page_is_in_result_json(kind, language, tmp_path):
    result, html = written(kind, tmp_path, language)
    assert_numbers_are_those_of(result, html)
    assert_page_is_self_contained(html)
    assert f'<html lang="{language}">' in html
    assert "kuro 黒" in html
    mistakes = sum(each["shown"] for each in result["evidence"]["classes"])
    assert html.count("<figcaption>→") == mistakes > 0


def test_parts_without_content_are_left_out(tmp_path):
    """A run that tried no settings, streamed data without files, uncompressed images."""
    data = {**DATA, "files": None, "alike_across": None, "notes": []}
    result, html = written("views", tmp_path, choices=[], data=data, budget={"codec": "webp"})  # the file is not coded
    assert_numbers_are_those_of(result, html)
    assert "data.formats" not in html
    assert "choices.0" not in html
    assert "WEBP" not in html
    assert "Near-duplicates are not searched for" in html


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_energy_of_a_year_has_a_price_where_one_is_given(language, tmp_path):
    priced = ReportOptions(language, currency="EUR", price_per_kwh=0.25)
    result = json.loads(json.dumps(finished("composed", priced)))
    page.write(result, analysed("composed")[1], inputs("composed").distilled, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert_numbers_are_those_of(with_file_numbers(result, inputs("composed").distilled), html)
    assert html.count('data-key="cost.money_real"') == 2  # in the section on costs and in the sentences to copy
    assert "EUR" in html
    assert "money" not in written("composed", tmp_path, language)[1]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_time_to_the_same_accuracy_is_told_where_it_was_measured(language, tmp_path):
    texts = page_texts(language)["limits"]["time"].rpartition("}}")[2]
    html = written("composed", tmp_path, language)[1]
    assert 'data-key="decision.time.real" data-unit="seconds">1.0' in html  # 0.8 s and 1.2 s
    assert texts in html
    late = [
        {
            **each,
            "timelines": [
                [{**at, "accuracy": 0.1, "balanced_accuracy": 0.1} for at in one]
                for one in row(each["source"])["timelines"]
            ],
        }
        if each["source"] == "real"
        else each
        for each in finished("composed", ReportOptions(language))["students"]
    ]
    html = written("composed", tmp_path, language, students=late)[1]
    assert 'data-key="decision.time.reached" data-unit="count">0' in html
    bare = [{key: value for key, value in each.items() if key != "timelines"} for each in late]
    html = written("composed", tmp_path, language, students=bare)[1]
    assert "decision.time.real" not in html
    assert texts not in html


def test_random_images_and_a_better_teacher_are_told_of(tmp_path):
    facts = {"labels": "hard", "images": {"drawn": True, "compensators": 0}, "teachers": {"deep": {"accuracy": 0.994}}}
    result, html = written("stored", tmp_path, **facts)
    assert_numbers_are_those_of(result, html)
    assert "The images of the file were drawn at random" in html
    assert "has to beat" not in html
    assert "what the file is worth beyond its size" not in html
    assert "no teacher takes part" in html
    told = {"name": "deep", "accuracy": 0.994, "points": pytest.approx(0.094), "on_file": None}
    assert result["verdict"]["ahead"] == told
    assert 'data-key="verdict.ahead.points"' in html
    assert "was not measured" in html
    result, html = written("stored", tmp_path, "ja", **facts)
    assert_numbers_are_those_of(result, html)
    assert 'data-key="verdict.ahead.points"' in html
    assert "無作為に選ばれた" in html
    _, html = written("stored", tmp_path)
    assert "verdict.ahead" not in html
    assert "drawn at random" not in html
    assert "has to beat" in html


def test_the_rarest_class_is_told_where_classes_differ(tmp_path):
    _, html = written("stored", tmp_path)
    assert ("Rarest class" in html) == (DATA["smallest_class"] < DATA["largest_class"])
    _, html = written("stored", tmp_path, data={**DATA, "smallest_class": 20, "largest_class": 20})
    assert "arest class" not in html
    _, html = written("stored", tmp_path, data={**DATA, "smallest_class": 19, "largest_class": 20})
    assert "Rarest class" in html


def test_pictures_without_a_folder_have_no_size_on_disk(tmp_path):
    html = written("composed", tmp_path, data={**DATA, "folder_bytes": None})[1]
    assert "decision.storage.folder" not in html
    assert "The training images have no files of their own on disk." in html


def test_names_are_escaped(tmp_path):
    _, html = written("composed", tmp_path, dataset="<script>alert(1)</script>")
    assert html.count("<script>") == 1  # the page's own


def test_a_name_with_dots_is_found_as_it_is():
    content = {"a": {"b": 1, "c.d": {"e": [5, 6]}}, "a.b.c": 2}
    keys = ("a.b", "a.b.c", "a.c.d.e.1")
    assert [lookup(content, key) for key in keys] == [1, 2, 6]
    with pytest.raises(KeyError):
        lookup(content, "a.c")


def test_both_languages_have_every_text():
    def keys(content: dict, above: str = "") -> set[str]:
        return {
            key
            for name, value in content.items()
            for key in (keys(value, f"{above}{name}.") if isinstance(value, dict) else [f"{above}{name}"])
        }

    texts = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in (REPORT / "texts").glob("*.toml")}
    assert set(texts) == {"en", "ja"}
    assert keys(texts["en"]) == keys(texts["ja"])
    template = (REPORT / "page.html.j2").read_text(encoding="utf-8")
    calls = "".join(re.findall(r"\bt\((.*?)\) ?\}\}", template))
    used = {key for key in re.findall(r'"([a-z_]+\.[a-z_]+)"', calls) if not key.endswith(("_", "."))}
    assert len(used) > 50
    assert used <= keys(texts["en"])
    columns = {name for names in re.findall(r"titled\(\[(.*?)\]\)", template) for name in re.findall(r'"(\w+)"', names)}
    assert {f"column.{name}" for name in columns} <= keys(texts["en"])
    for key in keys(texts["en"]):  # the same numbers in both
        numbers = [sorted(set(re.findall(r"n\('([^']+)'", lookup(texts[language], key)))) for language in texts]
        assert numbers[0] == numbers[1], key


def test_the_sources_have_titles_in_every_language():
    for path in (REPORT / "texts").glob("*.toml"):
        assert set(tomllib.loads(path.read_text(encoding="utf-8"))["source"]) == set(SOURCES)
    assert set(REPORTED) < set(SOURCES)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("composed", {"naturals", "compensators", "composed", "round0"}),
        ("views", {"naturals", "compensators", "composed", "round0", "views"}),
        ("stored", {"naturals"}),
    ],
)
def test_the_images_of_a_set_are_those_it_has(kind, names, tmp_path):
    pictures.draw(inputs(kind).distilled, tmp_path / "images")
    assert {file.name for file in (tmp_path / "images").iterdir()} == {f"{name}.png" for name in names}
