"""Checks that class folders are classes: not the parts of the data, nor folders around parts or classes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from infer.core.errors import UserError
from infer.core.images import PICTURE_FORMATS, file_format
from infer.data.walk import Walk, printable

PART_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
"""Usual names of the folders of each part, in any case."""

_PART_WORD = re.compile(
    r"(?<![^\W\d_])(?:(?P<train>train(?:ing)?)|(?P<test>test(?:ing)?)|(?P<val>val(?:id(?:ation)?)?))"
    r"(?=$|[\W\d_]|set|data|ima?ge?s?)"
)
"""The name of a part as a word of a longer name, as in ``seg_train``, ``test-images`` and ``valset``."""


class _Inside(NamedTuple):
    """What a class folder holds.

    Args:
        folder: the class folder, or the one inside it, where each on the way holds one folder and no picture.
        names: of the folders in ``folder``.
        passed: names of the folders on the way.
        pictures: number of those in ``folder``, or that of ``names`` if there are more.
    """

    folder: Path
    names: list[str]
    passed: list[str]
    pictures: int


def require_classes(walk: Walk, folder: Path, classes: Sequence[str]) -> None:
    """Refuse folders that look like ``classes`` but are parts of the data, or hold parts or classes themselves.

    Raises:
        UserError: with the folders that say so, and the cure.
    """
    at = f"root={printable(walk.root)}"
    if parts := _parts_among(classes):
        found = " and ".join(f"{printable(name)}/" for name in parts.values())
        raise UserError(
            f"{at}: {found} look like parts of the data and not like classes; call such folders "
            f"{'/ and '.join(parts)}/, and put <class>/ folders directly into them; or rename them, where they are "
            "classes"
        )
    insides = {own: _inside(walk, folder / own) for own in classes}
    if shared := _shared(insides):
        name, holders = shared
        one, other = (printable(own) for own in holders[:2])
        name = printable(name)
        raise UserError(
            f"{at}: {one}/, {other}/ and so on hold folders of the same names, such as {name}/, so what is a class is "
            f"not clear; move {one}/{name}/ to {name}/{one}/ where {name} is a part of the data or the class, or else "
            "its pictures into the folder above"
        )
    for own, inside in insides.items():
        if parts := _parts_among(inside.names):
            found = " and ".join(f"{printable(name)}/" for name in parts.values())
            raise UserError(
                f"{at}: {printable(own)}/ holds {found}, so it is no class; give root={printable(inside.folder)}, or "
                "put the pictures of a class into one folder"
            )


def is_picture(file: Path) -> bool:
    """Return whether a file is a picture by its first bytes, or is called one."""
    if file.suffix.lower() in _suffixes():
        return True
    with suppress(OSError):
        return file_format(file) is not None
    return False


@cache
def _suffixes() -> frozenset[str]:
    """Suffixes of the known formats."""
    own = {*PICTURE_FORMATS, "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in own)


def _parts_among(names: Sequence[str]) -> dict[str, str]:
    """Return names that differ in the word for a part alone, by their part; empty if there are none."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        folded = name.casefold()
        if match := _PART_WORD.search(folded):
            rest = folded[: match.start()] + "/" + folded[match.end() :]
            found[rest].setdefault(str(match.lastgroup), name)
    parts = next((own for own in found.values() if len(own) > 1), {})
    return {part: parts[part] for part in PART_NAMES if part in parts}


def _inside(walk: Walk, folder: Path) -> _Inside:
    """Look into a class folder, through folders that hold nothing but one folder, as images/ in Tiny-ImageNet."""
    passed: list[str] = []
    while True:
        listing, names = walk.listing(folder), walk.folders(folder)
        pictures = (name for name in listing.files if is_picture(folder / name))
        count = sum(1 for _ in islice(pictures, len(names)))
        if count or len(names) != 1 or listing.links:
            return _Inside(folder, names, passed, count)
        passed.append(names[0])
        folder = folder / names[0]


def _shared(insides: dict[str, _Inside]) -> tuple[str, list[str]] | None:
    """Return the name of a folder that several classes hold and should not, and those classes; None if there is none.

    That is the usual name of a part in any two; or else any of two names or more that are in every class with more
    folders than pictures of its own, where most classes are so.
    """
    usual = {name for names in PART_NAMES.values() for name in names}
    held = {own: {name.casefold() for name in inside.passed + inside.names} for own, inside in insides.items()}
    parts = Counter(name for names in held.values() for name in names & usual)
    shared = {name for name, count in parts.items() if count > 1}
    if not shared:
        nested = [
            {name.casefold() for name in inside.names}
            for inside in insides.values()
            if inside.pictures < len(inside.names)
        ]
        common = set.intersection(*nested) if 2 * len(nested) > len(insides) > 1 else set()
        shared = common if len(common) > 1 else set()
    if not shared:
        return None
    name = min(shared)
    return name, [own for own, names in held.items() if name in names]
