"""Trainings side by side: processes that share data, pass on what they tell, and end without losing what is done."""

import logging
import multiprocessing
import os
import signal
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import psutil
import pytest
import torch

import infer
from infer.core import progress
from infer.data import Streamed
from infer.data.decoder import Decoder
from infer.training import jobs
from infer.training.context import Context
from infer.training.jobs import Training, side_by_side, threads_of_each
from infer.training.options import TrainerOptions
from infer.training.workers import RelayedMetrics


def context(jobs_at_once: int | str, **more) -> Context:
    images, labels = np.random.default_rng(0).integers(256, size=(12, 1, 8, 8), dtype=np.uint8), np.arange(12) % 3
    data = infer.Splits.from_arrays(images, labels, images, labels)
    return Context(data, trainer=TrainerOptions(accelerator="cpu", jobs=jobs_at_once), **more)


def trainings(folder: Path, *behaviours) -> list[Training]:
    """One of each behaviour, which is called with the context and the file to write."""
    found = []
    for number, behaviour in enumerate(behaviours):
        file = folder / f"{number}.txt"
        found.append(Training(f"teacher {number}", file, partial(trained, behaviour=behaviour, file=file)))
    return found


def trained(context: Context, behaviour, file: Path) -> str:
    if not file.exists():
        file.write_text(behaviour(context))
    return file.read_text()


def in_a_process() -> bool:
    return multiprocessing.parent_process() is not None


def well(context: Context) -> str:
    shared = context.data.train.images.is_shared()
    return f"{in_a_process()} {torch.get_num_threads()} {shared} {context.data.train.images.sum()}"


def killed(context: Context) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def mistaken(context: Context) -> str:
    raise infer.UserError("recipe.teacher.lr=9: choose a smaller one")


def without_room(context: Context) -> str:
    if in_a_process():
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left (28)")
    return "well"


def telling(context: Context) -> str:
    logging.getLogger("infer").info("Training %s", "a teacher")
    for logger in context.loggers:
        logger.log_metrics({"loss": 0.5}, step=3)
    shown = progress.progress_of("teacher 0", 4, 1)
    shown.update(4)
    shown.close()
    return "told"


def test_every_training_has_the_same_threads_whatever_number_is_trained_at_once(tmp_path):
    before, ends = torch.get_num_threads(), {}
    for at_once in (1, 2):
        folder = tmp_path / str(at_once)
        folder.mkdir()
        ends[at_once] = [*side_by_side(context(at_once), trainings(folder, well, well, well), threads=2)]
    total = context(1).data.train.images.sum()
    assert ends == {1: [f"False 2 False {total}"] * 3, 2: [f"True 2 True {total}"] * 3}
    assert torch.get_num_threads() == before


def test_one_that_is_missing_needs_no_process(tmp_path):
    wanted = trainings(tmp_path, well, well)
    wanted[0].file.write_text("kept")
    first, second = side_by_side(context(2), wanted, threads=1)
    assert (first, second.split()[0]) == ("kept", "False")


@pytest.mark.parametrize(
    ("cores", "count", "options", "threads"),
    [
        (8, 3, {}, 2),
        (8, 18, {}, 1),
        (8, 18, {"jobs": 2}, 1),
        (8, 1, {}, 8),
        (1, 5, {}, 1),
        (8, 18, {"threads": 4}, 4),
    ],
)
def test_the_cores_are_divided_among_the_trainings(monkeypatch, cores, count, options, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert threads_of_each(TrainerOptions(accelerator="cpu", **options), count) == threads


@pytest.mark.parametrize(
    ("options", "count", "free", "at_once"),
    [
        ({}, 18, 100, 8),
        ({}, 3, 100, 3),
        ({}, 18, 5, 5),  # of the size of this process
        ({}, 18, 0, 1),
        ({"jobs": 12}, 18, 5, 12),
        ({"jobs": 12}, 2, 100, 2),
        ({"jobs": 1}, 18, 100, 1),
        ({"devices": 2, "strategy": "ddp_spawn"}, 18, 100, 1),
    ],
)
def test_as_many_at_once_as_cores_and_memory_allow(monkeypatch, options, count, free, at_once):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    size = psutil.Process().memory_info().rss
    monkeypatch.setattr(jobs.psutil, "virtual_memory", lambda: SimpleNamespace(available=free * size + 1))
    monkeypatch.setattr(jobs.psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=size)))
    trainer = TrainerOptions(**{"accelerator": "cpu", **options})
    assert jobs._jobs(replace(context(1), trainer=trainer), count, 1) == at_once


def test_a_gpu_does_one_at_once_unless_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for options, at_once in (({}, 1), ({"jobs": 4}, 4)):
        trainer = TrainerOptions(**options)
        assert jobs._jobs(replace(context(1), trainer=trainer), 18, 1) == at_once
        assert threads_of_each(trainer, 18) == 8 // at_once  # which the results do not depend on


def test_trainings_of_several_devices_run_alone():
    with pytest.raises(infer.UserError, match=r"^trainer\.jobs=2: a training of several devices runs alone"):
        TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_spawn", jobs=2).require()


def test_trainings_on_streamed_pictures_run_one_after_the_other(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    given = context("auto")
    streamed = Streamed([], given.data.train.targets, Decoder(8, 1))
    assert jobs._jobs(given, 18, 1) > 1
    assert jobs._jobs(replace(given, data=replace(given.data, train=streamed)), 18, 1) == 1


def test_a_process_that_dies_is_named_and_the_others_go_on(tmp_path, caplog):
    wanted = trainings(tmp_path, killed, well, well, well)
    with pytest.raises(infer.UserError, match=r"^teacher 0: the process has died, .* the same command goes on"):
        [*side_by_side(context(2), wanted, threads=1)]
    assert [training.file.exists() for training in wanted] == [False, True, True, True]
    assert "teacher 0: its process has died; the other trainings go on" in caplog.text
    wanted[0] = trainings(tmp_path, well)[0]
    assert len([*side_by_side(context(2), wanted, threads=1)]) == 4


def test_a_mistake_is_the_line_that_it_is_in_one_process(tmp_path):
    for at_once in (1, 2):
        with pytest.raises(infer.UserError, match=r"^recipe\.teacher\.lr=9: choose a smaller one$"):
            [*side_by_side(context(at_once), trainings(tmp_path, mistaken, well), threads=1)]
    assert multiprocessing.active_children() == []


def test_without_shared_memory_they_are_trained_one_after_the_other(tmp_path, caplog):
    assert [*side_by_side(context(2), trainings(tmp_path, without_room, without_room), threads=1)] == ["well", "well"]
    assert "unable to allocate shared memory" in caplog.text


class Rows(RelayedMetrics):
    """A logger that keeps the rows."""

    def __init__(self) -> None:
        self.rows = []

    def log_metrics(self, metrics, step=None) -> None:
        self.rows.append((metrics, step))


def nested(folder: Path) -> list[str]:
    return [*side_by_side(context(2), trainings(folder, well, well), threads=1)]


def test_a_job_of_a_sweep_that_joblib_started_has_processes_too(tmp_path):
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        folder.mkdir()
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(nested)(folder) for folder in folders)
    assert [each.split()[0] for each in chain(*found)] == ["True"] * 4


def test_lines_metrics_and_progress_come_from_the_processes(tmp_path, caplog, monkeypatch):
    shares, logger = [], Rows()
    monkeypatch.setattr(jobs.Together, "update", lambda shown, *told: shares.append(told))
    monkeypatch.setattr(jobs.Together, "finish", lambda shown, title: None)
    with caplog.at_level(logging.INFO, "infer"), progress.reporting(True):
        [*side_by_side(context(2, loggers=[logger]), trainings(tmp_path, telling, telling), threads=1)]
    assert shares == [("teacher 0", 0.25), ("teacher 0", 1.0)] * 2
    assert logger.rows == [({"loss": 0.5}, 3)] * 2
    assert [record.getMessage() for record in caplog.records].count("Training a teacher") == 2
