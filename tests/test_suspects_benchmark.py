"""The benchmark of flipped labels runs, and the figures of its page are the recorded ones."""

import json

from conftest import ROOT

RESULTS = ROOT / "docs" / "results"


def test_flipped_labels_are_counted_for_each_network(command, pictures, tmp_path):
    words = [
        "--root",
        str(pictures),
        "--side",
        "16",
        "--channels",
        "1",
        "--share",
        "0.1",
        "--seeds",
        "2",
        "--epochs",
        "1",
    ]
    done = command("benchmarks/suspects.py", *words, "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "found.json").read_text())["cases"]
    assert [case["seed"] for case in cases if case["network"] == "convnet_narrow"] == [0]
    for case in cases:
        assert case["listed"] <= 2  # of 36 pictures
        assert case["top"] * 4 in range(5)  # of 4 flipped labels


def test_the_figures_of_the_page_are_the_recorded_ones():
    text = (RESULTS / "suspects.md").read_text()
    for name in ("neu-steel", "cifar10"):
        content = json.loads((RESULTS / "suspects" / f"{name}.json").read_text())
        assert content["hardware"]["date"] in text
        for network in {case["network"] for case in content["cases"]}:
            own = [case for case in content["cases"] if case["network"] == network]
            found = ", ".join(f"{100 * case['top']:.1f}" for case in own)
            listed = ", ".join(str(case["listed"]) for case in own)
            assert f"| {found} | {listed} |" in text
            assert all(case["precision"] == case["recall"] == case["top"] for case in own)
