"""Exports that fail, are killed, or meet another one: what they leave, and how the next goes on."""

import os
import platform
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
from distilled_sets import pool_set, views_set
from small_disks import small_disk
from test_export import contents

from infer.core.errors import UserError
from infer.distilled import export


def test_what_comes_into_the_folder_during_an_export_is_kept(tmp_path, monkeypatch):
    def comes(image):
        (tmp_path / "out" / "labels.csv").write_text("mine")
        return b"png"

    monkeypatch.setattr(export, "_png", comes)
    with pytest.raises(UserError, match=r"holds 'labels\.csv'; choose another folder"):
        pool_set().export(tmp_path / "out")
    assert contents(tmp_path) == {"out/labels.csv": b"mine"}


def test_two_exports_do_not_share_a_folder(tmp_path, monkeypatch):
    def again(image):
        for overwrite in (False, True):
            with pytest.raises(UserError, match="another export writes to it; choose another folder, or remove"):
                pool_set().export(tmp_path / "out", overwrite=overwrite)
        return b"png"

    monkeypatch.setattr(export, "_png", again)
    pool_set().export(tmp_path / "out")
    assert (tmp_path / "out" / "meta.json").exists()


@pytest.mark.parametrize("format", ["imagefolder", "huggingface", "parquet"])
def test_an_export_that_fails_leaves_what_was_there(tmp_path, monkeypatch, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    old = tmp_path / "old"
    pool_set().export(old)
    before = contents(old)
    calls = []

    def full(image):
        calls.append(image)
        if len(calls) % 10 == 9:
            raise OSError(28, "No space left on device")
        return b"png"

    monkeypatch.setattr(export, "_png", full)
    for folder in (old, tmp_path / "new"):
        with pytest.raises(UserError, match="No space left on device; free space, or choose a folder to write to"):
            views_set().export(folder, format, overwrite=folder == old)
    assert contents(old) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("format", ["imagefolder", "huggingface", "parquet"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, format):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    with small_disk(tmp_path / "disk") as disk:
        out = disk.folder / "out"
        with disk.room(1000), pytest.raises(UserError) as told:
            views_set().export(out, format)
        assert re.fullmatch(
            rf"export to {out}: .*{disk.reason}.*; free space, or choose a folder to write to", str(told.value)
        )
        assert list(disk.folder.iterdir()) == []
        views_set().export(out, format)
        views_set().export(tmp_path / "fresh", format)
        assert contents(out) == contents(tmp_path / "fresh")


KILLED = """\
import os, sys
from distilled_sets import pool_set
from infer.distilled import export
count, png = [], export._png
def killed(image):
    count.append(image)
    return png(image) if len(count) < 9 else os.kill(os.getpid(), 9)
export._png = killed
pool_set().export(sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_export_is_deleted_by_the_next(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    words = [sys.executable, "-c", KILLED, str(tmp_path / "out")]
    assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL
    (left,) = (tmp_path / "out").iterdir()
    assert len(contents(left)) == 9  # eight pictures and a table
    pool_set().export(tmp_path / "out")
    pool_set().export(tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_an_export_that_may_still_run_is_named_and_kept(tmp_path, host):
    """A process of another machine is not seen; it is taken to be gone a day later."""
    name = f".unfinished-export.{platform.node() if host == 'here' else 'other.host'}.{os.getpid()}.tmp"
    (tmp_path / name).mkdir()
    for overwrite in (False, True):
        with pytest.raises(UserError) as told:
            pool_set().export(tmp_path, overwrite=overwrite)
        assert str(told.value) == (
            f"export to {tmp_path}: another export writes to it; choose another folder, or remove {name} from it if "
            "that export has ended"
        )
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    os.utime(tmp_path / name, (time.time() - 25 * 3600,) * 2)
    pool_set().export(tmp_path)
    assert not (tmp_path / name).exists()


def test_an_earlier_process_of_the_same_number_is_gone(tmp_path):
    """As in a container, where the command is always process 1."""
    name = f".unfinished-export.{platform.node()}.{os.getpid()}.tmp"
    (tmp_path / name / "a").mkdir(parents=True)
    os.utime(tmp_path / name, (psutil.Process().create_time() - 1,) * 2)
    pool_set().export(tmp_path)
    assert not (tmp_path / name).exists()
