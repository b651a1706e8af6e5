"""The figures of the README and of the documentation are those of the recorded runs in docs/results."""

import csv
import json
import re
import statistics
from pathlib import Path

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
RUNS = {
    "digits": "getting-started.md",
    "cifar10-jpeg-cpu": "results/cifar10.md",
    "neu-steel-poc": "results/own-pictures.md",
    "digits-imbalance": "results/own-pictures.md",
}
"""The page of each recorded run."""
SWEEPS = {
    "cifar10-jpeg-bytes": "results/cifar10.md",
    "cifar10-jpeg-bytes-ipc50": "results/cifar10.md",
    "cifar10-jpeg-images": "results/cifar10.md",
    "neu-steel-32": "results/own-pictures.md",
}
"""The page of each recorded sweep of one method."""
OF_OTHER_FILES = ("performance.md", "results/choices.md")
"""Pages whose figures are not of these runs: tests/test_benchmarks.py holds the one, trials of a day are the other."""
OVER_ROWS = "15.3 ± 1.3"
"""A difference of two rows, whose seeds the recorded table does not have."""


def table(name: str) -> list[dict[str, str]]:
    """The rows of a recorded table."""
    with (RESULTS / name).open() as file:
        return list(csv.DictReader(file))


def recorded(name: str) -> dict:
    """The content of a recorded result."""
    return json.loads((RESULTS / name / "result.json").read_text())


def figure(accuracy: float | str, std: float | str) -> str:
    """An accuracy as the pages have it."""
    return f"{100 * float(accuracy):.1f} ± {100 * float(std):.1f}"


@pytest.mark.parametrize("name", RUNS)
def test_a_runs_figures_are_the_recorded_ones(name):
    text = (DOCS / RUNS[name]).read_text()
    result = recorded(name)
    hard = set() if name == "neu-steel-poc" else {"random_hard"}  # a report has no such row
    assert {"distilled", "random", "real"} | hard <= {row["source"] for row in result["students"]}
    for row in result["students"]:
        figures = figure(row["accuracy_mean"], row["accuracy_std"])
        if name == "digits-imbalance":
            rarest = row["recall"][result["train_pictures"].index(min(result["train_pictures"]))]
            shares = (row["balanced_accuracy"], row["macro_f1"], rarest)
            figures += "".join(f" | {100 * share:.1f}" for share in shares)
        assert f"| {row['bytes']:,} | {figures} |" in text
    for teacher, content in result["teachers"].items():
        assert re.search(rf"{teacher}\s+{100 * content['accuracy']:.1f} %", text)


def test_the_table_of_methods_is_the_recorded_sweep():
    text = (RESULTS / "cifar10.md").read_text()
    rows = [row for row in table("cifar10-jpeg-sweep/table.csv") if row["source"] == "distilled"]
    assert len(rows) == 17  # six methods at three sizes; the published split has no ipc 1
    cells = {}
    for row in rows:
        cells.setdefault(row["setting"], {})[row["ipc"]] = figure(row["accuracy"], row["std"])
        assert row["students"] == "3"
    for figures in cells.values():
        assert f"| {' | '.join(figures.get(ipc, 'too small to split') for ipc in ('1', '10', '50'))} |" in text
    *_, of_others = [row for row in table("cifar10-jpeg-sre2l/table.csv") if row["source"] == "distilled"]
    assert re.search(f"came to {figure(of_others['accuracy'], of_others['std'])} at ipc {of_others['ipc']}", text)


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweeps_figures_are_the_recorded_ones(name):
    text = (DOCS / SWEEPS[name]).read_text()
    rows = table(f"{name}/table.csv")
    assert [row["source"] for row in rows][:2] == ["distilled", "random"]
    for row in rows:
        assert f"| {int(row['bytes']):,} | {figure(row['accuracy'], row['std'])} |" in text
    for ours in [row for row in rows if row["pairs"]]:
        assert f"+{figure(ours['against_random'], ours['half_interval'])}" in text
        assert re.search(rf"[Oo]ver {ours['pairs']}\s+seeds", text)


def test_the_frontier_is_the_recorded_runs():
    text = (RESULTS / "frontier.md").read_text()
    rows = table("frontier/table.csv")
    assert [*rows[0]] == ["dataset", "method", "student", "bytes", "accuracy", "std", "seeds", "published"]
    ours = [row for row in rows if row["published"] == "false"]
    assert {row["student"] for row in rows} == {"convnet_instance"}
    assert ("cifar10", "infer_plus") in {(row["dataset"], row["method"]) for row in ours}
    for row in ours:
        assert f"| {int(row['bytes']):,} | {figure(row['accuracy'], row['std'])} | {row['seeds']} |" in text
    for row in rows:
        if row["published"] == "true" and f"| {int(row['bytes']):,} | " in text:
            assert f"| {int(row['bytes']):,} | {100 * float(row['accuracy']):.1f} | published |" in text


def test_the_rows_of_the_papers_networks_are_the_recorded_students():
    text = (RESULTS / "cifar10.md").read_text()
    taught = table("cifar10-jpeg-paper/students.csv")
    published = OmegaConf.load(ROOT / "conf" / "experiment" / "cifar10-ipc10.yaml").published
    for name, of_paper in published.items():
        cells = []
        for source in ("distilled", "random"):
            found = [float(row["accuracy"]) for row in taught if (row["backbone"], row["source"]) == (name, source)]
            note = "" if len(found) == 3 else " (two seeds)"
            cells.append(figure(statistics.fmean(found), statistics.stdev(found)) + note)
        assert f"| {name} | {of_paper} | {' | '.join(cells)} |" in text


def test_the_ablation_is_the_recorded_runs():
    text = (RESULTS / "cifar10.md").read_text()
    rows = [row for path in (RESULTS / "ablation").glob("*.csv") for row in table(f"ablation/{path.name}")]
    assert len(rows) == len(re.findall(r"^\| (?:raw|coded) \|", text, re.M)) == 14
    for row in rows:
        assert f"| {int(row['bytes']):,} | {figure(row['accuracy'], row['std'])} |" in text
        assert row["students"] == "3"


def test_the_gains_on_many_classes_are_the_recorded_ones():
    text = (RESULTS / "many-classes.md").read_text()
    rows = table("subclasses/gain.csv")
    assert {row["rival"] for row in rows} == {"random", "random_images"}
    for row in rows:
        half = f" ± {100 * float(row['half']):.1f}" if row["half"] != "inf" else ""
        figures = f"| {100 * float(row['random']):.1f} | {100 * float(row['gain']):+.1f}{half} |"
        classes = row["classes"] if row["teachers"] == "3" else f"{row['classes']}, one teacher"
        ratio = f"{int(row['classes']) / int(row['teachers']):.1f}".removesuffix(".0")
        assert re.search(rf"^\| {classes} \| {re.escape(ratio)} \| .*{re.escape(figures)}", text, re.M), row


def of_the_files() -> set[str]:
    """Every mean with its std or interval that the recorded files hold."""
    found = set()
    for name in RUNS:
        found |= {figure(row["accuracy_mean"], row["accuracy_std"]) for row in recorded(name)["students"]}
    for path in RESULTS.glob("*/*.csv"):
        for row in table(str(path.relative_to(RESULTS))):
            pairs = [("accuracy", "std"), ("against_random", "half_interval"), ("gain", "half")]
            found |= {figure(row[mean], row[std]) for mean, std in pairs if row.get(mean) and row.get(std)}
    students = table("cifar10-jpeg-paper/students.csv")
    for key in {(row["backbone"], row["source"]) for row in students}:
        accuracies = [float(row["accuracy"]) for row in students if (row["backbone"], row["source"]) == key]
        found.add(figure(statistics.fmean(accuracies), statistics.stdev(accuracies)))
    return {each.removeprefix("-") for each in found}


def elsewhere() -> set[str]:
    """The figures of other machines and earlier commits, which the page on provenance lists as such."""
    part = (RESULTS / "provenance.md").read_text().partition("## The same commands elsewhere")[2]
    return set(re.findall(r"\d+\.\d ± \d+\.\d", part))


def pages() -> list[Path]:
    """The README and the pages with figures of these runs."""
    held = [page for page in sorted(DOCS.rglob("*.md")) if str(page.relative_to(DOCS)) not in OF_OTHER_FILES]
    return [ROOT / "README.md", *held]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_figure_with_its_spread_is_recorded(page):
    known = of_the_files() | elsewhere() | {OVER_ROWS}
    text = page.read_text().partition("## The same commands elsewhere")[0]
    found = set(re.findall(r"\d+\.\d ± \d+\.\d", text))
    assert found <= known, sorted(found - known)


def test_the_summary_of_results_has_the_rows_of_its_tables():
    text = (RESULTS / "README.md").read_text()
    for name in SWEEPS:
        for file, baseline in zip(*(_rows(name, source) for source in ("distilled", "random")), strict=True):
            accuracies = " | ".join(figure(row["accuracy"], row["std"]) for row in (file, baseline))
            difference = f"+{figure(file['against_random'], file['half_interval'])} | {file['pairs']}"
            assert f"| {int(file['bytes']):,} | {accuracies} | {difference} |" in text
    for name in ("cifar10-jpeg-cpu", "neu-steel-poc"):
        rows = {row["source"]: row for row in recorded(name)["students"]}
        file, baseline = rows["distilled"], rows["random"]
        accuracies = " | ".join(figure(row["accuracy_mean"], row["accuracy_std"]) for row in (file, baseline))
        loss = 100 * (file["accuracy_mean"] - baseline["accuracy_mean"])
        assert f"| {file['bytes']:,} | {accuracies} | {loss:+.1f} (one set) | 1 |" in text


def _rows(name: str, source: str) -> list[dict[str, str]]:
    return [row for row in table(f"{name}/table.csv") if row["source"] == source]


def test_provenance_has_a_row_for_every_recorded_folder():
    text = (RESULTS / "provenance.md").read_text()
    runs = text.partition("## Runs")[2].partition("## Notes")[0]
    folders = {path.name for path in RESULTS.iterdir() if path.is_dir()}
    assert set(re.findall(r"^\| `([\w-]+)` \|", runs, re.M)) == folders
    files = {path.stem for path in (RESULTS / "ablation").glob("*.csv")}
    commands = text.partition("## Commands of the ablation")[2]
    assert set(re.findall(r"^\| `([\w-]+)` \|", commands, re.M)) == files


@pytest.mark.parametrize("page", [RESULTS / "provenance.md", RESULTS / "README.md"], ids=lambda page: page.name)
def test_a_cell_holds_one_fact(page):
    cells = [cell.strip() for line in page.read_text().splitlines() if line[:2] == "| " for cell in line.split("|")]
    assert max(map(len, cells)) <= 120
