"""selected.csv: which train pictures a file stores, and why its method chose them."""

from __future__ import annotations

import logging
from pathlib import Path

from infer.core.files import write_bytes
from infer.core.paths import user_path
from infer.data import Splits
from infer.data.walk import printable
from infer.distilled.tables import cell, table
from infer.pipeline.assemble import Assembler

log = logging.getLogger("infer")

SELECTED = "selected.csv"

_COLUMNS = ("path", "class", "why")


def write_selected(assembler: Assembler, root: str | None, path: Path) -> None:
    """Write a line for each natural image of the set that ``assembler`` creates, in the order of the file.

    Its columns are path, class and why. A path starts at ``root``; a picture without a file has the number of its
    position among the train pictures, as in ``train/123``. Names are written as :func:`infer.distilled.tables.cell` has
    them. Nothing is written where the method creates its images.

    Args:
        assembler: of the set.
        root: folder that the pictures were read from; None where there is none.
        path: The file. It is written completely or not at all.

    Raises:
        UserError: If the file cannot be written.
    """
    naturals, data = assembler.naturals, assembler.context.data
    if naturals.indices is None:
        log.info("method=%s creates its images: there is no %s", assembler.options.method.name, SELECTED)
        return
    classes = [cell(name) for name in data.classes]
    chosen = zip(naturals.indices.tolist(), naturals.targets.tolist(), naturals.reasons, strict=True)
    rows = [[picture_name(data, index, root), classes[target], reason] for index, target, reason in chosen]
    write_bytes(path, table(_COLUMNS, rows))


def picture_name(data: Splits, index: int, root: str | None) -> str:
    """Return the path from ``root`` of the train picture at ``index``, or its number, as a cell of a table."""
    files = data.train.files
    file = files[index] if files else None
    if file is None or root is None:
        return f"train/{index}"
    return cell(printable(file.relative_to(user_path(root)).as_posix()))
