"""metrics.csv of runs that are killed anywhere: never lost, each step of each stage once."""

import csv
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compensator_fits import STEPS, fitted, module

from infer.core import files
from infer.core.errors import UserError
from infer.training.metrics_file import MetricsFile

EARLIER = "distill/t/loss,epoch,step\n7.5,0,3\n"
"""The file of another version, which has no stages."""


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def stage(name: str, folder: Path) -> None:
    fitted(module(), folder, name=name)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The folder of two stages and a result."""
    folder = tmp_path_factory.mktemp("unbroken")
    everything(folder)
    return folder


def everything(folder: Path) -> None:
    """Two stages and a result, as a run has them: a stage whose result is kept is not fitted again."""
    for name in ("u", "v"):
        if not (folder / name).exists():
            stage(name, folder)
            files.write_bytes(folder / name, b"")
            (folder / f"{name}.ckpt").unlink()
    logger = MetricsFile(folder)
    logger.log_metrics({"accuracy": 0.5}, step=0)
    logger.save()


def test_the_file_has_every_step_of_every_stage_once(unbroken):
    found = rows(unbroken)
    expected = [(name, str(step)) for name in ("u", "v") for step in range(STEPS)]
    assert [(row["stage"], row["step"]) for row in found] == [*expected, ("results", "0")]
    assert all(float(row["distill/t/loss"]) > 1 for row in found[:-1])
    assert found[-1]["accuracy"] == "0.5"
    assert not list(unbroken.glob(".*.tmp"))


def everything_until(folder: Path, point: int) -> None:
    """Run everything in this process, which kills itself at its ``point``-th half write."""
    count, replace = 0, Path.replace

    def counted(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if 2 * count - 1 == point:
            os.kill(os.getpid(), signal.SIGKILL)
        done = replace(self, target)
        if 2 * count == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Path.replace = counted
    torch.set_num_threads(1)
    everything(folder)


@pytest.fixture(scope="module")
def killed() -> Callable[[Path, int], int]:
    """How a process of :func:`everything_until` ends. A server forks it: this one may have threads of other tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "infer.models.compensator", "infer.training.fit", "infer.training.metrics_file"]
    )

    def run(folder: Path, point: int) -> int:
        process = context.Process(target=everything_until, args=(folder, point))
        process.start()
        process.join()
        return process.exitcode

    return run


@pytest.mark.parametrize(
    "points", [(1, 2), (3, 40), (44, 45), (81, 82), (85, 86), (90, 43, 87), (124, 61, 3), (167, 168)]
)
def test_a_run_that_is_killed_between_any_two_writes_ends_with_the_same_file(tmp_path, unbroken, killed, points):
    """A stage writes 20 times metrics and checkpoint in turn, and once at its end; a point is half a write."""
    (tmp_path / "metrics.csv").write_text(EARLIER)
    for point in points:
        if killed(tmp_path, point) != -signal.SIGKILL:
            break  # it has ended before
        for line in rows(tmp_path):
            assert None not in line
            assert None not in line.values()
        assert rows(tmp_path)[0]["distill/t/loss"] == "7.5"  # what was there stays
    else:
        assert killed(tmp_path, 0) == 0
    found = rows(tmp_path)
    assert {key: value for key, value in found.pop(0).items() if value} == {
        "distill/t/loss": "7.5",
        "epoch": "0",
        "step": "3",
    }
    assert [{key: value for key, value in row.items() if key != "epoch"} for row in found] == rows(unbroken)


def test_columns_grow_and_other_stages_stay_as_they_are(tmp_path):
    first = MetricsFile(tmp_path, "one")
    first.log_metrics({"loss": 1.25, "epoch": 0}, step=1)
    first.log_metrics({"loss": torch.tensor(0.5)}, step=0)
    first.log_metrics({"accuracy": 0.1}, step=1)
    first.finalize("success")
    second = MetricsFile(tmp_path, 'two, "quoted"')
    second.log_metrics({"more": 2.0}, step=4)
    second.write()
    resumed = MetricsFile(tmp_path, "one")
    resumed.rows = {0: {"loss": 0.5}}  # of its checkpoint
    resumed.write()
    assert (tmp_path / "metrics.csv").read_text() == ('stage,step,loss,more\n"two, ""quoted""",4,,2.0\none,0,0.5,\n')


def test_a_file_that_is_no_table_is_one_line(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"metrics\.csv: cannot be read .*remove it"):
        MetricsFile(tmp_path)
