"""The layout of a data set on disk: which folder is a part, which a class, and which files are pictures."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from infer.core.errors import UserError
from infer.core.progress import counted
from infer.data.class_folders import PART_NAMES, is_picture, require_classes
from infer.data.options import no_such_folder
from infer.data.walk import NO_PICTURES, Kind, Walk, printable

_TABLE = "val_annotations.txt"


class Part(NamedTuple):
    """The pictures of one part of a data set, in a fixed order: its folder, N files, and N class numbers."""

    root: Path
    files: list[Path]
    targets: list[int]


class Layout(NamedTuple):
    """What a data set on disk consists of.

    Args:
        classes: the names of the class folders, sorted.
        parts: ``train``; ``test`` and ``validation`` where there are folders for them.
        notes: one line for each kind of thing that is left out.
    """

    classes: list[str]
    parts: dict[str, Part]
    notes: tuple[str, ...]


def find_layout(root: Path, known: Sequence[str] = ()) -> Layout:
    """Find the parts, the classes and the picture files below ``root``; no picture is decoded.

    There is either train/<class>/* and test/<class>/* (or val/<class>/*), or <class>/* alone. A val/ beside test/ is
    the validation part. Every usual name of a part counts, in any case. A file is a picture by its first bytes, or
    by its suffix: one with the suffix of a picture that is none counts among the unreadable ones.

    Args:
        root: the folder.
        known: classes of an earlier file. They come first, in this order, and need no folder; a class that comes to
            them needs no test pictures.

    Raises:
        UserError: if the folders cannot be told apart, or a class has no picture.
    """
    if not os.path.isdir(root):
        raise no_such_folder("root", printable(root))
    walk = Walk(root)
    roots = _part_roots(walk)
    own = walk.folders(roots["train"])
    classes = [*known, *(name for name in own if name not in known)]
    _require_names(root, classes)
    if len(own) < (1 if known else 2):
        raise _too_few(walk, roots["train"], own, "one" if known else "two")
    require_classes(walk, roots["train"], own)
    parts = {name: _from_table(folder, classes) or Part(folder, [], []) for name, folder in roots.items()}
    places = [
        (part, number, part.root / classes[number])
        for part in parts.values()
        if not part.files
        for number in _numbers(walk, part.root, classes)
    ]
    for (part, number, _), files in zip(places, walk.files([folder for *_, folder in places]), strict=True):
        pictures = [file for file in files if is_picture(file)]
        if len(pictures) < len(files):
            walk.left_out[NO_PICTURES] += {*files} - {*pictures}
        part.files.extend(pictures)
        part.targets.extend([number] * len(pictures))
    layout = Layout(classes, parts, tuple(_notes(walk, roots)))
    _require_pictures(layout, known)
    return layout


def _too_few(walk: Walk, folder: Path, classes: Sequence[str], least: str) -> UserError:
    """Return the error for fewer class folders in ``folder`` than ``least``."""
    found = f"one class, {printable(classes[0])}," if classes else "no class folders"
    wrapped = ""
    if classes and walk.folders(inner := folder / classes[0]):
        into = f"; or give root={printable(inner)}"
        wrapped = into if folder == walk.root else f"; or move what is in {printable(inner)} up into {folder.name}/"
    why = "".join(f" ({note})" for note in _left_out(walk))
    return UserError(
        f"root={printable(walk.root)}: {found} in {printable(folder)}{why}; {least} or more folders of pictures are "
        f"needed{wrapped}"
    )


def _part_roots(walk: Walk) -> dict[str, Path]:
    """Return the folders of the parts: ``train``, and ``test`` and ``validation`` where there are any."""
    root, at, names = walk.root, f"root={printable(walk.root)}", walk.folders(walk.root)
    found = {part: [name for name in names if name.casefold() in usual] for part, usual in PART_NAMES.items()}
    inner = {part: walk.folders(root / own[0]) for part, own in found.items() if own}
    if "train" not in inner:
        if parts := [found[part][0] for part in inner if len(inner[part]) > 1]:
            raise UserError(
                f"{at}: {parts[0]}/ has class folders, but there is no train/; add train/<class>/, or rename "
                f"{parts[0]}/ where it is a class"
            )
        return {"train": root}
    if twice := next((own for own in found.values() if len(own) > 1), None):
        raise UserError(
            f"{at}: {'/ and '.join(twice)}/ mean the same part of the data; keep one, or rename those that are classes"
        )
    train, test, val = (root / own[0] if own else None for own in found.values())
    assert train
    if not inner["train"]:
        raise UserError(
            f"{at}: {train.name}/ has no class folders; put its pictures into {train.name}/<class>/, or rename it "
            "where it is a class, because its name means the pictures to train on"
        )
    if val and inner.get("test", []) in ([], ["images"]):  # as in Tiny-ImageNet and ImageNet
        return {"train": train, "test": val}
    if not test:
        raise UserError(f"{at}: has {train.name}/ but no test/; add test/<class>/, or put <class>/ in root")
    return {"train": train, "test": test, **({"validation": val} if val and inner["val"] else {})}


def _require_names(root: Path, classes: Sequence[str]) -> None:
    """Refuse class folders whose names cannot be written, or cannot be told apart."""
    known: dict[str, str] = {}
    for name in classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"root={printable(root)}: the name of the class folder {os.fsencode(name)!r} is not UTF-8; rename it"
            ) from None
        if (other := known.setdefault(unicodedata.normalize("NFC", name), name)) != name:
            raise UserError(
                f"root={printable(root)}: the class folders {other!a} and {name!a} have one name, {name}, in "
                "two Unicode forms (NFC and NFD); put their pictures into one folder"
            )


def _numbers(walk: Walk, folder: Path, classes: Sequence[str]) -> list[int]:
    """Return the numbers of the classes that have a folder in ``folder``; refuse classes that train lacks."""
    names = set(walk.folders(folder))
    _require_known(folder, names - set(classes), classes)
    return [number for number, name in enumerate(classes) if name in names]


def _require_known(folder: Path, unknown: set[str], classes: Sequence[str]) -> None:
    """Refuse classes of a part that train lacks."""
    at, known = f"root={printable(folder.parent)}", {unicodedata.normalize("NFC", name): name for name in classes}
    for name in sorted(unknown):
        if other := known.get(unicodedata.normalize("NFC", name)):
            raise UserError(
                f"{at}: the class {name!a} in {folder.name}/ and {other!a} in train "
                f"have one name, {other}, in two Unicode forms (NFC and NFD); rename one folder"
            )
    if unknown:
        raise UserError(f"{at}: {folder.name}/ has classes that train/ lacks: {first_few(sorted(unknown))}")


def _from_table(folder: Path, classes: Sequence[str]) -> Part | None:
    """Return the pictures of a table, which Tiny-ImageNet has instead of class folders; None where there is none."""
    table = folder / _TABLE
    if not table.is_file():
        return None
    number = {name: number for number, name in enumerate(classes)}
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8", errors="replace").splitlines()]
    rows = [row for row in rows if len(row) > 1]
    _require_known(folder, {row[1] for row in rows} - set(classes), classes)
    for name, *_ in rows:
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise UserError(
                f"root={printable(folder.parent)}: {folder.name}/{_TABLE} names {printable(name)}, which lies outside "
                f"{folder.name}/images/; take the line away"
            )
    return Part(folder, [folder / "images" / row[0] for row in rows], [number[row[1]] for row in rows])


def _require_pictures(layout: Layout, known: Sequence[str]) -> None:
    """Refuse a part in which a class has no picture.

    Where classes are ``known``, that is a class to be trained on that is none of them, and a part without any picture.
    """
    for name, part in layout.parts.items():
        found = {layout.classes[number] for number in part.targets}
        needed = [] if known and name != "train" else [each for each in layout.classes if each not in known]
        if (missing := [each for each in needed if each not in found]) or not found:
            why = f" ({'; '.join(layout.notes)})" if layout.notes else ""
            of = first_few(missing or layout.classes)
            raise UserError(f"root={printable(part.root)}: no readable picture of {of}{why}")


def _notes(walk: Walk, roots: Mapping[str, Path]) -> list[str]:
    """Say what is left out."""
    notes = []
    if roots["train"] != walk.root:
        own = {folder.name for folder in roots.values()} | {"test", "testing"}
        if other := [name for name in walk.folders(walk.root) if name not in own and name.casefold() not in own]:
            notes.append(f"not read, as they lie beside {roots['train'].name}/: {first_few(other)}")
    for folder in dict.fromkeys((walk.root, *roots.values())):
        if loose := [name for name in walk.listing(folder).files if is_picture(folder / name)]:
            notes.append(
                f"left out: {counted(len(loose), 'picture')} of no class in {printable(folder)}, {first_few(loose)}"
            )
    return notes + _left_out(walk)


def _left_out(walk: Walk) -> list[str]:
    """Count, in one line, what the walk left out."""
    kinds = {kind: sorted(paths) for kind, paths in sorted(walk.left_out.items()) if paths}
    told = [
        f"{len(paths)} {kind[len(paths) > 1]} ({_examples(walk.root, kind, paths)})" for kind, paths in kinds.items()
    ]
    return [f"left out: {', '.join(told)}"] if told else []


def _examples(root: Path, kind: Kind, paths: Sequence[Path]) -> str:
    """Name some of the ``paths``; of files that are no pictures, count the suffixes."""
    names = [path.relative_to(root) for path in paths]
    if kind != NO_PICTURES:
        return first_few(names, 2)
    suffixes = Counter(name.suffix.lower() or "without suffix" for name in names).most_common(5)
    return f"{', '.join(f'{count} {printable(suffix)}' for suffix, count in suffixes)}, such as {printable(names[0])}"


def first_few(names: Sequence[Path | str], most: int = 5) -> str:
    """Return the first names in one line, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
