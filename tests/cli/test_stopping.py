"""A command that gets a signal prints one line, exits with the status of the signal, and can be resumed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import TINY, await_file, files

LINE = "error: {}; the same command goes on where this one stopped\n"
STATUS = {signal.SIGTERM: 143, signal.SIGHUP: 129}
LONG = ["recipe.teacher.epochs=300", "recipe.ufc.steps=1000", "students.seeds=1", "ipc=5", "distill.rounds=4"]
WORDS = [word for word in TINY if not word.startswith(tuple(f"{word.partition('=')[0]}=" for word in LONG))]

SCRIPT = """\
import sys, time
from infer.cli.command import command
from infer.cli.stopping import stoppable
def task(options, backbones):
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        {reaction}
with stoppable():
    command("distill", task)
"""


def ended(process: subprocess.Popen, number: int) -> tuple[int, str]:
    """Send a signal; return the exit status, and what the process wrote after it."""
    os.kill(process.pid, number)
    return process.wait(timeout=60), process.stdout.read()


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize(
    "reaction", ["raise", "raise RuntimeError('an error of a library')"], ids=["raised", "changed"]
)
def test_a_signal_ends_a_command_with_one_line(start, tmp_path, number, reaction):
    script = tmp_path / "distill.py"
    script.write_text(SCRIPT.format(reaction=reaction))
    process = start(str(script), f"output={tmp_path / 'out'}")
    assert process.stdout.readline() == "ready\n"
    assert ended(process, number) == (STATUS[number], LINE.format(f"stopped by {number.name}"))


def test_a_sweep_that_is_stopped_begins_no_other_job(start, tmp_path):
    script = tmp_path / "distill.py"
    script.write_text(SCRIPT.format(reaction="raise RuntimeError('an error of a library')"))
    process = start(str(script), "-m", f"output={tmp_path / 'out'}", "seed=0,1")
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    code, output = ended(process, signal.SIGTERM)
    assert (code, output) == (143, LINE.format("stopped by SIGTERM"))


def test_a_second_signal_ends_a_command_that_hangs(start, tmp_path):
    script = tmp_path / "distill.py"
    script.write_text(SCRIPT.format(reaction="print('cleaning', flush=True); time.sleep(60)"))
    process = start(str(script), f"output={tmp_path / 'out'}")
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "cleaning\n"
    assert ended(process, signal.SIGTERM) == (143, LINE.format("stopped by SIGTERM"))


DROPPED = """\
import signal, time, weakref
from infer.cli.stopping import stoppable
class Thing: pass
def called(reference):
    print("called", flush=True)
    time.sleep(60)
signal.signal(signal.SIGINT, signal.default_int_handler)
with stoppable():
    thing = Thing()
    kept = weakref.ref(thing, called)
    del thing
    for _ in range(600):
        time.sleep(0.1)
"""


@pytest.mark.parametrize(
    ("number", "end"),
    [(signal.SIGTERM, (143, LINE.format("stopped by SIGTERM"))), (signal.SIGINT, (130, LINE.format("interrupted")))],
    ids=["SIGTERM", "SIGINT"],
)
def test_an_interruption_that_a_callback_drops_comes_once_more(start, tmp_path, number, end):
    """Python shows and drops an exception of a callback, of which an import has many."""
    script = tmp_path / "dropped.py"
    script.write_text(DROPPED)
    process = start(str(script))
    assert process.stdout.readline() == "called\n"
    assert ended(process, number) == end


def test_a_hangup_that_is_ignored_stays_ignored(start, tmp_path):
    """As by nohup."""
    script = tmp_path / "distill.py"
    script.write_text(SCRIPT.format(reaction="raise").replace("sleep(60)", "sleep(1); print('done')"))
    process = start(
        str(script), f"output={tmp_path / 'out'}", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    assert process.stdout.readline() == "ready\n"
    assert ended(process, signal.SIGHUP) == (0, "done\n")


def _catches(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.partition(":")[2] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc whether the process is ready")
@pytest.mark.parametrize("seconds", [0, 0.3, 1, 3])
def test_a_command_that_starts_can_be_stopped(start, tmp_path, seconds):
    process = start("distill.py", f"output={tmp_path}", *WORDS, *LONG)
    while not _catches(process.pid, signal.SIGTERM):
        time.sleep(0.01)
    time.sleep(seconds)
    status, said = ended(process, signal.SIGTERM)
    assert status == 143
    assert said.endswith(LINE.format("stopped by SIGTERM"))
    before = said.removesuffix(LINE.format("stopped by SIGTERM"))
    assert not before or before.startswith("digits: 1438 train")  # a fast machine has begun
    assert not any(word in before for word in ("Error", "Traceback", "cache"))
    assert not files(tmp_path)


@pytest.mark.parametrize("words", [[], ["trainer=ddp"]], ids=["one process", "two processes"])
def test_a_fit_that_is_stopped_keeps_its_state_and_ends_its_processes(start, command, tmp_path, words):
    words = [*(word for word in WORDS if word != "trainer=cpu"), *(words or ["trainer=cpu"]), *LONG]
    process = start("distill.py", f"output={tmp_path}", *words)
    await_file(process, tmp_path, "teacher.ckpt")
    children = psutil.Process(process.pid).children(recursive=True)
    code, output = ended(process, signal.SIGTERM)
    assert code == 143
    assert output.endswith(LINE.format("stopped by SIGTERM"))
    assert "Traceback" not in output
    psutil.wait_procs(children, timeout=10)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert len(list(tmp_path.rglob("teacher.ckpt"))) == 1
