"""Sweeps, python distill.py -m: every combination is run where it can be, and one table comes at the end."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, files
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError
from wandb_records import ENVIRONMENT, by_type

from infer.cli import sweeps
from infer.cli.jobs import read_jobs, read_sweep
from infer.core.errors import UserError

SHORT = ["students.sources=[distilled,random]", "students.seeds=1"]


def test_a_sweep_ends_with_a_table_and_a_plot(command, tmp_path):
    words = ["distill.py", "-m", f"output={tmp_path}", *TINY, "method=random,herding", "ipc=1,2", "students.seeds=1"]
    done = command(*words, "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert "against random" in done.stdout
    ended = [line for line in done.stdout.splitlines() if line.startswith("job ")]
    assert [re.match(r"job \d of 8 done: method=\w+ ipc=\d seed=\d: ", line) is not None for line in ended] == [
        True
    ] * 8
    assert "test accuracy (last epoch" not in done.stdout  # the table of one run
    assert "import infer" not in done.stdout
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
    fewer = command(*words, "seed=0,1", "students.sources=[distilled]")  # the runs are found; their tables have more
    assert fewer.returncode == 0, fewer.stderr
    (other,) = {*tmp_path.glob("sweeps/*/table.csv")} - {table}
    with other.open() as content:
        rows = list(csv.DictReader(content))
    assert {row["source"] for row in rows} == {"distilled"}
    assert [row["pairs"] for row in rows] == ["", "", "2", "2"]  # herding's baseline is now method=random


def test_a_sweep_runs_every_combination_that_can_be_run(command, tmp_path):
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


def test_a_job_that_fails_stops_no_other(command, tmp_path):
    script = tmp_path / "distill.py"
    script.write_text(
        "from infer.cli.command import command\n"
        "def task(options, backbones):\n"
        "    if options.seed == 1:\n"
        "        raise RuntimeError('no such luck')\n"
        "    print('went through', options.seed)\n"
        "command('distill', task)\n"
    )
    done = command(str(script), "-m", f"output={tmp_path}", "seed=0,1,2")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "went" in line] == ["went through 0", "went through 2"]
    assert "Traceback" in done.stdout + done.stderr  # this is no user's mistake
    assert done.stderr.splitlines()[-2:] == [
        "failed: seed=1: RuntimeError: no such luck",
        "error: 1 of 3 jobs failed; the same command tries these again",
    ]


def test_a_sweep_with_a_mistake_runs_nothing(command, tmp_path):
    done = command("distill.py", "-m", "output=/dev/null/x")
    assert done.returncode == 2
    assert done.stderr.startswith("error: /dev/null/x/sweeps/")
    assert done.stderr.endswith("cannot be written (Not a directory); give another path or choose another output=\n")
    assert done.stderr.count("\n") == 1
    done = command("distill.py", "-m", f"output={tmp_path}", "ipc=3,ten")
    assert done.returncode == 2
    assert done.stderr == "error: ipc=ten: must be a whole number between 1 and 1000000\n"
    assert not (tmp_path / "distill").exists()


def test_the_home_of_a_user_who_is_not_known_is_a_folder_of_that_name(tmp_path):
    words = ["-m", "output=~nobody.here/x", "seed=0,1", "ipc=0"]
    done = subprocess.run(
        [sys.executable, ROOT / "distill.py", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: 2 of 2 jobs failed")
    assert [path.name for path in tmp_path.iterdir()] == ["~nobody.here"]


@pytest.mark.parametrize("hook", ["on_multirun_start", "on_multirun_end"])
@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("k=1: bad"), 2, "error: k=1: bad"),
        (InterpolationKeyError("key 'k' not found"), 2, "error: key 'k' not found"),
        (KeyError("k"), 1, "KeyError"),
    ],
)
def test_an_error_of_the_table_ends_the_command(monkeypatch, tmp_path, capsys, hook, error, code, says):
    def broken(*_):
        raise error

    monkeypatch.setenv("INFER_SWEEP", str(tmp_path))
    monkeypatch.setattr(sweeps, "digest", broken)
    monkeypatch.setattr(sweeps, "_failures", broken)
    config = OmegaConf.create(
        {"output": "x", "hydra": {"overrides": {"task": [], "hydra": []}, "runtime": {"choices": {}}, "sweeper": {}}}
    )
    table = sweeps.SweepTable()
    table.grouped = False
    with pytest.raises(SystemExit) as ended:
        getattr(table, hook)(config)
    assert ended.value.code == code
    assert says in capsys.readouterr().err


def table(output: Path) -> list[dict[str, str]]:
    """Of the one sweep below ``output``."""
    (path,) = output.glob("sweeps/*/table.csv")
    with path.open() as content:
        return list(csv.DictReader(content))


def test_a_killed_sweep_runs_what_is_missing_and_ends_with_the_same_table(command, start, tmp_path):
    words = ["method=infer,random", "ipc=3,5", "seed=0,1", *TINY, *SHORT, "distill.rounds=2"]
    broken = ["distill.py", "-m", f"output={tmp_path / 'broken'}", *words, "logger=wandb"]
    running = start(*broken, env=ENVIRONMENT)
    for line in running.stdout:
        if re.match(r"job 3 of 8 done: method=infer ipc=5 seed=0: convnet_narrow [\d.]+ % \(random .*\); about", line):
            break
    for line in running.stdout:
        if "] Labelling " in line:  # in the middle of the fourth
            break
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = {file: file.stat().st_mtime_ns for file in files(tmp_path / "broken")}

    listed = command(*broken, "dry_run=true")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines()[-1] == "8 jobs: 3 finished, 1 unfinished, 4 new"
    again = command(*broken, env=ENVIRONMENT)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before: ") == 3
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert len(files(tmp_path / "broken")) == 8

    whole = command("distill.py", "-m", f"output={tmp_path / 'whole'}", *words)
    assert whole.returncode == 0, whole.stderr
    assert table(tmp_path / "broken") == table(tmp_path / "whole")

    (sweep,) = (path.name for path in (tmp_path / "broken" / "sweeps").iterdir() if path.is_dir())
    runs: dict[str, list] = {}
    for path in sorted((tmp_path / "broken").rglob("offline-run-*/*.wandb")):
        runs.setdefault(path.stem, []).append(by_type(path))
    assert len(runs) == 8  # the fourth went on under its id
    for parts in runs.values():
        assert [found["exit"][0].exit_code for found in parts if "exit" in found] == [0]
        assert parts[-1]["run"][0].run_group == sweep
        assert {"distilled", "teacher"} <= {artifact.type for artifact in parts[-1]["artifact"]}
        assert all(artifact.manifest.contents for artifact in parts[-1]["artifact"])


def test_a_failed_job_is_a_failed_run(command, tmp_path):
    words = ["-m", f"output={tmp_path}", *TINY, *SHORT, "ipc=4", "recipe.teacher.lr=0.000001,0.1", "logger=wandb"]
    done = command("distill.py", *words, env=ENVIRONMENT)
    assert done.returncode == 1
    codes = [by_type(path)["exit"][0].exit_code for path in tmp_path.rglob("offline-run-*/*.wandb")]
    assert sorted(codes) == [0, 1]


def test_a_dry_run_creates_nothing(command, tmp_path):
    done = command("distill.py", f"output={tmp_path}", *TINY, "ipc=3", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["new", f"{tmp_path}/distill/digits/infer-ipc3/seed0"]
    assert not list(tmp_path.iterdir())


def test_concurrent_jobs_share_one_teacher(command, tmp_path):
    words = ["sweep=seeds", "hydra.sweeper.params.seed='0,1'", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = command("distill.py", f"output={tmp_path}", *TINY, *SHORT, "ipc=3", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training teacher convnet_narrow (") == 1
    assert "job 2 of 2 done" in done.stdout
    assert [row["students"] for row in table(tmp_path)] == ["2", "2"]
    results = [json.loads((file.parent / "result.json").read_text()) for file in files(tmp_path)]
    assert all(result["command"].startswith("python distill.py ") for result in results)
    assert next(iter(tmp_path.glob("sweeps/seeds-*"))).is_dir()


def test_jobs_of_a_cluster_end_with_the_table_too(command, tmp_path):
    words = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=0,1"]
    done = command("distill.py", "-m", f"output={tmp_path}", *TINY, *SHORT, "ipc=3", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["students"] for row in table(tmp_path)] == ["2", "2"]


def test_a_value_that_a_named_sweep_gives_is_refused(command, tmp_path):
    done = command("distill.py", f"output={tmp_path}", "sweep=seeds", "seed=4")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: seed=4: sweep=seeds gives its values; leave it, or give ")


def test_a_sweep_of_train_names_what_failed(command, tmp_path):
    words = ["backbone=convnet_narrow", "recipe.teacher.epochs=1", "trainer=cpu", "source.kind=real,nothing"]
    done = command("train.py", "-m", f"output={tmp_path}", *words)
    assert done.returncode == 1
    assert re.search(r"^job 1 of 2 done: source.kind=real: [\d.]+ %; about \d+ s left$", done.stdout, re.MULTILINE)
    assert done.stderr.splitlines()[-2].startswith("failed: source.kind=nothing: source.kind=nothing: unknown")


def test_a_damaged_file_of_a_job_is_left_out_with_a_warning(tmp_path, caplog):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "00000.json").write_text('{"overrides": ["seed=0"], "result": {}}')
    (tmp_path / "jobs" / "00001.json").write_text('{"overrides": 3}')
    (tmp_path / "jobs" / "00002.json").write_text("{")
    (tmp_path / "sweep.json").write_text('{"swept": ["seed"], "jobs": "many", "began": 0.0}')
    assert [job["overrides"] for job in read_jobs(tmp_path)] == [["seed=0"]]
    assert read_sweep(tmp_path) is None
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 3
    assert warnings[0].endswith("the job is missing from the table; the same command adds it")
