"""Reading of a folder of pictures with one subfolder for each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.data.decoder import Decoder
from infer.data.pictures import Pictures, Streamed
from infer.data.splits import Splits, known_duplicates, required_fraction, stratified

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"))
"""Files with these suffixes, in any case, are read as pictures."""

_MAX_UNREADABLE = 0.01
"""A folder with a larger share of unreadable pictures is refused; a smaller share is skipped and listed."""

_TINY_FILE = 8192
"""Bytes below which threads slow decoding down: passing a picture between them takes longer than decoding it."""


def folder_splits(name: str, root: Path, decoder: Decoder, test_fraction: float | None, seed: int) -> Splits:
    """Read the pictures below ``root``.

    There is either train/<class>/* and test/<class>/* (or val/<class>/*), or <class>/* alone. A val/ beside test/
    becomes the validation split. Where there is no test split, ``test_fraction`` of each class is taken for it, chosen
    by ``seed``, and near-duplicates stay together unless the pictures are streamed.

    Raises:
        UserError: if a split or a class has no readable picture, or more than 1 % of the pictures cannot be read.
    """
    if not root.is_dir():
        raise UserError(f"root={root}: no such folder; give one with train/<class>/ and test/<class>/ pictures")
    has_train = (root / "train").is_dir()
    test_root = _test_root(root) if has_train else None
    if has_train and test_root is None:
        raise UserError(f"root={root}: has train/ but no test/; add test/<class>/, or put <class>/ in root")
    train_root = root / "train" if has_train else root
    classes = _class_folders(train_root)
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no class folders"
        raise UserError(f"root={root}: {found} in {train_root}; two or more folders of pictures are needed")
    train_files = _files(train_root, classes)
    if test_root is None:
        share = required_fraction(name, test_fraction)
        train, notes = _read(train_root, train_files, classes, decoder)
        return _divided(Splits(name, classes, train, train, notes), share, seed)
    train, notes = _read(train_root, train_files, classes, decoder)
    test, test_notes = _read(test_root, _test_files(test_root, classes), classes, decoder)
    splits = Splits(name, classes, train, test, (*notes, *test_notes))
    return _with_validation(splits, root / "val", test_root, decoder)


def _with_validation(splits: Splits, val_root: Path, test_root: Path, decoder: Decoder) -> Splits:
    """Add the pictures of ``val_root``, unless it is missing, without classes, or already the test split."""
    if test_root == val_root or not val_root.is_dir() or not _class_folders(val_root):
        return splits
    validation, notes = _read(val_root, _test_files(val_root, splits.classes), splits.classes, decoder)
    return replace(splits, validation=validation, notes=(*splits.notes, *notes))


def _divided(whole: Splits, share: float, seed: int) -> Splits:
    """Move ``share`` of each class's train pictures to the test split."""
    groups = known_duplicates(whole.train)
    train, test = stratified(whole.train.targets, share, seed, groups)
    notes = (*whole.notes, *_duplicate_notes(groups, train, test))
    return replace(whole, train=whole.train.part(train), test=whole.train.part(test), notes=notes)


def _duplicate_notes(groups: Tensor | None, train: Tensor, test: Tensor) -> list[str]:
    """Describe the near-duplicates in a divided set."""
    if groups is None:
        return ["near-duplicates were not looked for: the pictures are streamed"]
    notes = []
    repeated = groups[groups.bincount()[groups] > 1]
    if len(repeated):
        sets = len(repeated.unique())
        notes.append(
            f"{len(repeated)} pictures are near-duplicates of another, {sets} sets of them; a split keeps each together"
        )
    if divided := len(set(groups[train].tolist()) & set(groups[test].tolist())):
        notes.append(f"{divided} sets of near-duplicates had to be divided, because a class had nothing else")
    return notes


def _class_folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """List every picture below ``root``/<class>/ with its class number."""
    files = [
        (Path(where, name), number)
        for number, class_name in enumerate(classes)
        for where, _, names in sorted(os.walk(root / class_name))
        for name in sorted(names)
        if Path(name).suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UserError(f"root={root}: no pictures in it; known are {', '.join(sorted(SUFFIXES))}")
    return files


def _test_root(root: Path) -> Path | None:
    """Return ``root``/test, or val if there is no test or, as in Tiny-ImageNet and ImageNet, test has no classes."""
    test, val = root / "test", root / "val"
    if val.is_dir() and (not test.is_dir() or _class_folders(test) in ([], ["images"])):
        return val
    return test if test.is_dir() else None


def _test_files(root: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """List the pictures of a test or validation folder; Tiny-ImageNet has a table instead of class folders."""
    table = root / "val_annotations.txt"
    if table.is_file():
        number = {name: number for number, name in enumerate(classes)}
        rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if len(row) > 1]
        unknown = {row[1] for row in rows} - set(classes)
    else:
        rows, unknown = [], set(_class_folders(root)) - set(classes)
    if unknown:
        raise UserError(f"root={root.parent}: {root.name}/ has classes that train/ lacks: {', '.join(sorted(unknown))}")
    return [(root / "images" / row[0], number[row[1]]) for row in rows] if rows else _files(root, classes)


def _read(
    root: Path, files: Sequence[tuple[Path, int]], classes: Sequence[str], decoder: Decoder
) -> tuple[Pictures | Streamed, tuple[str, ...]]:
    """Read the files of one split, or prepare to stream them; also return notes about skipped files."""
    targets = torch.tensor([number for _, number in files])
    if decoder.streams(len(files)):
        _require_all(root, targets, classes)
        return Streamed([file for file, _ in files], targets, decoder), ()
    images, readable = _decoded([file for file, _ in files], decoder)
    bad = [str(file) for (file, _), fine in zip(files, readable, strict=True) if not fine]
    if len(bad) > _MAX_UNREADABLE * len(files):
        raise UserError(f"root={root}: {len(bad)} of {len(files)} pictures cannot be read: {_first_few(bad)}")
    kept = torch.tensor(readable)
    _require_all(root, targets[kept], classes)
    notes = (f"{len(bad)} of {len(files)} pictures in {root} skipped, unreadable: {_first_few(bad)}",) if bad else ()
    return Pictures(images[kept], targets[kept]), notes


def _decoded(files: Sequence[Path], decoder: Decoder) -> tuple[Tensor, list[bool]]:
    """Decode ``files`` into uint8 [N, ch, H, W]; also return which of them could be read."""
    images = torch.empty(len(files), *decoder.shape, dtype=torch.uint8)
    tiny = files[0].stat().st_size < _TINY_FILE
    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it decodes
        mapped = map if tiny else pool.map
        return images, list(mapped(lambda index: decoder.decode(files[index], images[index]), range(len(files))))


def _require_all(root: Path, targets: Tensor, classes: Sequence[str]) -> None:
    """Refuse a split in which a class has no picture."""
    missing = [c for c, count in zip(classes, targets.bincount(minlength=len(classes)), strict=True) if not count]
    if missing:
        raise UserError(f"root={root}: no readable picture of {_first_few(missing)}")


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
