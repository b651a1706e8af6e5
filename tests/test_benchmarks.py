"""The benchmarks run and agree with their references; docs/performance.md has the figures of the recorded files."""

import csv
import importlib
import json
import re
import statistics
import subprocess
import sys

import pytest
import torch
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
    words = ["--sizes", "400", "200", "--stages", "split", "composing, by rounds", "--json", str(file)]
    done = command("benchmarks/growth.py", *words)
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert content["hardware"]["cores"] > 0
    assert list(content["stages"]) == ["split", "composing, by rounds"]
    for found in content["stages"].values():
        assert list(found) == ["sizes", "seconds", "bytes", "time_exponent", "memory_exponent"]
        assert found["sizes"] == [200, 400]
        assert min(found["seconds"]) > 0


def test_every_stage_of_the_growth_runs_and_exponents_are_slopes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    growth = importlib.import_module("growth")
    for stage in growth.STAGES.values():
        stage.prepare(growth.AXES[stage.grows].few)()
    assert {stage.grows for stage in growth.STAGES.values()} == {"pictures", "classes", "rounds", "steps"}
    assert growth.exponent([10, 40, 20], [5.0, 80.0, 20.0]) == pytest.approx(2.0)


def test_step_writes_the_share_of_each_part_and_of_the_floor(command, tmp_path):
    file = tmp_path / "step.json"
    words = ["--steps", "2", "--warm-up", "1", "--batch", "4", "--trainings", "student on mixed views", "teacher"]
    done = command("benchmarks/step.py", *SMALL, *words, "--json", str(file))
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert (content["hardware"]["batch"], content["hardware"]["precision"]) == (4, "32-true")
    assert [case["training"] for case in content["cases"]] == ["student on mixed views", "teacher"]
    for case in content["cases"]:
        parts = case["parts"]
        assert list(parts) == ["draw", "transfer", "compose", "augment", "forward", "backward", "optimiser", "rest"]
        assert min(parts.values()) > 0  # each was found in the training
        assert sum(parts.values()) == pytest.approx(1)
        assert case["data_share"] == pytest.approx(sum(list(parts.values())[:4]))
        assert case["share_of_floor"] == pytest.approx(case["floor_milliseconds"] / case["milliseconds"])
        assert case["milliseconds_in_parts"] > 0


def test_what_runs_within_a_part_counts_for_that_alone(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    times = iter([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])
    parts = importlib.import_module("parts").Parts(lambda: next(times))
    with parts.part("forward"), parts.part("augment"):
        pass
    assert parts.seconds == {"rest": 1.0, "forward": 2.0 + 8.0, "augment": 4.0}
    parts.reset()
    assert not parts.seconds


def test_the_script_for_a_gpu_runs_every_part_and_keeps_those_that_are_done(command, tmp_path, monkeypatch, capsys):
    file = tmp_path / "gpu.json"
    done = command("benchmarks/gpu.py", "--smoke", "--json", str(file))
    assert done.returncode == 0, done.stdout
    parts = json.loads(file.read_text())["parts"]
    assert list(parts) == ["step", "distillation", "job", "side by side", "compile=default"]
    assert not [name for name, found in parts.items() if found["error"] or not found["result"]]
    assert parts["step"]["result"]["cases"][0]["share_of_floor"] > 0
    assert parts["distillation"]["result"]["cases"][0]["ratio_median"] > 0
    assert parts["job"]["result"]["stages"]["total"] > 0
    assert list(parts["job"]["result"]["teachers"]) == ["convnet_narrow"]
    assert parts["side by side"]["result"]["same_accuracies"] is True
    assert parts["compile=default"]["result"]["hardware"]["compile"] == "default"


def test_a_part_for_a_gpu_that_fails_or_takes_too_long_leaves_the_others(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")

    def three(folder):
        made = "import json, sys; json.dump([1], open(sys.argv[1], 'w'))"
        return {
            "fails": gpu.Part(60, ["-c", "raise SystemExit('no memory')"], folder / "fails.json"),
            "hangs": gpu.Part(1, ["-c", "import time; time.sleep(600)"], folder / "hangs.json"),
            "works": gpu.Part(60, ["-c", made, str(folder / "works.json")], folder / "works.json"),
        }

    monkeypatch.setattr(gpu, "tiny", three)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--smoke", "--json", str(tmp_path / "gpu.json")])
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # which the script sets: it is taken back
    assert gpu.main() == 1
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert [(found["error"], found["result"]) for found in parts.values()] == [
        ("exit code 1: no memory", None),
        ("it took more than 1 s", None),
        (None, [1]),
    ]


def test_the_parts_for_a_gpu_fit_eight_minutes_and_have_options_that_their_scripts_know(monkeypatch, tmp_path):
    """The last part gets what the others leave."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")
    parts = gpu.parts(tmp_path, tmp_path)
    assert sum(part.seconds for name, part in parts.items() if name != "compile=default") <= gpu.LIMIT
    assert gpu.LIMIT < 480
    for part in parts.values():
        known = (ROOT / "benchmarks" / "measure.py").read_text() + (ROOT / part.words[0]).read_text()
        assert not [word for word in part.words if word.startswith("--") and f'"{word}"' not in known]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_script_says_so_in_one_line(command):
    done = command("benchmarks/gpu.py", "data/cifar10")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no GPU is visible here; --smoke runs every part at a tiny size on the CPU\n"


def test_without_the_folder_of_cifar10_the_script_says_so_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(tmp_path / "gpu.json")])
    assert gpu.main() == 2
    assert capsys.readouterr().err == (
        "error: cifar10=None: give the folder of CIFAR-10 with train/<class>/ and test/<class>/\n"
    )
    assert not (tmp_path / "gpu.json").exists()


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


def test_an_update_is_compared_with_distilling_anew(command, pictures, tmp_path):
    file = tmp_path / "update.json"
    words = ["recipe.teacher.min_steps=1", "recipe.student.steps=2", "labels.proxy_steps=1", "labels.share=0.01"]
    words += ["teachers.margin=-1"]
    done = command("benchmarks/update.py", str(pictures), *words, "--later", "class", "--json", str(file))
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert content["hardware"]["threads"] == 1
    assert content["decibels"][0] > content["decibels"][1] > 10
    before, updated = content["class"]["before"], content["class"]["updated"]
    assert content["anew"]["train_pictures"] == [12, 12, 12]
    assert before["train_pictures"] == [12, 12]
    assert updated["train_pictures"] == [*before["stored"], 12]
    assert len(updated["accuracies"]) == len(content["anew"]["accuracies"]) == 2


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


def _frontier_run(folder, seed, accuracy, steps=10):
    """Write the part of a run's result that the frontier reads."""
    students = [
        {"source": "distilled", "accuracies": [accuracy], "bytes": 900, "seconds": 9.4},
        {"source": "random", "accuracies": [accuracy - 0.1], "bytes": 899, "seconds": 9.4},
        {"source": "real", "accuracies": [0.9], "bytes": 5000, "seconds": 20.0},
    ]
    students = [{"backbone": "convnet_instance", **each} for each in students]
    students.append({"backbone": "convnet", "source": "real", "accuracies": [0.8, 0.9], "bytes": 1, "seconds": 1.0})
    result = {
        "dataset": "cifar10",
        "method": "infer_plus",
        "seed": seed,
        "budget": {"bytes": 1000, "label_share": 0.25, "quality": 40},
        "bytes": {"file": 990 + seed},
        "teachers": {"convnet": {}},
        "recipe": {"steps": steps},
        "images": {"naturals": [3, 4], "views": 50},
        "seconds": {"teachers": 5.0, "assemble": 6.0},
        "students": students,
        "hardware": {"peak_bytes": 77},
    }
    (folder / f"seed{seed}").mkdir(parents=True)
    (folder / f"seed{seed}" / "result.json").write_text(json.dumps(result))


def test_frontier_brings_runs_of_several_days_together(command, tmp_path):
    _frontier_run(tmp_path / "first", 0, 0.7)
    _frontier_run(tmp_path / "later", 0, 0.72)
    _frontier_run(tmp_path / "later", 1, 0.74)
    _frontier_run(tmp_path / "other steps", 0, 0.6, steps=20)
    for name in ("first", "later", "other steps"):
        done = command("benchmarks/frontier.py", str(tmp_path / name), "--to", str(tmp_path / "to"))
        assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "to" / "table.csv").read_text().splitlines()))
    ours = [(row["method"], row["bytes"], row["accuracy"], row["std"], row["seeds"]) for row in rows[:5]]
    assert sorted(ours) == [
        ("infer_plus", "990", "0.6", "0.0", "1"),
        ("infer_plus", "991", "0.73", "0.01414", "2"),
        ("random", "899", "0.5", "0.0", "1"),
        ("random", "899", "0.63", "0.01414", "2"),
        ("real", "5000", "0.9", "0.0", "2"),
    ]
    runs = list(csv.DictReader((tmp_path / "to" / "runs.csv").read_text().splitlines()))
    assert [row["student_s"] for row in runs if row["method"] == "infer_plus"] == ["9"] * 3
    assert (tmp_path / "to" / "frontier.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["distillation", "student"])
def test_the_documented_ratios_are_the_recorded_ones(name):
    text = (ROOT / "docs" / "performance.md").read_text()
    for case in json.loads((RECORDED / f"{name}.json").read_text())["cases"]:
        ratio = f"{case['ratio_median']:.2f} ({case['ratio_min']:.2f} to {case['ratio_max']:.2f})"
        share = f"{100 * case['share_of_floor']:.0f} %"
        assert f"| {case['backbone']} | {ratio} | {share} |" in text


def test_the_documented_updates_are_the_recorded_ones():
    text = (ROOT / "docs" / "results" / "own-pictures.md").read_text()
    content = json.loads((RECORDED / "update.json").read_text())
    assert "going from {:.1f} to {:.1f} dB".format(*content["decibels"]) in " ".join(text.split())
    rows = {"everything at once": content["anew"]}
    for later, name in (("class", "the sixth class"), ("half", "half of the pictures")):
        rows |= {f"without {name}": content[later]["before"], f"{name} by `update`": content[later]["updated"]}
    for name, found in rows.items():
        students = ", ".join(f"{100 * accuracy:.1f}" for accuracy in found["accuracies"])
        counts = f"{sum(found['train_pictures']):,} | {sum(found['stored'])} | {found['bytes']:,}"
        assert f"| {name} | {counts} | {100 * found['teacher']:.1f} | {students} |" in text


def test_the_documented_steps_are_the_recorded_ones():
    text = (ROOT / "docs" / "results" / "speed.md").read_text()
    for case in json.loads((RECORDED / "step.json").read_text())["cases"]:
        seconds = f"{case['milliseconds']:.1f} | {case['floor_milliseconds']:.1f}"
        shares = f"{100 * case['share_of_floor']:.0f} % | {100 * case['data_share']:.1f} %"
        rest = " | ".join(f"{100 * case['parts'][part]:.1f} %" for part in ("forward", "backward", "optimiser", "rest"))
        assert f"| {case['backbone']} | {case['training']} | {seconds} | {shares} | {rest} |" in text


def test_the_documented_exponents_are_the_recorded_ones():
    text = (ROOT / "docs" / "performance.md").read_text()
    for name, found in json.loads((RECORDED / "growth.json").read_text())["stages"].items():
        (row,) = re.findall(rf"^\| {name} \| .*", text, re.MULTILINE)
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        seconds, memory = found["seconds"], [used / 2**20 for used in found["bytes"]]
        assert cells[:3] == [f"{seconds[0]:.3g}", f"{seconds[-1]:.3g}", f"{found['time_exponent']:.2f}"]
        assert cells[3:] == [f"{memory[0]:.0f}", f"{memory[-1]:.0f}", f"{found['memory_exponent']:.2f}"]
