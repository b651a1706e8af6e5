"""Files on disk: whole or absent, no litter, names that are folders everywhere, records that are checked."""

import errno
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pydantic import BaseModel

import infer
from infer.core.files import (
    digest,
    exclusive_lock,
    file_digest,
    find_folder,
    read_json,
    reserve_folder,
    sweep_temporaries,
    write_bytes,
)
from infer.core.folder_names import folder_name
from infer.core.records import changed_file, digests, read_record

BROKEN = ["{}", "[]", "3", "null", '"x"', '{"count": ', "", "[" * 100_000, '{"count": "3"}', '{"count": true}', "\xff"]
"""Texts in place of a JSON object with a whole number ``count``."""


NO_FOLDERS = [
    *("", ".", "..", " ", "../x", "/x", "a/b", "a\\b", "c:x", "a*", "a|b", ".hidden", "x.", " x", "x "),
    *("a\0", "a\nb", "a\u2028b", "\ud800", "CON", "nul.txt", "com1", "x" * 201, "é" * 101),
]
"""Names that leave their folder, or that some file system refuses."""


class Counted(BaseModel):
    count: int


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_in_place_of_a_file_is_told_and_stays_clean(tmp_path):
    (tmp_path / "sets").mkdir()
    with pytest.raises(infer.UserError, match="sets: is a folder, not a file; give the path of a file"):
        write_bytes(tmp_path / "sets", b"x")
    (tmp_path / "file").touch()
    with pytest.raises(infer.UserError, match=r"file/a: cannot be written \(.*\); give another path or choose"):
        write_bytes(tmp_path / "file" / "a", b"x")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free space, give another path or"),
        (errno.EDQUOT, "free space, give another path or"),
        (errno.EFBIG, "allow larger files (ulimit -f), give another path or"),
        (errno.EACCES, "ask for the right to write there, give another path or"),
        (errno.EROFS, "give another path or"),
        (errno.EIO, "give another path or"),
    ],
)
def test_the_cure_is_that_of_the_reason(tmp_path, monkeypatch, number, cure):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(infer.UserError) as written:
        write_bytes(tmp_path / "a", b"x")
    with pytest.raises(infer.UserError) as locked, exclusive_lock(tmp_path / "b", "work"):
        pass
    reason = f"({os.strerror(number)}); {cure} choose another output="
    assert str(written.value) == f"{tmp_path / 'a'}: cannot be written {reason}"
    assert str(locked.value) == f"{tmp_path / 'b'}: cannot be locked {reason}"


def test_an_interrupted_write_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_temporary_files_of_processes_that_are_gone_are_swept(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, day = platform.node(), 24 * 3600
    kept = [
        f".a.png.{here}.{os.getpid()}.tmp",
        f"images/.a.{here}.{os.getpid()}.tmp",
        f".b.other.host.{gone.pid}.tmp",
        ".mine.tmp",  # which no write of ours leaves
        ".lock",
    ]
    swept = [f".a.png.{here}.{gone.pid}.tmp", f"students/x/seed0/.s.{here}.{gone.pid}.tmp", ".c.other.host.7.tmp"]
    swept.append(f".d.{here}.{os.getpid()}.tmp")  # of an earlier process of the same number
    for name in (*kept, *swept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.utime(tmp_path / swept[2], (time.time() - day - 60,) * 2)
    os.utime(tmp_path / swept[3], (psutil.Process().create_time() - 1,) * 2)
    os.utime(tmp_path / ".mine.tmp", (0, 0))
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == sorted(kept)
    (tmp_path / swept[0]).touch()
    folder = reserve_folder(tmp_path, {"lr": 1})
    assert names(folder) == sorted([*kept, "settings.json"])


def test_a_killed_write_is_swept_by_the_next_reservation(tmp_path):
    code = "import os, sys, pathlib; from infer.core import files; os.fsync = lambda _: os.kill(os.getpid(), 9); "
    code += "files.write_bytes(pathlib.Path(sys.argv[1]), b'x')"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "images" / "a.png")], check=False)
    assert killed.returncode == -9
    (left,) = names(tmp_path)
    assert left.startswith("images/.a.png.")
    reserve_folder(tmp_path, {"lr": 1})
    assert names(tmp_path) == ["settings.json"]


def test_digests_have_64_bits(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(b"abc") == file_digest(tmp_path / "a") == "ba7816bf8f01cfea"
    assert file_digest(tmp_path / "b") is None
    assert file_digest(Path("/dev/null")) is None


def test_settings_find_their_folder_again_and_no_other(tmp_path):
    first = reserve_folder(tmp_path / "seed0", {"lr": 1})
    second = reserve_folder(tmp_path / "seed0", {"lr": 2})
    assert (first.name, second.name) == ("seed0", f"seed0-{digest({'lr': 2})}")
    assert find_folder(tmp_path / "seed0", {"lr": 2}) == (second, True)
    short = second.rename(second.with_name(second.name[: -len("89abcdef")]))  # as earlier versions named it
    assert find_folder(tmp_path / "seed0", {"lr": 2}) == (short, True)
    assert find_folder(tmp_path / "seed0", {"lr": 3})[1] is False


@pytest.mark.parametrize("text", ["{}", "[]", "3", "null", '"x"'])
def test_a_folder_whose_settings_are_none_is_nobodys(tmp_path, text):
    reserve_folder(tmp_path / "seed0", {"lr": 1})
    (tmp_path / "seed0" / "settings.json").write_text(text)
    with pytest.raises(infer.UserError, match=r"settings\.json: holds no settings of a run; remove it or choose"):
        find_folder(tmp_path / "seed0", {"lr": 1})


@pytest.mark.parametrize("text", ['{"lr": ', "", "[" * 100_000])
def test_json_that_cannot_be_parsed_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(infer.UserError, match=r"^.*a\.json: cannot be read \(.*\); remove it or choose another output"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("text", BROKEN, ids=[text[:12] for text in BROKEN])
def test_a_record_of_another_kind_is_told_in_one_line_and_not_returned(tmp_path, caplog, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    assert read_record(tmp_path / "a.json", Counted, "it is measured again") is None
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'a.json'}: ")
    assert line.endswith("; it is measured again")
    assert "\n" not in line


def test_a_record_keeps_its_further_keys(tmp_path):
    (tmp_path / "a.json").write_text('{"count": 3, "more": {"a": [1]}}')
    assert read_record(tmp_path / "a.json", Counted, "") == {"count": 3, "more": {"a": [1]}}
    assert read_record(tmp_path / "b.json", Counted, "") is None


def test_changed_files_are_named(tmp_path):
    for place in ("run", "teacher"):
        write_bytes(tmp_path / place / "a", place.encode())
    known = digests(tmp_path / "run", [tmp_path / "run" / "a", tmp_path / "teacher" / "a", tmp_path / "gone"])
    assert [*known] == ["a", "../teacher/a"]
    assert changed_file(tmp_path / "run", known) is None
    (tmp_path / "teacher" / "a").write_text("another")
    assert changed_file(tmp_path / "run", known) == tmp_path / "teacher" / "a"
    (tmp_path / "teacher" / "a").unlink()
    assert changed_file(tmp_path / "run", known) == tmp_path / "teacher" / "a"
    assert changed_file(tmp_path / "run", known, missing=False) is None


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "写真(2)", "my pictures", "a=b", "2024_01", "é" * 100])
def test_names_of_folders(name):
    assert folder_name("dataset.name", name) == name


@pytest.mark.parametrize("name", NO_FOLDERS, ids=ascii)
def test_names_that_are_no_folder_everywhere_are_one_line(name):
    with pytest.raises(infer.UserError) as told:
        folder_name("backbone.name", name)
    line = str(told.value)
    assert line.startswith("backbone.name=")
    assert line.endswith("and names a folder below output=; choose another")
    assert line.isprintable()
    assert len(line) < 300
