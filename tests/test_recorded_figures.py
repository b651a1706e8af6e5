"""The figures in the README are those of the recorded runs in docs/results."""

import csv
import json
import re
import statistics

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

RESULTS = ROOT / "docs" / "results"


def table(name: str) -> list[dict[str, str]]:
    """The rows of a recorded table."""
    with (RESULTS / name).open() as file:
        return list(csv.DictReader(file))


def figure(accuracy: float | str, std: float | str) -> str:
    """An accuracy as the README has it."""
    return f"{100 * float(accuracy):.1f} ± {100 * float(std):.1f}"


@pytest.mark.parametrize("name", ["digits", "cifar10-jpeg-cpu", "neu-steel-poc", "digits-imbalance"])
def test_the_readmes_figures_are_those_of_the_recorded_run(name):
    text = (ROOT / "README.md").read_text()
    result = json.loads((RESULTS / name / "result.json").read_text())
    hard = set() if name == "neu-steel-poc" else {"random_hard"}  # a report has no such row
    assert {"distilled", "random", "real"} | hard <= {row["source"] for row in result["students"]}
    for row in result["students"]:
        figures = figure(row["accuracy_mean"], row["accuracy_std"])
        if name == "digits-imbalance":
            rarest = row["recall"][result["train_pictures"].index(min(result["train_pictures"]))]
            shares = (row["balanced_accuracy"], row["macro_f1"], rarest)
            figures += "".join(f" | {100 * share:.1f}" for share in shares)
        assert f"| {row['bytes']:,} | {figures} |" in text
    for teacher in result["teachers"].values():
        assert f"{100 * teacher['accuracy']:.1f} %" in text


def test_the_readmes_table_of_methods_is_the_recorded_sweep():
    text = (ROOT / "README.md").read_text()
    rows = [row for row in table("cifar10-jpeg-sweep/table.csv") if row["source"] == "distilled"]
    assert len(rows) == 17  # six methods at three sizes; the published split has no ipc 1
    cells = {}
    for row in rows:
        cells.setdefault(row["setting"], {})[row["ipc"]] = figure(row["accuracy"], row["std"])
        assert row["students"] == "3"
    for figures in cells.values():
        assert f"| {' | '.join(figures.get(ipc, 'too small to split') for ipc in ('1', '10', '50'))} |" in text
    *_, of_others = [row for row in table("cifar10-jpeg-sre2l/table.csv") if row["source"] == "distilled"]
    assert f"came to {figure(of_others['accuracy'], of_others['std'])} at ipc {of_others['ipc']}" in text


@pytest.mark.parametrize(
    "name", ["cifar10-jpeg-bytes", "cifar10-jpeg-bytes-ipc50", "cifar10-jpeg-images", "neu-steel-32"]
)
def test_the_readmes_sweeps_are_the_recorded_ones(name):
    text = (ROOT / "README.md").read_text()
    rows = table(f"{name}/table.csv")
    assert [row["source"] for row in rows][:2] == ["distilled", "random"]
    for row in rows:
        assert f"| {int(row['bytes']):,} | {figure(row['accuracy'], row['std'])} |" in text
    for ours in [row for row in rows if row["pairs"]]:
        assert f"+{figure(ours['against_random'], ours['half_interval'])}" in text
        assert re.search(rf"[Oo]ver {ours['pairs']}\s+seeds", text)


def test_the_readmes_rows_of_the_papers_networks_are_the_recorded_students():
    text = (ROOT / "README.md").read_text()
    taught = table("cifar10-jpeg-paper/students.csv")
    published = OmegaConf.load(ROOT / "conf" / "experiment" / "cifar10-ipc10.yaml").published
    for name, of_paper in published.items():
        cells = []
        for source in ("distilled", "random"):
            found = [float(row["accuracy"]) for row in taught if (row["backbone"], row["source"]) == (name, source)]
            note = "" if len(found) == 3 else " (two seeds)"
            cells.append(figure(statistics.fmean(found), statistics.stdev(found)) + note)
        assert f"| {name} | {of_paper} | {' | '.join(cells)} |" in text


def test_the_readmes_ablation_is_the_recorded_runs():
    text = (ROOT / "README.md").read_text()
    rows = [row for path in (RESULTS / "ablation").glob("*.csv") for row in table(f"ablation/{path.name}")]
    assert len(rows) == len(re.findall(r"^\| (?:raw|coded) \|", text, re.M)) == 14
    for row in rows:
        assert f"| {int(row['bytes']):,} | {figure(row['accuracy'], row['std'])} |" in text
        assert row["students"] == "3"


def test_the_readmes_gains_on_many_classes_are_the_recorded_ones():
    text = (ROOT / "README.md").read_text()
    rows = table("subclasses/gain.csv")
    assert {row["rival"] for row in rows} == {"random", "random_images"}
    for row in rows:
        half = f" ± {100 * float(row['half']):.1f}" if row["half"] != "inf" else ""
        figures = f"| {100 * float(row['random']):.1f} | {100 * float(row['gain']):+.1f}{half} |"
        classes = row["classes"] if row["teachers"] == "3" else f"{row['classes']}, one teacher"
        ratio = f"{int(row['classes']) / int(row['teachers']):.1f}".removesuffix(".0")
        assert re.search(rf"^\| {classes} \| {re.escape(ratio)} \| .*{re.escape(figures)}", text, re.M), row
