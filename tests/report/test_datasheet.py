"""datasheet.md and brief.md: numbers of result.json, in both languages, as people read them."""

import json
import re
from pathlib import Path

import pytest
import reading_pages
from reading_pages import Reader
from test_page import analysed, written
from tiny_analysis import inputs

import infer
from infer.report import brief, datasheet, page
from infer.report.file_facts import file_facts
from infer.report.numbers import number_formats
from infer.report.wording import Wording, lookup, page_texts


def assert_numbers_are_those_of(result: dict, text: str, language: str) -> int:
    """Every number is in a <data> element, and is the one of result.json; returns how many there are."""
    reader = Reader()
    reader.feed(text)
    formats = number_formats(page_texts(language)["unit"])
    for key, unit, value, shown in reader.figures:
        assert float(value) == lookup(result, key), key
        assert shown == formats[unit](lookup(result, key)), key
    assert [words for words in reader.words if re.search(r"\d", words)] == []
    return len(reader.figures)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a run without a report."""
    from conftest import TINY
    from hydra import compose, initialize_config_dir

    from infer.cli import schema
    from infer.pipeline.run import distill

    output = tmp_path_factory.mktemp("run")
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        options = schema.typed(compose("distill", [*TINY, f"output={output}", "ipc=12"]))
    distill(options, schema.backbones(options), quiet=True)
    (file,) = output.rglob("distilled.safetensors")
    return file.parent


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_number_of_the_datasheet_is_in_result_json(finished, language):
    small = infer.load(finished / "distilled.safetensors")
    result = json.loads((finished / "result.json").read_text())
    told = {**result, "report": {"language": language}}
    rows = len(result["students"])
    text = "\n".join(datasheet.lines(told, small))
    figures = assert_numbers_are_those_of(result, text, language)
    assert figures >= 3 * result["classes"] + 3 * rows + len(result["teachers"])  # both tables and the teachers
    plain = re.sub(r"<[^>]*>", "", text)
    assert not re.search(r"\b(nan|None|undefined)\b", plain)
    assert "" not in [line.removeprefix("## ").strip("| ") for line in plain.splitlines() if line]


def test_a_run_without_a_report_has_a_datasheet_in_english(finished):
    text = (finished / "datasheet.md").read_text(encoding="utf-8")
    result = json.loads((finished / "result.json").read_text())
    settings = infer.load(finished / "distilled.safetensors").header.provenance["settings"]
    assert text.startswith("# Datasheet of a distilled file\n")
    assert f"`{settings['data']}`" in text
    assert f"```bash\n{result['command']}\n```" in text
    assert "Everyone who has the file can view them" in text
    assert f"convnet_narrow {100 * result['teachers']['convnet_narrow']['accuracy']:.1f} %" in text
    for number, name in enumerate("0123456789"):
        counts = [result[part][number] for part in ("train_pictures", "test_pictures")]
        assert "| {} | {} | {} | {} |".format(name, *counts, result["images"]["naturals"][number]) in text
    for row in result["students"]:
        mean, std = 100 * row["accuracy_mean"], 100 * row["accuracy_std"]
        assert re.search(rf"\| convnet_narrow \| [^|]+ \| {mean:.1f} % ± {std:.1f} \| 2 \|", text), row["source"]


def test_the_header_has_what_the_datasheet_says_of_the_making(finished):
    """The file is known without its datasheet."""
    result = json.loads((finished / "result.json").read_text())
    provenance = infer.load(finished / "distilled.safetensors").header.provenance
    assert provenance["dataset"] == result["dataset"]
    assert provenance["settings"]["method"]["name"] == result["method"]
    assert provenance["settings"]["seed"] == result["seed"]
    accuracies = {name: round(teacher["accuracy"], 4) for name, teacher in result["teachers"].items()}
    assert provenance["teachers"] == accuracies


def test_names_are_no_markdown(finished):
    result = json.loads((finished / "result.json").read_text())
    small = infer.load(finished / "distilled.safetensors")
    text = "\n".join(map(str, datasheet.lines({**result, "dataset": "_a|b`*c\n<i>"}, small)))
    assert r'<bdi class="name">\_a\|b\`\*c\\n\&lt;i\&gt;</bdi>' in text


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("kind", ["composed", "stored"])
def test_the_brief_is_five_sentences_whose_numbers_are_in_result_json(kind, language, tmp_path):
    result, page = written(kind, tmp_path, language)
    small = inputs(kind).distilled
    text = brief.sentences(Wording(language, result, file_facts(result, small)))
    assert assert_numbers_are_those_of(result, text, language) > 10
    brief.write(result, small, tmp_path / "brief.md")
    title, sentences = (tmp_path / "brief.md").read_text(encoding="utf-8").strip().split("\n\n")
    assert title == f"# {page_texts(language)['title']}"
    assert len(re.findall(r"。" if language == "ja" else r"\.(?= |$)", sentences)) == 5
    shown = re.search(r'<details class="brief">.*?<p>(.*?)</p>', page, re.S)[1]
    assert re.sub(r"<[^>]*>", "", shown) == sentences


CHOICES = ("use", "labels", "pictures", "others", "keep", "unsure", "larger", "decline")


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("advice", CHOICES)
def test_the_brief_and_the_page_give_the_advice_of_the_decision(advice, language, tmp_path):
    result, _ = written("composed", tmp_path, language)
    classes = {"points": 0.01, "low": -0.02, "high": 0.04, "pictures": 9}
    decided = {**result["decision"], "accuracy": {**result["decision"]["accuracy"], "classes": classes}}
    decided["advice"] = {"choice": advice, "command": "infer-predict a b", "bytes": 2000}
    result = {**result, "decision": decided}
    small, texts = inputs("composed").distilled, page_texts(language)
    text = brief.sentences(Wording(language, result, file_facts(result, small)))
    first = texts["brief"][advice].rpartition("}}")[2]
    assert first in text
    others = {texts["brief"][other].rpartition("}}")[2] for other in CHOICES}
    assert not [each for each in others - {first} if each in text]
    page.write(result, analysed("composed")[1], small, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    (head,) = re.findall(r'<section class="verdict.*?<strong>(.*?)</strong>', html, re.S)
    heads = [each for each in CHOICES if head.endswith(texts["advice"][each].rpartition("}}")[2])]
    assert heads == [advice]
    assert '<pre class="setting">infer-predict a b</pre>' in html
    assert ("selected.csv" in html) == (advice == "pictures")
    reading_pages.assert_numbers_are_those_of(result | {"searched": {"tried": 2, "of": 2}}, html)
