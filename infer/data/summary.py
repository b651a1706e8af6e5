"""Summary of a data set and its picture files, for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from infer.core.errors import UserError
from infer.core.images import PictureError, open_image
from infer.core.paths import user_path
from infer.data.duplicates import duplicate_groups
from infer.data.layout import find_layout
from infer.data.pictures import Pictures
from infer.data.splits import Splits


def summarise(data: Splits, root: str | None) -> dict[str, Any]:
    """Summarise a data set.

    Args:
        data: the data set.
        root: the folder that its pictures were read from; None where there is none.

    Returns:
        JSON values: the class names, the number of pictures of each split and of the smallest and largest class, the
        notes from reading, ``alike_across``, the number of test pictures that have a near-duplicate among the train
        pictures (None if the pictures are streamed), ``folder_bytes``, the bytes of the files of the train pictures
        (None where a picture has no file), and ``files``, the number of picture files that are read below
        ``root`` (None without a root, or where it is gone). With files also formats and modes with their counts, and
        width and height of the smallest, largest and commonest file in pixels.
    """
    counts = data.train.targets.bincount(minlength=len(data.classes))
    return {
        "classes": data.classes,
        "train": len(data.train),
        "test": len(data.test),
        "validation": len(data.validation) if data.validation is not None else None,
        "smallest_class": int(counts.min()),
        "largest_class": int(counts.max()),
        "side": data.side,
        "notes": list(data.notes),
        "alike_across": _duplicates_across(data),
        "folder_bytes": _bytes_on_disk(data.train.files),
        **(_file_summary(user_path(root), data.classes) if root is not None else {"files": None}),
    }


def _duplicates_across(data: Splits) -> int | None:
    """Count the test pictures that have a near-duplicate among the train pictures."""
    if not isinstance(data.train, Pictures) or not isinstance(data.test, Pictures):
        return None
    groups = duplicate_groups(torch.cat([data.train.images, data.test.images]))
    return int(torch.isin(groups[len(data.train) :], groups[: len(data.train)]).sum())


def _bytes_on_disk(files: Sequence[Path | None]) -> int | None:
    """Return the bytes of picture files; None where a picture has none, or it is gone."""
    try:
        return sum(file.stat().st_size for file in files if file) if files and all(files) else None
    except OSError:
        return None


def _file_summary(root: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Count formats and modes of the picture files of ``classes`` that are read below ``root``, and measure them."""
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    try:
        parts = find_layout(root, classes).parts.values()
    except UserError:  # the folder is gone or changed since it was read
        return {"files": None}
    for file in (file for part in parts for file in part.files):
        # the notes from reading name an unreadable file.
        with suppress(PictureError), open_image(file) as picture:
            formats[picture.format or ""] += 1
            modes[picture.mode] += 1
            sizes[picture.size] += 1
    if not sizes:
        return {"files": None}
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return {
        "files": sum(formats.values()),
        "formats": dict(formats.most_common()),
        "modes": dict(modes.most_common()),
        "smallest": list(by_area[0]),
        "largest": list(by_area[-1]),
        "commonest": list(sizes.most_common(1)[0][0]),
    }
