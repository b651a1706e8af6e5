"""The two commands, as people run them: real processes, real kills, real files."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ROOT, TINY
from safetensors.torch import load_file

import infer
from infer.assemble import Assembly
from infer.methods import infer_plus
from infer.runs import distill, train
from infer.schema import SOURCES
from infer.ufc import normalise

KEYS = {
    "bytes": {"natural", "compensators", "labels", "header", "total", "budget", "file", "real"},
    "images": {"natural_per_class", "compensators", "composed_per_class"},
    "seconds": {"teachers", "distill", "assemble", "students", "total"},
}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("distilled.safetensors"))


def test_a_run_from_pictures_to_the_table(command, tmp_path):
    """The README's first command, in small: the file, the figures, the pictures, and the promise about bytes."""
    done = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5")
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    folder = tmp_path / "distill" / "digits" / "infer-ipc5" / "seed0"
    result = json.loads((folder / "result.json").read_text())
    for key, parts in KEYS.items():
        assert parts <= set(result[key])
    assert {row["source"] for row in result["students"]} == {"distilled", "random", "random_hard", "real"}
    assert all(row["seeds"] == 2 and 0 <= row["accuracy_mean"] <= 1 for row in result["students"])
    sizes = result["bytes"]
    assert sizes["file"] == (folder / "distilled.safetensors").stat().st_size
    assert sizes["header"] == 8 + int.from_bytes((folder / "distilled.safetensors").read_bytes()[:8], "little")
    stored = sizes["natural"] + sizes["compensators"] + sizes["labels"]
    assert sizes["file"] - sizes["header"] <= 1.01 * stored
    assert sizes["natural"] + sizes["compensators"] <= sizes["budget"]
    for row in result["students"][:3]:
        assert row["bytes"] <= stored
    assert all(row["bytes"] > 0.98 * stored for row in result["students"][1:3])  # rivals get the same bytes
    made = infer.load(folder / "distilled.safetensors")
    assert len(made) == 10 * (result["images"]["natural_per_class"] + result["images"]["composed_per_class"])
    assert {p.name for p in (folder / "images").iterdir()} == {
        "naturals.png",
        "compensators.png",
        "composed.png",
        "round0.png",
    }
    assert "distill/convnet_narrow/loss" in (folder / "metrics.csv").read_text()
    assert not list(tmp_path.rglob("*.ckpt"))

    again = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5")
    assert again.returncode == 0
    assert "finished before" in again.stdout
    other = command("distill.py", f"output={tmp_path}", *TINY, "ipc=5", "recipe.ufc.steps=21")
    assert "finished before" not in other.stdout
    assert len(files(tmp_path)) == 2  # a distinct folder, nothing overwritten


def test_rows_come_to_a_finished_table_and_none_is_trained_again(config, tmp_path):
    words = ["ipc=5", "students.seeds=1"]
    before = distill(config("distill", *words, "students.sources=[random,distilled]"))
    file = files(tmp_path)[0]
    written = file.stat().st_mtime_ns
    shutil.rmtree(file.parent / "students")  # so that no student could be told from the first time
    after = distill(config("distill", *words, "students.sources=[distilled,distilled_hard,random_hard]"))
    assert [row["source"] for row in after["students"]] == ["distilled", "distilled_hard", "random", "random_hard"]
    assert [row for row in after["students"] if row in before["students"]] == before["students"]
    assert {key: after[key] for key in ("bytes", "images", "teachers")} == {
        key: before[key] for key in ("bytes", "images", "teachers")
    }
    assert files(tmp_path) == [file]
    assert file.stat().st_mtime_ns == written
    shown = distill(config("distill", *words, "students.sources=[distilled]"))
    assert shown == after
    plain = distill(config("distill", *words, "students.sources=[distilled_plain,random_plain,real]"))
    sources = [row["source"] for row in plain["students"]]
    assert sources == [s for s in SOURCES if s != "random_static"]  # labels are static: that row is random's
    assert {"label_robust", "augmentation_robust"} <= set(plain["scores"]["convnet_narrow"])


def test_a_killed_run_goes_on_and_ends_with_the_same_file(tmp_path):
    longer = [
        *TINY,
        "recipe.ufc.steps=400",
        "recipe.student.steps=400",
        "students.seeds=1",
        "ipc=5",
        "distill.rounds=4",
    ]

    def start(output: str) -> subprocess.Popen:
        words = [sys.executable, "distill.py", f"output={tmp_path / output}", *longer]
        return subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background job, and so whatever tests in one, ignores SIGINT; a child inherits that.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    stages = {"teacher.ckpt": signal.SIGINT, "compensators-*.ckpt": signal.SIGKILL, "student.ckpt": signal.SIGKILL}
    for stage, ending in stages.items():
        broken = start("broken")
        deadline = time.time() + 120
        while not list((tmp_path / "broken").rglob(stage)):
            assert broken.poll() is None, broken.communicate()[0]
            assert time.time() < deadline
            time.sleep(0.005)
        os.kill(broken.pid, ending)
        said = broken.communicate()[0]
        assert ending == signal.SIGKILL or "the same command goes on" in said
    for output in ("broken", "whole"):
        said = (run := start(output)).communicate()[0]
        assert run.returncode == 0, said
    broken_file, whole_file = files(tmp_path / "broken")[0], files(tmp_path / "whole")[0]
    assert broken_file.read_bytes() == whole_file.read_bytes()
    results = [json.loads((file.parent / "result.json").read_text()) for file in (broken_file, whole_file)]
    for first, second in zip(*(result["students"] for result in results), strict=True):
        assert first["accuracy_mean"] == second["accuracy_mean"]


TWO = {
    "ddp": ["distill.py", "trainer=ddp"],
    "cluster": [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "distill.py",
        "trainer=cluster",
    ],
}
"""Processes that the command spawns, and those that a launcher starts, as on several nodes."""


@pytest.fixture(scope="module")
def one_process(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("one")
    words = [
        "distill.py",
        f"output={output}",
        *TINY,
        "students.sources=[distilled,random,random_hard]",
        "students.seeds=1",
        "ipc=6",
    ]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    return output


@pytest.mark.parametrize("launch", TWO)
def test_two_processes_make_the_same_file_and_train_students(command, tmp_path, one_process, launch):
    """From the same teacher; what else there is, is made by two processes."""
    where = Path("train", "digits", "convnet_narrow", "seed0")
    for name in ("teacher.safetensors", "settings.json", "result.json"):
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        shutil.copy(one_process / where / name, tmp_path / where / name)
    words = [word for word in TINY if not word.startswith("trainer")]
    words += ["trainer.accelerator=cpu", "students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=6"]
    done = command(*TWO[launch], f"output={tmp_path}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("random naturals, the same kind of labels") == 1  # one process speaks
    one, two = (load_file(files(folder)[0]) for folder in (one_process, tmp_path))
    assert one["compensators"].abs().max() > 10
    gap = (one["compensators"].int() - two["compensators"].int()).abs().max()
    assert int(gap) <= 1
    assert torch.equal(one["naturals"], two["naturals"])
    torch.testing.assert_close(one["labels"], two["labels"], rtol=0.05, atol=0.05)
    results = [
        json.loads(next(folder.glob("distill/*/*/*/result.json")).read_text()) for folder in (one_process, tmp_path)
    ]
    for alone, shared in zip(*(result["students"] for result in results), strict=True):
        assert (alone["source"], alone["steps"]) == (shared["source"], shared["steps"])
        assert shared["accuracy_mean"] > 0.15  # chance is 0.1


def test_two_processes_train_a_teacher(command, tmp_path):
    words = [word for word in TINY if not word.startswith("trainer")]
    words += ["trainer.accelerator=cpu", "recipe.teacher.epochs=8"]
    launcher = [word.replace("distill.py", "train.py") for word in TWO["cluster"]]
    done = command(*launcher, f"output={tmp_path}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "train/digits/convnet_narrow/seed0/result.json").read_text())
    assert result["accuracy"] > 0.9
    with (tmp_path / "train/digits/convnet_narrow/seed0/metrics.csv").open() as table:
        steps = [int(row["step"]) for row in csv.DictReader(table)]
    assert steps == sorted(set(steps))  # one process writes


def test_a_process_that_dies_ends_the_run_and_the_next_start_goes_on(tmp_path):
    words = [word for word in TINY if not word.startswith("trainer")]
    words += [
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "recipe.ufc.steps=3000",
        "students.sources=[distilled,random,random_hard]",
        "ipc=5",
    ]
    words = [sys.executable, "distill.py", f"output={tmp_path}", *words]
    running = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 240
    while not list(tmp_path.rglob("compensators-*.ckpt")):
        assert running.poll() is None, running.communicate()[1]
        assert time.time() < deadline
        time.sleep(0.05)
    workers = psutil.Process(running.pid).children(recursive=True)
    victim = max((child for child in workers if "spawn_main" in " ".join(child.cmdline())), key=lambda c: c.pid)
    victim.kill()
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 2
    error = next(line for line in said.splitlines() if line.startswith("error: "))
    assert "one of 2 processes ended" in error
    assert "the same command goes on" in error
    (checkpoint,) = tmp_path.rglob("compensators-*.ckpt")
    reached = torch.load(checkpoint, weights_only=True)["global_step"]
    assert reached >= 150
    again = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while (now := torch.load(checkpoint, weights_only=True)["global_step"]) == reached:
            assert again.poll() is None
            assert time.time() < deadline
            time.sleep(0.05)
        assert now == reached + 150  # the next checkpoint, not the first of a new start
    finally:
        for process in (*psutil.Process(again.pid).children(recursive=True), again):
            process.kill()
        again.wait()


def test_passes_are_measured_once_and_kept(config, caplog, tmp_path):
    words = ["students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=4"]
    with caplog.at_level("INFO", logger="infer"):
        distill(config("distill", *words))
        (kept,) = tmp_path.rglob("passes-*.json")
        content = json.loads(kept.read_text())
        assert content["measured_on"]["shape"] == [3, 10, 1, 8, 8]
        content["rounds"], content["classes"] = 1, 7  # what no measurement gives here
        kept.write_text(json.dumps(content))
        caplog.clear()
        distill(config("distill", *words, "recipe.ufc.lr=0.2"))
    assert "3 rounds of 10 images, 1 rounds of 7 a pass" in caplog.text
    distill(config("distill", *words, "recipe.ufc.lr=0.2", "distill.chunk=4"))  # other passes, the same run
    assert len(files(tmp_path)) == 2


def test_labels_mixing_and_budget_are_options(config):
    results = {}
    for name, overrides in {
        "static": [],
        "probabilities": ["labels.space=probabilities", "mixing=cutmix"],
        "dynamic": ["labels=dynamic", "mixing.natural_ratio=0.5"],
        "hard": ["labels=hard", "mixing=none"],
        "filled": ["budget=filled"],
        "random": ["method=random"],
    }.items():
        results[name] = distill(
            config(
                "distill", "students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=3", *overrides
            )
        )
    assert [row["source"] for row in results["hard"]["students"]] == ["distilled", "random"]
    sizes = {name: result["bytes"] for name, result in results.items()}
    images = {name: size["natural"] + size["compensators"] for name, size in sizes.items()}
    assert images["filled"] == images["random"] == sizes["filled"]["budget"] > images["static"]
    assert sizes["dynamic"]["labels"] > 50_000  # the teacher itself
    assert sizes["hard"]["labels"] < 30
    assert results["random"]["images"]["compensators"] == 0
    assert results["dynamic"]["students"][0]["steps"] == 10  # M + 1 times fewer


@pytest.mark.parametrize("method", ["infer_plus", "random", "herding", "k_center", "rded", "sre2l"])
def test_every_method_keeps_to_the_bytes(config, tmp_path, method):
    """A budget in bytes holds for the file as it lies on disk, and the rival has as many."""
    # JPEG, whose blocks are these tiles: AVIF's size jumps by a quarter where a further column of them crosses a block.
    words = [f"method={method}", "budget=coded", "budget.codec=jpeg", "labels=views", "labels.share=0.1", "ipc=20"]
    words += ["students.seeds=1", "labels.candidates=1", "labels.scout=20"]
    words += ["method.options.steps=20"] if method == "sre2l" else []
    result = distill(config("distill", *words, "students.sources=[distilled,random]"))
    (file,) = files(tmp_path)
    assert 0.95 * result["bytes"]["budget"] < file.stat().st_size == result["bytes"]["file"]
    assert result["bytes"]["file"] <= result["bytes"]["budget"] == 20 * 10 * 64
    ours, rival = result["students"]
    assert 0.97 * ours["bytes"] < rival["bytes"] <= ours["bytes"]
    made = infer.load(file)
    assert len(made) == made.views.count == result["images"]["views"] == 128
    assert len(made.naturals) > 40
    assert made.label_bytes == 128 * 10
    assert made.payload + result["bytes"]["header"] == result["bytes"]["file"]
    assert {path.name for path in (file.parent / "images").iterdir()} == {"naturals.png", "views.png"}
    image, label = made[5]
    assert image.shape == (1, 8, 8)
    assert label.sum().item() == pytest.approx(1)


def test_chosen_views_and_compensators_of_coded_naturals(config, tmp_path):
    words = ["students.seeds=1", "students.sources=[distilled]", "ipc=20", "budget=coded"]
    distill(config("distill", *words, "labels=views", "labels.candidates=4", "labels.scout=20"))
    (file,) = files(tmp_path)
    made = infer.load(file)
    assert made.choices.unique().tolist() == [0, 1, 2, 3]
    assert not list(tmp_path.rglob("*.ckpt"))
    assert made.label_bytes == 128 * 10 + 32
    assert len(made.compensators) == len(made.naturals) // 10 > 0
    assert made.views.pool == made.pool == len(made.naturals) + 10 * len(made.compensators)
    assert file.stat().st_size <= 20 * 10 * 64
    made.export(tmp_path / "out")
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8") as table:
        assert {row["kind"] for row in csv.DictReader(table)} == {"view"}
    content = bytearray(file.read_bytes())
    start = content.index(b"ftypavif")
    content[start : start + 400] = bytes(400)
    file.write_bytes(content)
    with pytest.raises(infer.UserError, match="cannot be decoded"):
        infer.load(file)


def test_of_every_view_the_candidate_is_kept_that_tells_most(config, tmp_path, monkeypatch):
    def brightness(_, images: torch.Tensor) -> torch.Tensor:  # stands for the scout, whose weights no file keeps
        return images.float().mean(dim=(1, 2, 3))

    monkeypatch.setattr(Assembly, "_telling", brightness)
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled,random]", "ipc=20"]
    ours, rival = distill(config("distill", *words))["students"]
    assert rival["bytes"] == pytest.approx(ours["bytes"], rel=0.03)
    made = infer.load(files(tmp_path)[0])
    told = []
    for number in range(4):
        candidates = replace(made, choices=torch.full((made.views.count,), number))
        told.append(brightness(None, candidates.images(torch.arange(len(made)))))
    assert made.choices.tolist() == torch.stack(told).argmax(dim=0).tolist()


def test_what_tells_is_measured_on_the_scout_as_it_will_be_tested(config, tmp_path, monkeypatch):
    seen = []

    def spied(assembly: Assembly, images: torch.Tensor) -> torch.Tensor:
        found = measure(assembly, images)
        if not seen:
            assert not assembly._scout.training
            inputs = normalise(images, *assembly.bench.data.moments)
            with torch.no_grad():
                teachers = torch.stack([teacher.network(inputs) for teacher in assembly.teachers])
                expected = infer_plus.telling(assembly._scout.network(inputs), teachers, 4.0)
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
            seen.append(len(images))
        return found

    measure = Assembly._telling
    monkeypatch.setattr(Assembly, "_telling", spied)
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled]", "ipc=20", "labels.scout=20"]
    distill(config("distill", *words, "recipe.student.temperature=4"))
    assert seen[0] > 100  # pictures of a whole class
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_file_of_chosen_views_keeps_to_the_bytes(config, tmp_path):
    words = ["method=infer_plus", "students.seeds=1", "students.sources=[distilled]", "labels.scout=20", "budget=raw"]
    for ipc in (12, 13):
        sizes = distill(config("distill", *words, f"ipc={ipc}"))["bytes"]
        assert sizes["budget"] - 300 < sizes["file"] <= sizes["budget"] == ipc * 640


def test_the_budget_is_chosen_on_held_out_pictures_once(config, tmp_path, caplog):
    words = ["method=random", "budget=auto", "labels=views", "students.seeds=1", "students.sources=[distilled]"]
    words += ["budget.choices={labels.share:[0.02,0.2],budget.quality:[40,60]}", "ipc=20"]
    result = distill(config("distill", *words))
    assert len(result["choices"]) == 4
    best = max(result["choices"], key=lambda choice: choice["accuracy"])
    assert result["budget"]["quality"] == best["budget.quality"]
    assert result["budget"]["label_share"] == best["labels.share"]
    with caplog.at_level("INFO", logger="infer"):
        again = distill(config("distill", *words, "seed=1"))
    assert again["choices"] == result["choices"]
    assert "of the held-out pictures" not in caplog.text  # found, not measured anew
    assert infer.load(files(tmp_path)[0]).views.count == round(best["labels.share"] * 20 * 64)


def test_a_sweep_ends_with_a_table_and_a_plot(command, tmp_path):
    words = ["distill.py", "-m", f"output={tmp_path}", *TINY, "method=random,herding", "ipc=1,2", "students.seeds=1"]
    done = command(*words, "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert "against random" in done.stdout
    (table,) = tmp_path.glob("sweeps/*/table.csv")
    with table.open() as content:
        rows = list(csv.DictReader(content))
    distilled = [row for row in rows if row["source"] == "distilled"]
    assert [(row["setting"], row["ipc"]) for row in distilled] == [
        (f"method={name}", ipc) for name in ("random", "herding") for ipc in "12"
    ]
    assert all(row["students"] == row["pairs"] == "2" for row in distilled)
    assert all(float(row["against_random"]) == 0 for row in distilled[:2])  # it is that very set
    assert (table.parent / "digits-convnet_narrow.png").exists()


def test_students_of_a_file_and_the_baseline(config, tmp_path):
    result = distill(config("distill", "ipc=4"))
    (file,) = files(tmp_path)
    teacher = train(config("train", "backbone=convnet_narrow"))
    assert teacher["accuracy"] == result["teachers"]["convnet_narrow"]["accuracy"]  # the very one, not another
    student = train(config("train", "source=distilled", f"source.path={file}", "backbone=convnet_narrow"))
    assert student["steps"] == 20
    assert student["accuracy"] in [row["accuracy"] for row in seeds(file.parent, "convnet_narrow-distilled")]
    for labels in ("static", "hard"):
        assert train(config("train", "source=random", "ipc=4", f"labels={labels}"))["accuracy"] > 0
    distill(
        config(
            "distill", "ipc=4", "labels=dynamic", "students.seeds=1", "students.sources=[distilled,random,random_hard]"
        )
    )
    (dynamic,) = (path for path in files(tmp_path) if path != file)
    assert train(config("train", "source=distilled", f"source.path={dynamic}"))["steps"] == 10
    for path in tmp_path.rglob("teacher.safetensors"):
        path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(infer.UserError, match=r"the teacher convnet_narrow .* is missing or another"):
        train(config("train", "source=distilled", f"source.path={dynamic}", "seed=1"))
    other = config("train", "dataset=image_folder", "dataset.root=x", "source=distilled", f"source.path={file}")
    with pytest.raises(infer.UserError, match="no such folder"):
        train(other)


def seeds(folder: Path, student: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((folder / "students" / student).rglob("result.json"))]


def test_own_pictures(config, pictures, tmp_path):
    words = ["dataset=image_folder", f"dataset.root={pictures}", "dataset.name=stripes", "dataset.image_size=16"]
    result = distill(config("distill", *words, "recipe.teacher.batch=12", "recipe.teacher.epochs=20", "ipc=2"))
    assert result["bytes"]["real"] == 36 * 3 * 16 * 16
    (file,) = files(tmp_path)
    assert infer.load(file).header.classes == ["flat", "kuro 黒", "ridge"]
    with pytest.raises(infer.UserError, match=r"holds 3 classes of images .* dataset=digits has 10 classes"):
        train(config("train", "source=distilled", f"source.path={file}"))
    with pytest.raises(infer.UserError, match=r"ipc: the split needs 15 train .* flat has 12, kuro 黒 has 12"):
        distill(config("distill", *words, "ipc=20"))


def test_wandb_works_offline_without_an_account_and_tensorboard_beside_it(command, tmp_path):
    words = [
        "logger=[wandb,tensorboard]",
        "students.sources=[distilled,random,random_hard]",
        "students.seeds=1",
        "ipc=3",
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = command("distill.py", f"output={tmp_path}", *TINY, *words, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("offline-run-*/*.wandb"))
    assert list(tmp_path.rglob("events.out.tfevents*"))
    assert list(tmp_path.rglob("metrics.csv"))


def test_multirun_makes_a_run_for_every_combination_that_can_be_made(command, tmp_path):
    done = command(
        "distill.py",
        "-m",
        f"output={tmp_path}",
        *TINY,
        "ipc=1,3,5",
        "students.sources=[distilled,random,random_hard]",
        "students.seeds=1",
    )
    assert done.returncode == 1
    failed, summary = done.stderr.splitlines()[-2:]
    assert failed.startswith("failed: ipc=1: ipc=1: too small")
    assert summary.startswith("error: 1 of 3 jobs failed")
    (table,) = tmp_path.glob("sweeps/*/table.csv")
    with table.open() as content:
        assert {row["ipc"] for row in csv.DictReader(content)} == {"3", "5"}  # the others went on
    assert [path.parts[-3] for path in files(tmp_path)] == ["infer-ipc3", "infer-ipc5"]
    assert len(list((tmp_path / "train").rglob("teacher.safetensors"))) == 1  # shared


def test_a_job_that_breaks_stops_no_other(command, tmp_path):
    script = tmp_path / "distill.py"
    script.write_text(
        "from infer.cli import command\n"
        "def task(config):\n"
        "    if config.seed == 1:\n"
        "        raise RuntimeError('no such luck')\n"
        "    print('went through', config.seed)\n"
        "command('distill', task)\n"
    )
    done = command(str(script), "-m", f"output={tmp_path}", "seed=0,1,2")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "went" in line] == ["went through 0", "went through 2"]
    assert "Traceback" in done.stdout + done.stderr  # what broke is no user's mistake
    assert done.stderr.splitlines()[-2:] == [
        "failed: seed=1: RuntimeError: no such luck",
        "error: 1 of 3 jobs failed; the same command tries these again",
    ]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["dataset=foo"], "dataset=foo: unknown; choose one of cifar10, cifar100, digits"),
        (["labels=foo"], "labels=foo: unknown; choose one of dynamic, hard, static"),
        (["typo=3"], "typo=3: unknown; choose one of budget, dataset, distill, ipc"),
        (["recipe.student.stpes=4"], "recipe.student.stpes=4: unknown; did you mean recipe.student.steps "),
        (["method=infer_plus", "method.options.easiest=2"], "method.options.easiest=2: must lie between 0 and 1"),
        (["method=rded", "method.options.crops=few"], "method.options.crops=few: must be a number"),
        (
            ["students.sources=[random_static]"],
            "students.sources=['random_static']: no row of its own with labels=static",
        ),
        (["ipc=ten"], "ipc=ten: Value 'ten' of type 'str' could not be converted to Integer"),
        (["ipc=0"], "ipc=0: must lie between 1 and"),
        (["dataset=image_folder"], "dataset.root: has no value; give dataset.root=<value>"),
        (["mixing.kind=mixip"], "mixing.kind=mixip: unknown; did you mean mixup? choose"),
        (["recipe.student.steps=5", "recipe.student.epochs=5"], "give one of them"),
        (["ipc=["], "no viable alternative"),
        (["teachers.backbones=[]"], "give one or more backbones"),
        (["dataset.name=a/b"], "no slash"),
        (["students.backbones=[]"], "students.backbones=[]: give one or more"),
        (["recipe.ufc.lr=-1"], "recipe.ufc.lr=-1.0: must lie between"),
        (["dataset=image_folder", "dataset.root=null"], "dataset.root=null: give the folder"),
        (["logger=[wandb,typo]"], "logger=typo: unknown; choose one of csv, tensorboard, wandb"),
        (["trainer.strategy=fsdp"], "trainer.strategy=fsdp: unknown; choose one of auto, ddp, ddp_spawn"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_and_makes_nothing(command, tmp_path, overrides, says):
    done = command("distill.py", f"output={tmp_path / 'out'}", *overrides)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert not (tmp_path / "out").exists()


def test_a_streamed_picture_that_cannot_be_read_is_one_line(command, pictures, tmp_path):
    """Met by a worker in the middle of a teacher's training."""
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    victim = root / "train" / "flat" / "0.png"
    victim.write_bytes(victim.read_bytes()[:50])
    words = [f"dataset.root={root}", "dataset=image_folder", "dataset.image_size=16", "dataset.stream=true"]
    words += ["dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.2,0.2,0.2]", "trainer=cpu", f"output={tmp_path / 'out'}"]
    done = command("train.py", *words)
    assert done.returncode == 2
    assert done.stderr == f"error: {victim}: cannot be read as a picture; mend it or take it away\n"


def test_streamed_pictures_give_what_those_in_memory_give(config, pictures):
    words = ["dataset=image_folder", f"dataset.root={pictures}", "dataset.image_size=16", "ipc=2"]
    words += ["recipe.teacher.batch=12", "recipe.teacher.epochs=20", "students.seeds=1", "distill.rounds=1"]
    kept, streamed = (
        distill(config("distill", *words, f"dataset.name={stream}", f"dataset.stream={stream}"))
        for stream in ("false", "true")
    )
    assert kept["teachers"]["convnet_narrow"]["accuracy"] == streamed["teachers"]["convnet_narrow"]["accuracy"]
    for one, other in zip(kept["students"], streamed["students"], strict=True):
        assert one["accuracy_mean"] == other["accuracy_mean"]


def test_a_sweep_with_a_mistake_runs_nothing(command, tmp_path):
    done = command("distill.py", "-m", "output=/dev/null/x")
    assert done.returncode == 2
    assert done.stderr == "error: [Errno 20] Not a directory: '/dev/null/x/sweeps'\n"
    done = command("distill.py", "-m", f"output={tmp_path}", "ipc=3,ten")
    assert done.returncode == 2
    assert done.stderr == "error: ipc=ten: Value 'ten' of type 'str' could not be converted to Integer\n"
    assert not (tmp_path / "distill").exists()


def test_a_mistake_found_later_is_one_line_too(command, tmp_path):
    done = command("train.py", f"output={tmp_path / 'out'}", "backbone=timm", "backbone.model=resnet81")
    assert done.returncode == 2
    assert done.stderr.startswith("error: backbone=resnet81: unknown; did you mean ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["ipc=1"], r"ipc=1: too small to split between 10 classes and 1 teachers; .* works is ipc=2"),
        (["teachers.backbones=[resnet81]"], "backbone=resnet81: unknown"),
        (["recipe.student.epochs=null", "students.backbones=[resnet81]"], "backbone=resnet81: unknown"),
        (["teachers.backbones=[convnext_atto]"], "has no BatchNorm"),
        (["students.backbones=[vit_tiny_patch16_224]"], "backbone=vit_tiny_patch16_224: does not take images of 1 x 8"),
        (["trainer.devices=2"], "trainer.devices=2: needs trainer.strategy=ddp_spawn"),
        (["trainer=gpu"], "trainer.accelerator=gpu: no GPU"),
        (["trainer=cluster"], "trainer.strategy=ddp: wants 2 processes .* there are none; on one machine trainer=ddp"),
        (["trainer=ddp", "trainer.nodes=2"], "trainer.nodes=2: needs trainer=cluster, started by torchrun"),
        (["dataset.channels=3"], "dataset.channels=3: the pictures of digits have 1"),
        (["output=/dev/null/out"], r"/dev/null/out.* cannot be (written|read)"),
        (["dataset=image_folder", "dataset.root=/nowhere"], "dataset.root=/nowhere: no such folder"),
        (["ipc=200"], "the split needs .* train pictures of every class, but 0 has"),
    ],
)
def test_mistakes_that_only_the_data_tell(config, tmp_path, overrides, says):
    if overrides == ["trainer=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(infer.UserError, match=says) as error:
        distill(config("distill", *overrides))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_teacher_near_chance_is_refused(config):
    with pytest.raises(infer.UserError, match=r"teachers.backbones=convnet_narrow: its test accuracy .* near chance"):
        distill(config("distill", "recipe.teacher.epochs=1", "recipe.teacher.lr=0.00001"))
