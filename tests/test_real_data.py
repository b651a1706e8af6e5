"""Data sets of the tests, which are unpacked whole or not at all."""

import tarfile
from pathlib import Path

import pytest
from conftest import unpacked


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of a data set of two parts."""
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
        (tmp_path / "set" / part / "a.txt").write_text(part)
    with tarfile.open(tmp_path / "set.tar.xz", "w:xz") as packed:
        for part in ("train", "test"):
            packed.add(tmp_path / "set" / part, f"set/{part}")
    return tmp_path / "set.tar.xz"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_interrupted_unpacking_leaves_nothing_that_counts_as_the_data(archive, tmp_path, monkeypatch):
    data = tmp_path / "data"
    extract = tarfile.TarFile.extractall

    def interrupt(self, path, **options):
        extract(self, path, members=[member for member in self if "train" in member.name], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "extractall", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpacked(archive, data / "set")
    assert names(data) == []
    monkeypatch.undo()
    assert unpacked(archive, data / "set") == data / "set"
    assert names(data) == ["set/test/a.txt", "set/train/a.txt"]
    (data / "set" / "train" / "a.txt").write_text("of another session")
    unpacked(archive, data / "set")
    assert (data / "set" / "train" / "a.txt").read_text() == "of another session"
    assert names(data) == ["set/test/a.txt", "set/train/a.txt"]
