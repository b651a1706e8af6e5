"""A run whose trainings are side by side: the same files as one after the other, and nothing is left after a stop."""

import signal
import sys

import psutil
import pytest
from conftest import await_file, files
from kill_runs import state

TWO = ["teachers.backbones=[convnet_narrow,convnet_deep]", "teachers.margin=-1", "distill.rounds=2", "ipc=5"]
TWO += ["recipe.teacher.epochs=1", "trainer.threads=1"]


def test_files_and_accuracies_do_not_depend_on_the_number_of_jobs(run, tmp_path):
    found = {}
    for at_once in (1, 2):
        run("distill", *TWO, f"trainer.jobs={at_once}", f"output={tmp_path}/{at_once}")
        found[at_once] = {
            name: value for name, value in state(tmp_path / str(at_once)).items() if "passes-" not in name
        }
    assert found[1] == found[2]
    (one,), (two,) = files(tmp_path / "1"), files(tmp_path / "2")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_ends_all_processes_and_the_same_command_goes_on(start, command, tmp_path, number):
    words = ["distill.py", f"output={tmp_path}", *TWO, "trainer=cpu", "trainer.jobs=2", "students.seeds=1"]
    words += ["students.sources=[distilled]", "recipe.student.steps=5", "recipe.ufc.steps=5"]
    words += ["recipe.teacher.min_steps=1000"]
    long = start(*words)
    await_file(long, tmp_path, "*.ckpt")
    children = psutil.Process(long.pid).children(recursive=True)
    assert len(children) >= 2
    long.send_signal(number)
    printed = long.communicate(timeout=60)[0]
    assert long.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in printed
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert list(tmp_path.rglob("*.ckpt"))
    assert not list(tmp_path.rglob("teacher.safetensors"))
    done = command(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(files(tmp_path)) == 1
