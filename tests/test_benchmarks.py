"""The benchmarks run, agree with their references, and docs/benchmarks.md says what their files say."""

import json

import pytest
from conftest import ROOT

RECORDED = ROOT / "docs" / "benchmarks"
KEYS = {
    "backbone",
    "classes",
    "groups",
    "ratio_median",
    "ratio_min",
    "ratio_max",
    "share_of_floor",
    "loss_reference",
    "loss_ours",
}
SMALL = ["--backbones", "convnet_narrow", "--side", "8", "--classes", "3", "--turns", "1", "--device", "cpu"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("distillation", ["--rounds", "3", "--steps", "4"]),
        ("student", ["--rounds", "2", "--steps", "4", "--seconds", "0.1", "--workers", "0"]),
    ],
)
def test_a_benchmark_writes_what_it_measured(command, tmp_path, script, words):
    file = tmp_path / "figures.json"
    done = command(f"benchmarks/{script}.py", *SMALL, *words, "--json", str(file))
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert content["hardware"]["threads"] > 0
    (case,) = content["cases"]
    assert set(case) >= KEYS
    assert 0 < case["ratio_min"] <= case["ratio_median"] <= case["ratio_max"]
    assert case["share_of_floor"] > 0
    if script == "distillation":  # the same draws: the same loss
        assert case["loss_ours"] == pytest.approx(case["loss_reference"], rel=1e-3)


@pytest.mark.parametrize("name", ["distillation", "student"])
def test_the_documented_ratios_are_the_recorded_ones(name):
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for case in json.loads((RECORDED / f"{name}.json").read_text())["cases"]:
        ratio = f"{case['ratio_median']:.2f} ({case['ratio_min']:.2f} to {case['ratio_max']:.2f})"
        share = f"{100 * case['share_of_floor']:.0f} %"
        assert f"| {case['backbone']} | {ratio} | {share} |" in text
