"""A run on several processes gives the same file; a process that dies ends it."""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import ROOT, TINY, await_file, files
from safetensors.torch import load_file

from infer.core.sources import SOURCES

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
"""Commands that spawn processes, and commands that a launcher starts, as on several nodes."""


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
def test_two_processes_write_the_same_file_and_train_students(command, tmp_path, one_process, launch):
    """The teacher is copied, so that both runs have the same one; two processes do everything else."""
    where = Path("train", "digits", "convnet_narrow", "seed0")
    for name in ("teacher.safetensors", "settings.json", "result.json"):
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        shutil.copy(one_process / where / name, tmp_path / where / name)
    words = [word for word in TINY if not word.startswith("trainer")]
    words += ["trainer.accelerator=cpu", "students.sources=[distilled,random,random_hard]", "students.seeds=1", "ipc=6"]
    done = command(*TWO[launch], f"output={tmp_path}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(SOURCES["random"]) == 1  # one process prints the table
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


def test_a_process_that_dies_ends_the_run_and_the_next_start_resumes_it(tmp_path):
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
    await_file(running, tmp_path, "compensators-*.ckpt", seconds=240)
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
        assert now == reached + 150  # the next checkpoint of the resumed run, not the first of a new one
    finally:
        for process in (*psutil.Process(again.pid).children(recursive=True), again):
            process.kill()
        again.wait()


SPAWNED = """
import numpy as np
import infer
from infer.core import progress
from infer.training.options import TrainerOptions
progress._EVERY = 0.0
if __name__ == "__main__":
    images, labels = np.zeros((64, 1, 8, 8), np.uint8), np.arange(64) % 4
    data = infer.Splits.from_arrays(images, labels, images, labels)
    two = TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_spawn")
    infer.train_teachers(data, ["convnet_narrow"], epochs=3, trainer=two, progress=True)
"""


def test_spawned_processes_report_once_without_the_advice_of_lightning(command, tmp_path):
    (tmp_path / "script.py").write_text(SPAWNED)
    done = command(str(tmp_path / "script.py"))
    assert done.returncode == 0, done.stderr
    for step in (1, 2, 3):
        assert done.stdout.count(f"teacher convnet_narrow: step {step} of 3, about ") == 1
    assert "distributed_backend" not in done.stdout + done.stderr
    assert "Trainer.fit" not in done.stdout + done.stderr
