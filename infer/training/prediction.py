"""Prediction: the classes of picture files by a stored student."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from infer.core.errors import UserError
from infer.core.images import PictureError
from infer.core.paths import user_path
from infer.core.progress import track
from infer.data.class_folders import is_picture
from infer.data.walk import Walk, printable
from infer.distilled.tables import cell, rounded
from infer.models.weights import require_finite
from infer.training.student_file import StoredStudent

_BATCH = 64
_COLUMNS = ("file", "class", "unsure", "error")


class Prediction(NamedTuple):
    """What a student says of a picture file.

    Args:
        file: the picture.
        probabilities: one for each class; empty where the file cannot be read.
        error: why it cannot be read; empty where it can.
    """

    file: Path
    probabilities: list[float]
    error: str


class Found(NamedTuple):
    """What lies below a folder: the picture files, sorted, and how many files there are none."""

    root: Path
    pictures: list[Path]
    others: int


def find_pictures(folder: str | Path) -> Found:
    """List the picture files below ``folder``, as a data set is read: hidden files are left out.

    Raises:
        UserError: where there is no such folder, or no picture in it.
    """
    root = user_path(folder)
    if not root.is_dir():
        raise UserError(f"folder={printable(root)}: no such folder; give one with the pictures to classify")
    files = Walk(root).files([root])[0]
    pictures = [file for file in files if is_picture(file)]
    if not pictures:
        raise UserError(f"folder={printable(root)}: holds no picture; give one with the pictures to classify")
    return Found(root, pictures, len(files) - len(pictures))


@torch.no_grad()
def predict(student: StoredStudent, files: Sequence[Path], device: torch.device) -> Iterator[Prediction]:
    """Yield what a student says of each of ``files``, which are decoded as its training pictures were.

    Raises:
        UserError: where the logits are not finite.
    """
    network, decoder = student.network.to(device), student.card.decoder
    batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
    for batch in track(batches, "Classifying pictures"):
        images = torch.zeros(len(batch), *decoder.shape, dtype=torch.uint8)
        outcomes = decoder.decode_all(batch, images)
        logits = network(images.to(device))  # of unreadable files too, which are black
        require_finite(student.card.backbone.name, logits)
        for file, outcome, probabilities in zip(batch, outcomes, logits.softmax(1).tolist(), strict=True):
            failed = isinstance(outcome, PictureError)
            yield Prediction(file, [] if failed else probabilities, str(outcome) if failed else "")


class Counts(NamedTuple):
    """How many pictures were classified, how many of them are unsure, and how many files cannot be read."""

    classified: int
    unsure: int
    unreadable: int


def prediction_table(
    predictions: Iterable[Prediction], classes: Sequence[str], root: Path, threshold: float | None
) -> tuple[str, Counts]:
    """Write predictions as CSV.

    Args:
        predictions: of files below ``root``.
        classes: names of the classes.
        root: folder that the names of the files start from.
        threshold: the largest probability of a picture below which it is unsure; None: every picture is.

    Returns:
        The table, and its counts. Its columns are file, class, unsure (``true`` or ``false``), error, and the
        probability of each class. Names are written as :func:`infer.distilled.tables.cell` has them.
    """
    cells, text = [cell(name, _COLUMNS) for name in classes], io.StringIO()
    classified = unsure = unreadable = 0
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow([*_COLUMNS, *cells])
    for file, probabilities, error in predictions:
        name = cell(printable(file.relative_to(root).as_posix()))
        if error:
            unreadable += 1
            writer.writerow([name, "", "", error, *[""] * len(cells)])
            continue
        confidence = max(probabilities)
        flag = threshold is None or confidence < threshold
        classified, unsure = classified + 1, unsure + flag
        predicted = cells[probabilities.index(confidence)]
        writer.writerow([name, predicted, "true" if flag else "false", "", *map(rounded, probabilities)])
    return text.getvalue(), Counts(classified, unsure, unreadable)
