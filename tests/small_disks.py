"""Disks with little room, and ones that nobody may write to, for tests of what a program makes of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096
"""Bytes in which a file system in memory counts."""

_LARGE = 2**26


class SmallDisk:
    """A folder whose room a test chooses.

    Args:
        folder: of the disk.
        mounted: whether a file system in memory is mounted there. Where this process may mount none, the kernel limits
            the size of each file instead, which imitates a full disk.
    """

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder, self.mounted = folder, mounted
        self.reason = "No space left on device" if mounted else "File too large"

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Leave ``size`` bytes in the block: of the whole disk, or else for each file that is written."""
        if self.mounted:
            held = os.statvfs(self.folder)
            self._resize((held.f_blocks - held.f_bfree) * held.f_bsize + size)
            try:
                yield
            finally:
                self._resize(_LARGE)
            return
        import resource  # not on Windows

        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))  # processes that start in the block have it too
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def _resize(self, size: int) -> None:
        assert size, "the kernel takes a size of 0 for none"
        assert _mount("-o", f"remount,size={size}", str(self.folder))


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Yield a disk at ``folder``; the test is skipped where a full one can neither be mounted nor imitated."""
    if os.name == "nt":
        pytest.skip("Windows can neither mount a small disk nor limit the size of files")
    folder.mkdir()
    if not _mount("-t", "tmpfs", "-o", f"size={_LARGE}", "tmpfs", str(folder)):
        yield SmallDisk(folder, mounted=False)
        return
    try:
        yield SmallDisk(folder, mounted=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below ``folder`` in the block; the test is skipped where that is not possible."""
    if os.name == "nt":
        pytest.skip("Windows can neither mount a disk to read from nor take a folder's permission")
    if os.geteuid():
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    if not _mount("--bind", str(folder), str(folder)) or not _mount("-o", "remount,bind,ro", str(folder)):
        pytest.skip("this root, whom permissions do not stop, may mount no disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*words: str) -> bool:
    """Call mount(8); return whether it did as told."""
    try:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
