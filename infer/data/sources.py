"""Reading data sets: scikit-learn's digits, torchvision's downloads, and folders of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from infer.data.pictures import Pictures, Splits
from infer.errors import UserError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"))
UNREADABLE_SHARE = 0.01
"""Above this share of unreadable pictures a folder is refused; below it they are skipped and named."""


def digits(name: str, test_fraction: float, split_seed: int) -> Splits:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8, grey; split with equal shares of each class."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    targets = torch.from_numpy(bunch.target).long()
    train, test = _split(targets, test_fraction, split_seed)
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


def folder(name: str, root: Path, side: int, channels: int, test_fraction: float | None, split_seed: int) -> Splits:
    """Pictures below ``root``: train/<class>/* and test/<class>/*, or <class>/* alone, which is split by seed.

    Every picture is turned upright, converted to ``channels`` (1 grey, 3 colour) and resized to ``side`` x ``side``.
    Raises :class:`UserError` where there is nothing to learn from; names what it had to skip in ``notes``.
    """
    if not root.is_dir():
        raise UserError(f"dataset.root={root}: no such folder; give one with train/<class>/ and test/<class>/ pictures")
    divided = (root / "train").is_dir()
    if divided and not (root / "test").is_dir():
        raise UserError(f"dataset.root={root}: has train/ but no test/; add test/<class>/, or put <class>/ in root")
    train_root = root / "train" if divided else root
    classes = _class_folders(train_root)
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no class folders"
        raise UserError(f"dataset.root={root}: {found} in {train_root}; two or more folders of pictures are needed")
    images, targets, notes = _read(train_root, classes, side, channels)
    if not divided:
        train, test = _split(targets, test_fraction or 0.2, split_seed)
        parts = [Pictures(images[train], targets[train]), Pictures(images[test], targets[test])]
    else:
        unknown = set(_class_folders(root / "test")) - set(classes)
        if unknown:
            raise UserError(f"dataset.root={root}: test/ has classes that train/ lacks: {', '.join(sorted(unknown))}")
        test_images, test_targets, test_notes = _read(root / "test", classes, side, channels)
        parts = [Pictures(images, targets), Pictures(test_images, test_targets)]
        notes += test_notes
    return Splits(name, classes, parts[0], parts[1], notes)


def _class_folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _read(root: Path, classes: Sequence[str], side: int, channels: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Decode every picture of ``root``/<class>/: images, targets, and notes of what had to be skipped."""
    files = [
        (Path(where, name), number)
        for number, class_name in enumerate(classes)
        for where, _, names in sorted(os.walk(root / class_name))
        for name in sorted(names)
        if Path(name).suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UserError(f"dataset.root={root}: no pictures in it; known are {', '.join(sorted(SUFFIXES))}")
    images = torch.empty(len(files), channels, side, side, dtype=torch.uint8)
    # Pillow lets go of the interpreter while it decodes; of tiny pictures, handing it round takes longer than it saves.
    tiny = files[0][0].stat().st_size < 8192
    with ThreadPoolExecutor() as pool:
        each = map if tiny else pool.map
        read = list(each(lambda i: _decode(files[i][0], images[i], side, channels), range(len(files))))
    bad = [str(file) for (file, _), fine in zip(files, read, strict=True) if not fine]
    if len(bad) > UNREADABLE_SHARE * len(files):
        raise UserError(f"dataset.root={root}: {len(bad)} of {len(files)} pictures cannot be read: {_some(bad)}")
    whole = torch.tensor(read)
    targets = torch.tensor([number for _, number in files])[whole]
    missing = [c for c, count in zip(classes, targets.bincount(minlength=len(classes)), strict=True) if not count]
    if missing:
        raise UserError(f"dataset.root={root}: no readable picture of {_some(missing)}")
    notes = (f"{len(bad)} of {len(files)} pictures in {root} skipped, unreadable: {_some(bad)}",) if bad else ()
    return images[whole], targets, notes


def _decode(file: Path, into: Tensor, side: int, channels: int) -> bool:
    """Write one picture into ``into`` uint8 [ch, side, side]; False where it cannot be read."""
    try:
        with Image.open(file) as opened:
            picture: Image.Image = opened
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip and not scale
                picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
            picture = picture.convert("L" if channels == 1 else "RGB")
            if picture.size != (side, side):
                picture = picture.resize((side, side), Image.Resampling.BILINEAR)
    except MemoryError:
        raise
    except Exception:  # Pillow has many ways to say that a file is broken, struct.error among them
        return False
    pixels = torch.from_numpy(np.array(picture))
    into.copy_(pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1))
    return True


def _split(targets: Tensor, test_fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions of a train and a test part, with the same share of each class in both: int64, ascending."""
    generator = torch.Generator().manual_seed(seed)
    test = torch.zeros(len(targets), dtype=torch.bool)
    for number in targets.unique():
        members = (targets == number).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        if len(members) < 2:
            raise UserError(f"dataset.root: class number {int(number)} has one picture; a test split needs two")
        test[members[: max(1, round(test_fraction * len(members)))]] = True
    return (~test).nonzero().flatten(), test.nonzero().flatten()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
