"""What a reader of report.html sees: axis titles, enlarged pictures, folded sections, sizes, wide tables, Japanese."""

import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from reading_pages import blocks
from test_page import finished, written
from tiny_analysis import inputs

from infer.report import figures, page
from infer.report.numbers import TimeUnit, time_unit
from infer.report.options import ReportOptions
from infer.report.pictures import enlargement
from infer.report.wording import page_texts

JAPANESE = "ぁ-んァ-ヶー一-龠々"
TITLES = figures.Titles("x", "y")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    return {name: written("composed", tmp_path_factory.mktemp(name), name)[1] for name in ("en", "ja")}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_every_plot_has_axis_titles_with_units_in_the_language_of_the_page(language, pages):
    axis = page_texts(language)["axis"]
    plots = re.findall(r"<svg\b.*?</svg>", pages[language], flags=re.S)
    expected = [("choice", "held_out"), ("map_x", "map_y"), ("map_x", "map_y"), ("margin", "share")]
    longest = finished("composed", ReportOptions(language))["cost"]["hours_real"]
    expected.append(("retrainings", time_unit(3600 * longest).name))
    for plot, titles in zip(plots, expected, strict=True):
        words = re.findall(r"<text\b[^>]*>(.*?)</text>", plot, flags=re.S)
        assert {axis[title] for title in titles} <= {word.strip() for word in words}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.margins({"real": torch.linspace(-1, 1, 50)}, TITLES),
        lambda: figures.choices([0.5] * 40, TITLES),
        lambda: figures.cost(5.0, 0.1, 3.0, 52, TimeUnit("seconds", 1), TITLES),
    ],
)
def test_ticks_and_titles_lie_inside_the_plot(draw, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "Figure", lambda **options: drawn.append(plt.Figure(**options)) or drawn[-1])
    assert draw().startswith("<svg")
    (figure,) = drawn
    (axes,) = figure.axes
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    drawn_on = figure.get_tightbbox()  # inches
    assert min(drawn_on.x0, drawn_on.y0) >= 0
    assert drawn_on.x1 <= width
    assert drawn_on.y1 <= height
    assert axes.get_xlabel() == "x"
    assert axes.get_ylabel() == "y"
    low, high = axes.get_xlim()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert len(boxes) > 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_no_contour_of_a_class_map_is_cut(monkeypatch):
    """Contours are closed, and inside the limits of the axes, which are the same for the maps of both sets."""
    drawn = []
    monkeypatch.setattr(figures, "Figure", lambda **options: drawn.append(plt.Figure(**options)) or drawn[-1])
    draw = torch.Generator().manual_seed(0)
    narrow = torch.randn(40, 2, generator=draw) @ torch.tensor([[3.0, 2.9], [0.0, 0.2]])
    lone = torch.cat([torch.randn(11, 2, generator=draw) * 0.01 + 20, torch.tensor([[40.0, 0.0]])])
    stored = torch.tensor([[60.0, 60.0], [-60.0, 10.0]])
    points = torch.cat([narrow, lone, stored])
    classes = torch.tensor([0] * 40 + [1] * 12 + [0, 1])
    kind = torch.tensor([0] * 52 + [1, 3])
    for naturals, composed in ((1, 2), (3, 4)):
        figures.class_map(points, classes, kind, naturals, composed, TITLES)
    limits = []
    for figure in drawn:
        (axes,) = figure.axes
        limits.append((*axes.get_xlim(), *axes.get_ylim()))
        for contours in (found for found in axes.collections if hasattr(found, "levels")):
            for path in contours.get_paths():
                for line in path.to_polygons(closed_only=False):
                    assert (line[0] == line[-1]).all()
                    assert (line >= [limits[-1][0], limits[-1][2]]).all()
                    assert (line <= [limits[-1][1], limits[-1][3]]).all()
    assert limits[0] == limits[1]
    assert limits[0][0] < -60
    assert limits[0][1] > 60


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_small_pictures_are_shown_at_three_times_their_size_or_more(side):
    assert enlargement(side) >= 3
    assert enlargement(side) * side <= 192


def test_pictures_are_stored_pixel_by_pixel_and_enlarged_by_the_browser(pages):
    shown = re.findall(r'<img src="(.*?)" width="(\d+)" height="(\d+)" alt="', pages["en"])
    assert {(width, height) for _, width, height in shown} == {("48", "48")}  # 8 pixels, six times
    distilled = inputs("composed").distilled
    each = sum(min(8, count) for count in distilled.natural_targets.bincount().tolist())
    mistakes = pages["en"].count("<figcaption>→")
    composed = len(distilled.pairs)  # four of each class
    assert len(shown) == pages["en"].count("<img") == each + composed + mistakes + len(distilled.compensators)
    first = distilled.naturals[distilled.natural_targets == 0][0]
    assert shown[0][0] == page._uri(first)
    assert "img { image-rendering: pixelated;" in pages["en"]
    assert 'Each pixel is shown <span class="constant">6</span> times' in pages["en"]


def test_specialist_sections_are_folded_and_printed_open(pages):
    html = pages["en"]
    folds = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", html, flags=re.S)
    texts = page_texts("en")
    titles = [texts[name]["more"] for name in ("similar", "fidelity", "privacy", "how")]
    assert [title for title, _ in folds] == titles
    margins, fidelity, membership, settings = (content for _, content in folds)
    outside = re.sub(r"<details>.*?</details>", "", html, flags=re.S)
    for content, key in ((margins, "margin_median"), (fidelity, ".kid"), (membership, ".auc")):
        assert f'{key}"' in content
        assert f'{key}"' not in outside
    assert '<pre class="setting">' in settings
    printed = html[html.rindex("@media print {") :]
    assert "details::details-content { content-visibility: visible;" in printed
    assert 'addEventListener("beforeprint"' in html
    assert 'addEventListener("afterprint"' in html


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_negative_kid_is_explained(language, tmp_path):
    words = page_texts(language)["fidelity"]["negative"]
    evidence = finished("composed", ReportOptions(language))["evidence"]
    for kid in (-0.002, 0.002, None):
        kept = {kind: {**values, "kid": 0.1} for kind, values in evidence["kept"].items()}
        kept["naturals"]["kid"] = kid
        evidence = {**evidence, "kept": kept}
        _, html = written("composed", tmp_path, language, evidence=evidence)
        assert (words in html) == ("−0.002" in html) == (kid is not None and kid < 0)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_sizes_are_told_once(language, pages):
    """Once besides the sentences to copy, which stand alone."""
    rest = re.sub(r'<details class="brief">.*?</details>', "", pages[language], flags=re.S)
    for key in ("bytes.file", "bytes.real", "bytes.header", "evidence.real_coded"):
        assert rest.count(f'data-key="{key}"') == 1
    sizes = re.findall(r'data-unit="bytes">(.*?)</data>', pages[language])
    assert len(sizes) > 5
    assert all(re.fullmatch(r"[\d.]+ (B|kB|MB|GB)", size) for size in sizes)


def test_wide_tables_have_a_hint_that_they_scroll(pages):
    tables = re.findall(
        r'<div class="scroll( wide)?" tabindex="0">(.*?)</div>\n(<p class="hint)?', pages["en"], flags=re.S
    )
    assert len(tables) == pages["en"].count("<table>") == 9
    for wide, table, hint in tables:
        assert bool(wide) == bool(hint) == (table.count("<th>") > 3)


def test_a_page_has_a_dark_mode_and_prints_in_light_colours(pages):
    html = pages["en"]
    dark, printed = html.index("@media (prefers-color-scheme: dark)"), html.index("@media print { :root")
    assert dark < printed
    light = re.search(r"--paper: (\S+?);", html[printed:]).group(1)
    assert (
        light == re.search(r"--paper: (\S+?);", html).group(1) != re.search(r"--paper: (\S+?);", html[dark:]).group(1)
    )


@pytest.mark.parametrize("kind", ["composed", "views", "stored"])
def test_japanese_has_full_width_punctuation_and_no_spaces(kind, tmp_path):
    _, html = written(kind, tmp_path, "ja")
    found = blocks(html)
    assert len(found) > 80
    for block in found:
        assert not re.search(rf"[{JAPANESE}）」][,.:;!?()\[\]]|[,.:;!?()\[\]][{JAPANESE}（「]", block), block
        assert not re.search(r"[。、：；（「] | [。、：；）」]", block), block
        assert not re.search(rf"[{JAPANESE}] [{JAPANESE}]|\d [{JAPANESE}]|[{JAPANESE}] \d", block), block
    shown = " ".join(found)
    assert not re.search(r"\d ?(s|min|h)\b", shown)


def test_japanese_words_are_those_of_the_field(tmp_path):
    texts = (Path(page.__file__).parent / "texts" / "ja.toml").read_text(encoding="utf-8")
    _, html = written("composed", tmp_path, "ja")
    for words in ("信頼区間が許容値をまたぐため", "保存枚数（ipc）", "正解→誤答", "誤答→正解"):
        assert words in texts
    heads = [re.sub(r"<[^>]+>", "", head) for head in re.findall(r"<th>(.*?)</th>", html)]
    assert {"正解→誤答", "誤答→正解"} <= set(heads)
    assert re.search(
        r'AUCが<span class="constant">0\.5</span>.*<span class="constant">1</span>なら', html.replace("'", '"')
    )
