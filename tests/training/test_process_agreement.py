"""The processes of a launched job: the first decides and holds the locks, and none waits for one that has ended."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT, TINY

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from infer.core.errors import UserError
from infer.training.context import Context
from infer.training.options import TrainerOptions

rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
context = Context(None, trainer=TrainerOptions("cpu", devices=2, strategy="ddp"))

def fails():
    raise UserError("the disk\\nis full")

def run():
%s

try:
    run()
except UserError as error:
    print(f"error: {error}")
    sys.exit(2)
"""

LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def launched(words: Sequence[str]) -> list[subprocess.CompletedProcess]:
    """Start two processes of one job, each as a launcher does; return what they said."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    own = [{"RANK": number, "LOCAL_RANK": number} for number in "01"]
    started = [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, **shared, **each},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in own
    ]
    done = [process.communicate(timeout=240) for process in started]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *said)
        for process, said in zip(started, done, strict=True)
    ]


@pytest.fixture
def processes(tmp_path):
    """Run a block of code in two processes of one job."""

    def run(block: str) -> list[subprocess.CompletedProcess]:
        script = tmp_path / "script.py"
        script.write_text(SCRIPT % "".join(f"    {line}\n" for line in block.strip().splitlines()))
        return launched([str(script), str(tmp_path)])

    return run


def test_all_get_the_answer_of_the_first(processes):
    one, two = processes(
        """
with context.lock(folder / ".lock", "work"):
    print(context.from_first("the number", lambda: 10 + rank), context.from_first("nothing", lambda: None))
"""
    )
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert one.stdout == two.stdout == "10 None\n"


def test_all_resume_where_the_first_does(processes):
    """The second process does not read the checkpoint itself: it might find another, or none."""
    done = processes(
        f"""
sys.path.insert(0, {str(Path(__file__).parent)!r})
import infer.training.fit as fits
from compensator_fits import ONE, fitted, module
from test_fit import break_off
if rank == 0:
    (folder / "whole").mkdir()
    whole = fitted(module(), folder / "whole", ONE)
    break_off(folder, ONE)
context.from_first("the start", lambda: None)
if rank == 1:
    fits.read_checkpoint = lambda *_: None
seeds, begin = [], fits.SeededSteps.on_train_batch_start
def noted(self, trainer, *more):
    seeds.append(trainer.global_step)
    begin(self, trainer, *more)
fits.SeededSteps.on_train_batch_start = noted
u = fitted(module(), folder, context.trainer)
same = rank == 1 or torch.allclose(u, whole, rtol=1e-3, atol=1e-3)
print(seeds[0] >= 8, same)
"""
    )
    assert [each.stdout for each in done] == ["True True\n"] * 2, done[0].stderr + done[1].stderr


ENDS = {
    "the first raises": ('if rank == 0: fails()\nwith context.lock(folder / "b", "b"): pass', 0),
    "the second raises": ('if rank == 1: fails()\nwith context.lock(folder / "b", "b"): pass', 1),
    "the first raises in a training": ("if rank == 0: fails()\ntorch.distributed.all_reduce(torch.ones(3))", 0),
    "the first is killed": ('if rank == 0: os._exit(2)\ncontext.from_first("it", lambda: 1)', None),
}


@pytest.mark.parametrize("name", ENDS)
def test_where_one_process_ends_the_other_ends_too_with_one_line(processes, name):
    block, failed = ENDS[name]
    inside = "\n".join(f"    {line}" for line in block.splitlines())
    done = processes(f'with context.lock(folder / "a", "a"):\n{inside}')
    assert [each.returncode for each in done] == [2, 2]
    other = 1 if failed is None else 1 - failed
    if failed is not None:
        assert done[failed].stdout == "error: the disk\nis full\n"
    (line,) = done[other].stdout.splitlines()
    assert line.startswith(f"error: process {other} of 2: another process of this job has ended; its own message")
    assert "Traceback" not in done[0].stderr + done[1].stderr


def test_what_the_first_cannot_do_all_say(processes):
    (one, two) = processes('context.from_first("it", fails)')
    assert (one.stdout, two.stdout) == ("error: the disk\nis full\n", "error: the disk is full\n")


def test_processes_that_see_other_files_say_so(processes):
    one, two = processes('with context.lock(folder / f"lock{rank}", "work"): pass')
    assert (one.returncode, two.returncode) == (2, 2)
    assert re.match(r"error: process 1 is at the lock .*lock1 where process 0 is at the lock .*lock0: ", two.stdout)


def test_after_an_error_no_further_work_is_begun_apart(processes):
    """As the jobs of a sweep, which go on after one has failed."""
    done = processes(
        """
for number in range(3):
    try:
        with context.lock(folder / f"lock{number}", "work"):
            if number == 1 and rank == 0: fails()
    except UserError as error:
        print(number, error)
"""
    )
    assert [each.returncode for each in done] == [0, 0]
    for each in done:
        assert each.stdout.splitlines()[-1].startswith("2 the processes of this job are not together after an error")


def test_a_clock_that_runs_ahead_on_one_process_does_not_part_them(tmp_path):
    """Its own clock would tell the second process that the time is spent after the first choice."""
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import os, runpy, sys, time, types
import infer.pipeline.search as search

clock = time.perf_counter
if os.environ["RANK"] == "1":
    search.time = types.SimpleNamespace(perf_counter=lambda: 1e6 * clock())
sys.argv[0] = {str(ROOT / "distill.py")!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    )
    words = [word for word in TINY if not word.startswith("trainer")]
    words += ["trainer=cluster", "trainer.accelerator=cpu", "trainer.devices=2", "students.sources=[distilled]"]
    words += ["method=random", "budget=auto", "budget.choices.budget.quality=[40,60]", "labels=hard", "ipc=5"]
    words += ["budget.choices.labels.share=null", "report.time_budget=1h", "students.seeds=1", f"output={tmp_path}"]
    done = launched([str(script), *words])
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    (record,) = tmp_path.glob("distill/*/*/auto/result.json")
    assert json.loads(record.read_text())["left_out"] == 0


def test_two_launched_jobs_train_a_teacher_once(tmp_path):
    words = [word for word in TINY if not word.startswith("trainer")]
    words = [*LAUNCHER, "train.py", "trainer=cluster", "trainer.accelerator=cpu", f"output={tmp_path}", *words]
    started = [
        subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert "".join(said).count("Training teacher convnet_narrow (") == 1
    assert len(list(Path(tmp_path).rglob("teacher.safetensors"))) == 1


def test_a_run_of_two_processes_is_found_finished(command, tmp_path):
    """Both write the same bytes, so that the digests of what they wrote hold."""
    words = [word for word in TINY if not word.startswith("trainer")]
    words = [*LAUNCHER, "distill.py", "trainer=cluster", "trainer.accelerator=cpu", f"output={tmp_path}", *words]
    words += ["students.sources=[distilled]", "students.seeds=1", "ipc=6", "recipe.ufc.steps=5"]
    first, again = command(*words), command(*words)
    assert (first.returncode, again.returncode) == (0, 0), first.stdout + first.stderr + again.stdout + again.stderr
    assert "finished before" in again.stdout
    assert not re.search("(created|trained|optimised) again", again.stdout + again.stderr)
