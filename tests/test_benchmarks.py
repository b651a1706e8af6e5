"""The benchmarks run and agree with their references; docs/performance.md has the figures of the recorded files."""

import csv
import importlib
import json
import re
import statistics
import subprocess
import sys

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
def test_a_benchmark_writes_its_measurements(command, tmp_path, script, words):
    file = tmp_path / "figures.json"
    done = command(f"benchmarks/{script}.py", *SMALL, *words, "--json", str(file))
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert content["hardware"]["threads"] > 0
    (case,) = content["cases"]
    assert set(case) >= KEYS
    assert 0 < case["ratio_min"] <= case["ratio_median"] <= case["ratio_max"]
    assert case["share_of_floor"] > 0
    if script == "distillation":  # both use the same random draws
        assert case["loss_ours"] == pytest.approx(case["loss_reference"], rel=1e-3)


def test_a_system_that_does_not_tell_its_peak_memory_is_told(monkeypatch, tmp_path, capsys):
    """As Windows, which has no module resource."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setitem(sys.modules, "resource", None)
    scaling = importlib.import_module("scaling")
    line = ("convnet_narrow", 8, 1, 1, 3, 3, 1)
    found = scaling.measure_line(*line, device="cpu")
    assert found["memory_mib"] is None
    assert found["seconds"] > 0
    monkeypatch.setattr(scaling, "LINES", {"time": [line]})
    done = subprocess.CompletedProcess([], 0, stdout=json.dumps(found))
    monkeypatch.setattr(scaling.subprocess, "run", lambda *words, **options: done)
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--device", "cpu", "--json", str(tmp_path / "found.json")])
    scaling.main()
    assert "does not tell the peak of the memory; memory_mib is null" in capsys.readouterr().err
    assert json.loads((tmp_path / "found.json").read_text())["cases"][0]["memory_mib"] is None


def test_growth_writes_seconds_bytes_and_exponents_of_each_stage(command, tmp_path):
    file = tmp_path / "growth.json"
    words = ["--sizes", "400", "200", "--stages", "split", "labels of mixed views", "--json", str(file)]
    done = command("benchmarks/growth.py", *words)
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert content["hardware"]["cores"] > 0
    assert list(content["stages"]) == ["split", "labels of mixed views"]
    for found in content["stages"].values():
        assert list(found) == ["sizes", "seconds", "bytes", "time_exponent", "memory_exponent"]
        assert found["sizes"] == [200, 400]
        assert min(found["seconds"]) > 0


def test_every_stage_of_the_growth_runs_and_exponents_are_slopes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    growth = importlib.import_module("growth")
    for prepare in growth.STAGES.values():
        prepare(200)()
    assert growth.exponent([10, 40, 20], [5.0, 80.0, 20.0]) == pytest.approx(2.0)


def test_jobs_writes_ratios_and_whether_accuracies_are_the_same(command, tmp_path):
    file = tmp_path / "jobs.json"
    words = ["dataset=digits", "recipe=digits", "ipc=5", "students.seeds=1", "students.sources=[distilled]"]
    words += ["recipe.teacher.epochs=1", "recipe.ufc.steps=3", "recipe.student.steps=3", "teachers.margin=-1"]
    words += ["teachers.backbones=[convnet_narrow,convnet_deep]"]
    done = command("benchmarks/jobs.py", *words, "--turns", "1", "--jobs", "2", "--threads", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert content["hardware"]["threads"] > 0
    assert (content["jobs"], content["same_accuracies"]) == (2, True)
    for found in (content, content["against_all_threads"]):
        assert 0 < found["ratio_min"] == found["ratio_median"] == found["ratio_max"]
    assert {kind: len(seconds) for kind, seconds in content["seconds"].items()} == {
        "one by one": 1,
        "side by side": 1,
        "all threads": 1,
    }


def test_gains_are_paired_differences_against_classes_per_teacher(command, tmp_path):
    files = []
    for seed, (ours, theirs) in enumerate([([0.5, 0.6], [0.4, 0.6]), ([0.7, 0.7], [0.5, 0.5])]):
        rows = [
            {"backbone": "net", "source": source, "accuracy_mean": statistics.fmean(found)}
            for source, found in (("random", theirs), ("distilled", ours), ("random_images", [0.5, 0.5]))
        ]
        content = {"dataset": "set", "ipc": 5, "classes": 20, "teachers": {"a": {}, "b": {}}, "students": rows}
        files.append(tmp_path / f"seed{seed}" / "result.json")
        files[-1].parent.mkdir()
        files[-1].write_text(json.dumps(content))
        files[-1].with_name("settings.json").write_text(json.dumps({"seed": seed, "steps": 3}))
    done = command("benchmarks/gain.py", *map(str, files), "--to", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "set, ipc 5, C/M 10.0, as many bytes: +12.5 ± 95.3" in done.stdout
    assert "set, ipc 5, C/M 10.0, as many images: +12.5 ± 95.3" in done.stdout
    with (tmp_path / "out" / "gain.csv").open() as table:
        of_images, point = csv.DictReader(table)
    assert (of_images["rival"], point["rival"]) == ("random_images", "random")
    half = 12.706 * statistics.stdev([0.05, 0.2]) / 2**0.5  # Student's t, 1 degree of freedom, 97.5 %
    assert (float(point["gain"]), float(point["half"])) == pytest.approx((0.125, half), rel=1e-3)
    assert (tmp_path / "out" / "gain.png").read_bytes().startswith(b"\x89PNG")
    single = tmp_path / "single" / "result.json"  # another number of teachers gives another point, with a larger C/M
    single.parent.mkdir()
    single.write_text(json.dumps({**json.loads(files[0].read_text()), "teachers": {"a": {}}}))
    single.with_name("settings.json").write_text(json.dumps({"seed": 0, "steps": 3, "teachers": 1}))
    done = command("benchmarks/gain.py", str(single), *map(str, files), "--to", str(tmp_path / "out"))
    assert re.findall("C/M (.*), as many images", done.stdout) == ["10.0", "20.0"]
    files[1].with_name("settings.json").write_text(json.dumps({"seed": 1, "steps": 4}))
    done = command("benchmarks/gain.py", *map(str, files), "--to", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr == "error: set, ipc 5: runs of different settings; name the files of one command\n"


@pytest.mark.parametrize("name", ["distillation", "student"])
def test_the_documented_ratios_are_the_recorded_ones(name):
    text = (ROOT / "docs" / "performance.md").read_text()
    for case in json.loads((RECORDED / f"{name}.json").read_text())["cases"]:
        ratio = f"{case['ratio_median']:.2f} ({case['ratio_min']:.2f} to {case['ratio_max']:.2f})"
        share = f"{100 * case['share_of_floor']:.0f} %"
        assert f"| {case['backbone']} | {ratio} | {share} |" in text


def test_the_documented_exponents_are_the_recorded_ones():
    text = (ROOT / "docs" / "performance.md").read_text()
    for name, found in json.loads((RECORDED / "growth.json").read_text())["stages"].items():
        (row,) = re.findall(rf"^\| {name} \| .*", text, re.MULTILINE)
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        seconds, memory = found["seconds"], [used / 2**20 for used in found["bytes"]]
        assert cells[:3] == [f"{seconds[0]:.3g}", f"{seconds[-1]:.3g}", f"{found['time_exponent']:.2f}"]
        assert cells[3:] == [f"{memory[0]:.0f}", f"{memory[-1]:.0f}", f"{found['memory_exponent']:.2f}"]
