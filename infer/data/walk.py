"""Walks through folders: every folder once, without hidden and system entries, loops and special files."""

from __future__ import annotations

import os
import stat
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from infer.core.errors import escaped

_SYSTEM = {
    *("__macosx", "icon\r", "desktop.ini", "thumbs.db", "ehthumbs.db", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle"),
}
"""What systems put beside the files of a user; names with a leading dot are left out too."""

Kind = tuple[str, str]
"""What one entry that is left out is called, and what several are."""

NO_PICTURES: Kind = ("file that is no picture", "files that are no pictures")
_BROKEN: Kind = ("link that leads nowhere", "links that lead nowhere")
_AGAIN: Kind = ("link to a folder that is read anyway", "links to folders that are read anyway")
_SPECIAL: Kind = ("pipe, socket or device", "pipes, sockets and devices")
_CLOSED: Kind = ("folder that cannot be opened", "folders that cannot be opened")


class Listing(NamedTuple):
    """Sorted names in a folder: its own folders, links to folders, and regular files or links to such."""

    folders: list[str]
    links: list[str]
    files: list[str]


class Walk:
    """Lists folders and files below ``root``.

    A link to a folder is followed, unless that folder is read anyway or contains what is read: each is read once.
    Nothing is opened but folders.

    Args:
        root: an existing folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: dict[Kind, list[Path]] = defaultdict(list)
        self._seen: set[tuple[int, int]] = set()
        self._listings: dict[Path, Listing] = {}

    def listing(self, folder: Path) -> Listing:
        """Return what is in ``folder``."""
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        return self._listings[folder]

    def folders(self, folder: Path) -> list[str]:
        """Return the sorted names of the folders in ``folder``, of links to folders too."""
        listing = self.listing(folder)
        return sorted(listing.folders + listing.links)

    def files(self, folders: Sequence[Path]) -> list[list[Path]]:
        """List the files below each of ``folders``, which are all entered before a link is followed.

        Returns:
            Of each folder its files, sorted by their folder and then by their name.
        """
        for folder in folders:
            parent = folder.parent.resolve()
            self._seen |= {_identity(above) for above in (parent, *parent.parents, *folder.resolve().parents)}
        found: list[list[tuple[str, list[str]]]] = [[] for _ in folders]
        entered = [(number, folder) for number, folder in enumerate(folders) if self._enter(folder)]
        links = deque(link for number, folder in entered for link in self._read(number, folder, found[number]))
        while links:
            number, folder = links.popleft()
            if self._enter(folder):
                links.extend(self._read(number, folder, found[number]))
        return [[Path(where, name) for where, names in sorted(own) for name in names] for own in found]

    def _read(self, number: int, top: Path, found: list[tuple[str, list[str]]]) -> list[tuple[int, Path]]:
        """Add the files of ``top`` and of the folders in it to ``found``; return the links, each with ``number``."""
        links, below = [], [top]
        while below:
            folder = below.pop()
            listing = self.listing(folder)
            del self._listings[folder]  # the names of a large data set take memory
            found.append((str(folder), listing.files))
            below += [inner for name in listing.folders if self._enter(inner := folder / name)]
            links += [(number, folder / name) for name in listing.links]
        return links

    def _enter(self, folder: Path) -> bool:
        """Return whether ``folder`` is entered for the first time."""
        try:
            identity = _identity(folder)
        except OSError:
            self.left_out[_CLOSED].append(folder)
            return False
        if identity in self._seen:
            self.left_out[_AGAIN].append(folder)
            return False
        self._seen.add(identity)
        return True

    def _list(self, folder: Path) -> Listing:
        listing = Listing([], [], [])
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.name.casefold() not in _SYSTEM:
                        self._sort_in(entry, listing)
        except OSError:
            self.left_out[_CLOSED].append(folder)
        for names in listing:
            names.sort()
        return listing

    def _sort_in(self, entry: os.DirEntry[str], listing: Listing) -> None:
        """Add the name of ``entry`` to its list of ``listing``, or the entry to what is left out."""
        if entry.is_dir(follow_symlinks=False):
            listing.folders.append(entry.name)
            return
        try:
            mode = entry.stat().st_mode
        except OSError:
            self.left_out[_BROKEN].append(Path(entry.path))
            return
        if stat.S_ISDIR(mode):
            listing.links.append(entry.name)
        elif stat.S_ISREG(mode):
            listing.files.append(entry.name)
        else:
            self.left_out[_SPECIAL].append(Path(entry.path))


def _identity(folder: Path) -> tuple[int, int]:
    """What is the same for every path to one folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def printable(name: Path | str) -> str:
    """Return a name in one line that every terminal and file takes, whatever bytes it has."""
    return escaped(os.fsencode(name).decode("utf-8", "backslashreplace"))
