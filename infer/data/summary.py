"""What a folder of pictures is like, before anything is learnt of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from infer.data import duplicates as near
from infer.data.folders import SUFFIXES
from infer.data.pictures import Pictures, Splits


def survey(data: Splits, root: str | None) -> dict[str, Any]:
    """The classes and how many pictures they have; what reading met (``notes``), and how many test pictures have a
    near-duplicate among the train pictures (None: not looked for, they are streamed); of the ``files`` below ``root``
    how many they are, of what formats and modes, and width and height of the smallest, the largest and the commonest.
    """
    counts = data.train.targets.bincount(minlength=len(data.classes))
    found: dict[str, Any] = {
        "classes": data.classes,
        "train": len(data.train),
        "test": len(data.test),
        "validation": len(data.validation) if data.validation is not None else None,
        "smallest_class": int(counts.min()),
        "largest_class": int(counts.max()),
        "side": data.side,
        "notes": list(data.notes),
        "alike_across": _alike(data),
        "files": None,
    }
    if root is None:
        return found
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    for file in _files(Path(root)):
        try:
            with Image.open(file) as picture:
                formats[picture.format or ""] += 1
                modes[picture.mode] += 1
                sizes[picture.size] += 1
        except Exception:  # as in Layout.decode, whose caller names it among the notes
            continue
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return {
        **found,
        "files": sum(formats.values()),
        "formats": dict(formats.most_common()),
        "modes": dict(modes.most_common()),
        "smallest": list(by_area[0]),
        "largest": list(by_area[-1]),
        "commonest": list(sizes.most_common(1)[0][0]),
    }


def _alike(data: Splits) -> int | None:
    if not isinstance(data.train, Pictures) or not isinstance(data.test, Pictures):
        return None
    groups = near.groups(torch.cat([data.train.images, data.test.images]))
    return int(torch.isin(groups[len(data.train) :], groups[: len(data.train)]).sum())


def _files(root: Path) -> Iterator[Path]:
    for where, _, names in os.walk(root, followlinks=True):
        yield from (Path(where, name) for name in names if Path(name).suffix.lower() in SUFFIXES)
