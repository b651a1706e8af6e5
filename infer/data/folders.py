"""Reading data sets: scikit-learn's digits, torchvision's downloads, and folders of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.data import duplicates as near
from infer.data.layout import Layout
from infer.data.pictures import Pictures, Splits, Streamed, stratified

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"))
UNREADABLE_SHARE = 0.01
"""Above this share of unreadable pictures a folder is refused; below it they are skipped and named."""


def digits(name: str, test_fraction: float, split_seed: int) -> Splits:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8, grey; split with equal shares of each class."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    targets = torch.from_numpy(bunch.target).long()
    train, test = stratified(targets, test_fraction, split_seed)
    return Splits(
        name,
        [str(number) for number in range(10)],
        Pictures(images[train], targets[train]),
        Pictures(images[test], targets[test]),
    )


def torchvision_set(name: str, dataset: str, folder: Path) -> Splits:
    """A data set of torchvision, downloaded into ``folder`` where it is not there yet."""
    import torchvision

    parts = []
    try:
        for train in (True, False):
            parts.append(getattr(torchvision.datasets, dataset)(folder, train=train, download=True))
    except Exception as error:  # torchvision raises what urllib, tarfile, zlib and its own checks raise
        raise UserError(
            f"dataset={name}: {dataset} is not in {folder} and could not be downloaded ({error}); put the archive "
            f"that torchvision.datasets.{dataset} names there, or pass dataset.root=<folder with train/<class>/ and "
            "test/<class>/ pictures>"
        ) from error
    splits = []
    for part in parts:
        images = torch.as_tensor(part.data)
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        splits.append(Pictures(images, torch.as_tensor(part.targets).long()))
    return Splits(name, [str(c) for c in parts[0].classes], splits[0], splits[1])


def folder(name: str, root: Path, layout: Layout, test_fraction: float | None, split_seed: int) -> Splits:
    """Pictures below ``root``: train/<class>/* and test/<class>/* (or val/), or <class>/* alone, split by seed.

    A val/ beside test/ is for choosing.

    A split keeps near-duplicates together where the pictures are in memory (infer/data/near.py).
    Raises :class:`UserError` where there is nothing to learn from; names what it had to skip in ``notes``.
    """
    if not root.is_dir():
        raise UserError(f"dataset.root={root}: no such folder; give one with train/<class>/ and test/<class>/ pictures")
    divided = (root / "train").is_dir()
    test_root = _test_root(root) if divided else None
    if divided and test_root is None:
        raise UserError(f"dataset.root={root}: has train/ but no test/; add test/<class>/, or put <class>/ in root")
    train_root = root / "train" if divided else root
    classes = _class_folders(train_root)
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no class folders"
        raise UserError(f"dataset.root={root}: {found} in {train_root}; two or more folders of pictures are needed")
    train, notes = _pictures(train_root, _files(train_root, classes), classes, layout)
    if test_root is None:
        return _divided(Splits(name, classes, train, train, notes), test_fraction or 0.2, split_seed)
    test, more = _pictures(test_root, _test_files(test_root, classes), classes, layout)
    val = root / "val"
    if test_root == val or not val.is_dir() or not _class_folders(val):
        return Splits(name, classes, train, test, (*notes, *more))
    validation, most = _pictures(val, _test_files(val, classes), classes, layout)
    return Splits(name, classes, train, test, (*notes, *more, *most), validation=validation)


def _divided(whole: Splits, share: float, seed: int) -> Splits:
    """With that share of each class of its train pictures, near-duplicates together, in the place of the test ones."""
    groups = near.groups(whole.train.images) if isinstance(whole.train, Pictures) else None
    train, test = stratified(whole.train.targets, share, seed, groups)
    notes = (*whole.notes, *_alike(groups, train, test))
    return replace(whole, train=whole.train.part(train), test=whole.train.part(test), notes=notes)


def _alike(groups: Tensor | None, train: Tensor, test: Tensor) -> list[str]:
    """What there is to say of near-duplicates in the parts of a split."""
    if groups is None:
        return ["near-duplicates were not looked for: the pictures are streamed"]
    found = []
    repeated = groups[groups.bincount()[groups] > 1]
    if len(repeated):
        sets = len(repeated.unique())
        found.append(
            f"{len(repeated)} pictures are near-duplicates of another, {sets} sets of them; a split keeps each together"
        )
    if divided := len(set(groups[train].tolist()) & set(groups[test].tolist())):
        found.append(f"{divided} sets of near-duplicates had to be divided, because a class had nothing else")
    return found


def _class_folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Every picture below ``root``/<class>/ and its class number."""
    files = [
        (Path(where, name), number)
        for number, class_name in enumerate(classes)
        for where, _, names in sorted(os.walk(root / class_name))
        for name in sorted(names)
        if Path(name).suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UserError(f"dataset.root={root}: no pictures in it; known are {', '.join(sorted(SUFFIXES))}")
    return files


def _test_root(root: Path) -> Path | None:
    """``root``/test, or val where there is none or, as in Tiny-ImageNet and ImageNet, it has no classes."""
    test, val = root / "test", root / "val"
    if val.is_dir() and (not test.is_dir() or _class_folders(test) in ([], ["images"])):
        return val
    return test if test.is_dir() else None


def _test_files(root: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """The test pictures of a divided folder; Tiny-ImageNet has a table in the place of class folders."""
    table = root / "val_annotations.txt"
    if table.is_file():
        number = {name: number for number, name in enumerate(classes)}
        rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if len(row) > 1]
        unknown = {row[1] for row in rows} - set(classes)
    else:
        rows, unknown = [], set(_class_folders(root)) - set(classes)
    if unknown:
        raise UserError(
            f"dataset.root={root.parent}: {root.name}/ has classes that train/ lacks: {', '.join(sorted(unknown))}"
        )
    return [(root / "images" / row[0], number[row[1]]) for row in rows] if rows else _files(root, classes)


def _pictures(
    root: Path, files: Sequence[tuple[Path, int]], classes: Sequence[str], layout: Layout
) -> tuple[Pictures | Streamed, tuple[str, ...]]:
    """Those files, in memory or streamed, and notes of what had to be skipped."""
    targets = torch.tensor([number for _, number in files])
    if layout.streams(len(files)):
        _require_all(root, targets, classes)
        return Streamed([file for file, _ in files], targets, layout), ()
    images = torch.empty(len(files), *layout.shape, dtype=torch.uint8)
    # Pillow lets go of the interpreter while it decodes; of tiny pictures, handing it round takes longer than it saves.
    tiny = files[0][0].stat().st_size < 8192
    with ThreadPoolExecutor() as pool:
        each = map if tiny else pool.map
        read = list(each(lambda i: layout.decode(files[i][0], images[i]), range(len(files))))
    bad = [str(file) for (file, _), fine in zip(files, read, strict=True) if not fine]
    if len(bad) > UNREADABLE_SHARE * len(files):
        raise UserError(f"dataset.root={root}: {len(bad)} of {len(files)} pictures cannot be read: {_some(bad)}")
    whole = torch.tensor(read)
    _require_all(root, targets[whole], classes)
    notes = (f"{len(bad)} of {len(files)} pictures in {root} skipped, unreadable: {_some(bad)}",) if bad else ()
    return Pictures(images[whole], targets[whole]), notes


def _require_all(root: Path, targets: Tensor, classes: Sequence[str]) -> None:
    missing = [c for c, count in zip(classes, targets.bincount(minlength=len(classes)), strict=True) if not count]
    if missing:
        raise UserError(f"dataset.root={root}: no readable picture of {_some(missing)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
