"""python distill.py -m: every combination that can be made, one table at the end."""

import csv

from conftest import TINY, files


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


def test_a_sweep_with_a_mistake_runs_nothing(command, tmp_path):
    done = command("distill.py", "-m", "output=/dev/null/x")
    assert done.returncode == 2
    assert done.stderr == "error: [Errno 20] Not a directory: '/dev/null/x/sweeps'\n"
    done = command("distill.py", "-m", f"output={tmp_path}", "ipc=3,ten")
    assert done.returncode == 2
    assert done.stderr == "error: ipc=ten: Value 'ten' of type 'str' could not be converted to Integer\n"
    assert not (tmp_path / "distill").exists()
