"""The report: every number from result.json, both languages whole, nothing fetched, and a verdict by its rule."""

import json
import re
import statistics
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY
from hydra import compose, initialize_config_dir
from PIL import Image

from infer.cli import schema
from infer.cli.schema import ReportConfig, backbone
from infer.core import ufc
from infer.models.networks import load_weights
from infer.pipeline.run import distill, read
from infer.report.page import UNITS, lookup
from infer.report.verdict import decide
from infer.training.context import Bench
from infer.training.fit import Hardware

WORDS = [
    *TINY,
    "experiment=poc",
    "dataset.image_size=16",
    "dataset.channels=1",
    "ipc=8",
    "labels.scout=5",
    "labels.candidates=2",
    "labels.share=0.1",
    "budget.choices.labels.share=[0.1,0.2]",
    "budget.choices.budget.quality=null",
    "teachers.margin=-1",
    "students.sources=[distilled,random,real]",
]
TEXTS = ROOT / "infer" / "report" / "texts"


def composed(*words: str):
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return schema.checked(compose("distill", [*WORDS, *words]))


@pytest.fixture(scope="module")
def made(pictures, tmp_path_factory) -> dict:
    """A run on the folder of stripes, its result and pages by language."""
    output = tmp_path_factory.mktemp("report")
    words = [f"output={output}", f"dataset.root={pictures}"]
    pages = {}
    for language in ("en", "ja"):
        result = distill(composed(*words, f"report.language={language}"))
        (page,) = output.rglob("report.html")
        pages[language] = (json.loads((page.parent / "result.json").read_text()), page.read_text())
    return {"words": words, "pages": pages, "folder": page.parent, "result": result}


class Reader(HTMLParser):
    """What a page says: its <data> elements, and its other words outside plots, styles and what is quoted."""

    QUOTED = ("name", "note", "setting", "ordinal")

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[list[str]] = []
        self.words: list[str] = []
        self.open: list[bool] = []  # of the elements around, whether their words are ours

    def handle_starttag(self, tag, attrs):
        if tag in ("meta", "link", "img", "br"):
            return
        found = dict(attrs)
        quoted = tag in ("svg", "style", "title", "data") or found.get("class") in self.QUOTED
        self.open.append(quoted)
        if tag == "data":
            self.figures.append([found["data-key"], found["data-unit"], found["value"], ""])

    def handle_endtag(self, tag):
        if tag not in ("meta", "link", "img", "br"):
            self.open.pop()

    def handle_data(self, data):
        if self.figures and self.open and self.get_starttag_text().startswith("<data"):
            self.figures[-1][3] += data
        if not any(self.open):
            self.words.append(data)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_number_of_the_report_is_that_of_result_json(made, language):
    result, page = made["pages"][language]
    reader = Reader()
    reader.feed(page)
    assert len(reader.figures) > 80
    for key, unit, value, shown in reader.figures:
        known = lookup(result, key)
        if known is None:
            assert (value, shown.strip()) == ("", "–")
            continue
        assert float(value) == known, key
        assert shown.startswith(UNITS[unit](known)), key
    stray = [words for words in reader.words if re.search(r"\d", words.replace("F1", ""))]
    assert stray == []
    for at, note in enumerate(result["data"]["notes"]):
        assert f'data-key="data.notes.{at}"' in page
        assert note


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_needs_nothing_but_itself(made, language):
    _, page = made["pages"][language]
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert {address for address in addresses if "www.w3.org" not in address} == set()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert f'<html lang="{language}">' in page
    assert "kuro 黒" in page


def test_both_languages_have_every_text():
    def keys(content: dict, above: str = "") -> set[str]:
        return {
            key
            for name, value in content.items()
            for key in (keys(value, f"{above}{name}.") if isinstance(value, dict) else [f"{above}{name}"])
        }

    texts = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in TEXTS.glob("*.toml")}
    assert set(texts) == {"en", "ja"}
    assert keys(texts["en"]) == keys(texts["ja"])
    used = set(re.findall(r't\("([a-z_.]+[a-z])"', (ROOT / "infer/report/page.html.j2").read_text()))
    assert used <= keys(texts["en"])
    for key in keys(texts["en"]):  # the same figures in both
        figures = [sorted(set(re.findall(r"n\('([^']+)'", lookup(texts[language], key)))) for language in texts]
        assert figures[0] == figures[1], key


def test_another_language_is_no_new_training(made):
    before = {path: path.stat().st_mtime_ns for path in made["folder"].rglob("*.safetensors")}
    distill(composed(*made["words"], "report.language=en", "report.retrainings=7"))
    assert {path: path.stat().st_mtime_ns for path in made["folder"].rglob("*.safetensors")} == before
    assert json.loads((made["folder"] / "result.json").read_text())["report"]["retrainings"] == 7


def test_kept_students_are_those_of_the_table_and_the_loss_is_their_difference(made):
    result = made["result"]
    config = composed(*made["words"])
    data = read(config.dataset)
    bench = Bench(data, config, Hardware("cpu", 1, 1, "auto", "32-true"))
    balanced, variance = {}, 0.0
    for row in result["students"]:
        found = []
        for file, accuracy in zip(row["weights"], row["accuracies"], strict=True):
            network = bench.network(backbone(row["backbone"])).eval()
            load_weights(network, Path(file))
            with torch.no_grad():
                right = network(ufc.normalise(data.test.images, *data.moments)).argmax(1) == data.test.targets
            assert float(right.float().mean()) == pytest.approx(accuracy)
            found.append(right.float())
        balanced[row["source"]] = torch.stack(found).mean(0)
        if row["source"] in ("real", "distilled"):
            variance += statistics.variance(row["accuracies"]) / len(row["accuracies"])
    loss = result["evidence"]["loss"]
    difference = balanced["real"] - balanced["distilled"]  # four test pictures of each class: no class weighs more
    assert loss["points"] == pytest.approx(float(difference.mean()), abs=1e-6)
    of_pictures = 1.959964 * float(difference.std(correction=0)) / len(difference) ** 0.5
    of_students = 4.302653 * variance**0.5  # Student's t of 2 degrees of freedom: two students of each
    half = (of_pictures**2 + of_students**2) ** 0.5
    assert loss["high"] - loss["points"] == pytest.approx(half, abs=1e-6)
    lost = sum(kind["lost"] for kind in result["evidence"]["classes"])
    assert lost == int(((balanced["real"] > 0.5) & ~(balanced["distilled"] > 0.5)).sum())


def told(points, half, file, real, size=10, teacher=0.88, steps=400) -> dict:
    """The decision on a result of those figures; ``steps`` of the real set's students, those of the file have 100."""
    row = {"backbone": "net", "seeds": 2, "accuracy_mean": 0.9}
    result = {
        "students": [
            {**row, "source": "distilled", "seconds": 2 * file, "steps": 100},
            {**row, "source": "real", "seconds": 2 * real, "steps": steps},
        ],
        "teachers": {"a": {"accuracy": teacher}, "b": {"accuracy": 0.5}},
        "seconds": {"teachers": 10, "distill": 5, "assemble": 5},
        "choices": [{"seconds": 20}],
        "bytes": {"file": size, "real": 400},
        "evidence": {
            "student": "net",
            "real_coded": 100,
            "loss": {"points": points, "low": points - half, "high": points + half},
        },
    }
    return decide(result, ReportConfig("en", 52, 100, None, 5))


def test_the_verdict_follows_its_rule():
    adopt = told(0.04, 0.005, file=1, real=4)
    assert (adopt["verdict"]["choice"], adopt["verdict"]["firm"]) == ("adopt", True)
    assert adopt["cost"]["making_seconds"] == 40
    assert (adopt["cost"]["times_smaller"], adopt["cost"]["times_smaller_coded"]) == (40, 10)
    assert adopt["cost"]["break_even"] == 14  # 40 s, 3 saved each time
    assert told(0.04, 0.02, 1, 4)["verdict"]["firm"] is False
    assert told(0.06, 0.005, 1, 4)["verdict"]["choice"] == "larger"
    assert told(0.06, 0.005, 1, 4, size=60)["verdict"]["choice"] == "decline"
    assert told(0.01, 0.005, 4, 4)["verdict"]["choice"] == "decline"
    assert told(0.01, 0.005, 4, 4)["cost"]["break_even"] is None
    assert told(0.01, 0.005, 3, 4, steps=100)["cost"]["break_even"] is None  # as many steps: the clock's noise
    assert told(0.01, 0.005, 3, 4, steps=100)["verdict"]["choice"] == "decline"
    assert adopt["verdict"]["teachers_behind"] is None
    assert told(0.01, 0.005, 4, 4, teacher=0.8)["verdict"]["teachers_behind"] == pytest.approx(0.1)


def test_the_time_budget_is_kept_and_the_first_choice_is_always_tried(pictures, tmp_path, caplog):
    words = [f"output={tmp_path}", f"dataset.root={pictures}", "students.seeds=1"]
    result = distill(
        composed(*words, "report.time_budget=0.01s", "report.language=null", "students.sources=[distilled]")
    )
    assert [choice["labels.share"] for choice in result["choices"]] == [0.1]
    assert "1 of 2 choices tried" in caplog.text
    assert not list(tmp_path.rglob("report.html"))


def test_the_survey_tells_sizes_modes_and_copies(pictures, tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (tmp_path / part / name).mkdir(parents=True)
    noise = torch.randint(0, 256, (8, 40, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    for number, place in enumerate(("train/a/0", "train/a/1", "train/b/2", "train/b/3", "test/a/4", "test/b/5")):
        Image.fromarray(noise[number]).save(tmp_path / f"{place}.png")
    Image.fromarray(noise[0]).resize((60, 80)).save(tmp_path / "test/a/copy.jpg", quality=95)
    Image.fromarray(noise[7]).convert("RGB").save(tmp_path / "train/b/colour.png")
    from infer.data.summary import survey

    found = survey(read(composed(f"dataset.root={tmp_path}", "dataset.image_size=40").dataset), str(tmp_path))
    assert found["alike_across"] == 1
    assert found["files"] == 8
    assert found["modes"] == {"L": 7, "RGB": 1}
    assert found["formats"] == {"PNG": 7, "JPEG": 1}
    assert (found["smallest"], found["largest"], found["commonest"]) == ([30, 40], [60, 80], [30, 40])
    assert (found["train"], found["test"], found["smallest_class"], found["largest_class"]) == (5, 3, 2, 3)
