"""Export of a distilled set to formats that other programs read.

Tables name classes as they are, with two exceptions. A name that a spreadsheet may take for a formula, that begins with
``'``, or that is the name of another column gets a leading ``'``: ``name.removeprefix("'")`` is the true name. A lone
surrogate, which UTF-8 cannot encode, is written as ``\\udc80``. ``meta.json`` has all names unchanged.

An export is written to a hidden folder within its folder and moved into place when it is whole, ``meta.json`` last. One
that fails leaves nothing behind. One that is killed leaves the hidden folder, which the next export deletes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from infer.core.errors import UserError, choices
from infer.core.extras import needed_by
from infer.core.files import is_abandoned, temporary_path
from infer.core.folder_names import folder_names
from infer.core.paths import user_path
from infer.distilled.composing import ComposedSet
from infer.distilled.tables import cell, rounded

_BATCH_BYTES = 2**24
"""Bytes of the images that are composed at once."""
_LABEL_BYTES = 2**24
"""Bytes of the labels that are held at once."""
_ROWS = 1024
"""Most rows of a Parquet file that are written at once."""
_BYTES_PER_PROBABILITY = 48
"""What a class takes in a composed label: one-hot int64, float32, and a number of Python."""
_UNFINISHED = "unfinished-export"
_COLUMNS = ("file", "class", "kind")


def export_set(dataset: ComposedSet, folder: str | Path, format: str = "imagefolder", overwrite: bool = False) -> None:
    """Write all images, composed ones too, with their labels.

    Images are PNG files without the transform of the set. Labels are probabilities, one per class, at the temperature
    of the set. Every format comes with ``meta.json``: classes, mean, std, temperature, the label space of the export
    and the one in which the distilled file stores its labels.

    - ``"imagefolder"``: ``<class>/<number>.png`` and ``labels.csv`` with file, class, kind (natural, composed or view)
      and a column of probabilities per class. The folders are named by :func:`infer.core.folder_names.folder_names`;
      their names are distinct on every file system.
    - ``"huggingface"``: ``train/<number>.png`` and ``train/metadata.csv`` with file_name, label (class number), class
      and ``probability_<class number>``. ``datasets.load_dataset("imagefolder", data_dir=folder)`` reads it.
    - ``"parquet"``: ``train.parquet`` with image (bytes of a PNG), label (class number), class and probabilities.

    Args:
        dataset: the set.
        folder: folder to write to; it is created, and has to be empty.
        format: ``"imagefolder"``, ``"huggingface"`` or ``"parquet"``.
        overwrite: delete everything that the folder holds once the export is whole. Links in it are deleted, and what
            they lead to is kept.

    Raises:
        UserError: if the format is unknown, needs a package that is missing, the folder holds something, another export
            writes to it, it cannot be written, or the disk is full.

    Example:
        >>> import tempfile, torch
        >>> from infer.distilled import DistilledSet, Header
        >>> header = Header(["cat", "dog"], [0.5], [0.25], "hard", "probabilities", 1.0, compensators_per_round=0)
        >>> naturals, none = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.empty(0, 1, 4, 4, dtype=torch.int8)
        >>> dataset = DistilledSet(naturals, torch.tensor([0, 1]), none, None, header)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset.export(folder, format="imagefolder")
        ...     sorted(path.name for path in Path(folder).rglob("*") if path.is_file())
        ['000000.png', '000001.png', 'labels.csv', 'meta.json']
    """
    if format not in _FORMATS:
        raise choices("format", format, _FORMATS)
    folder = user_path(folder)
    write = _FORMATS[format](dataset.to("cpu"))
    try:
        with _replacing(folder, overwrite) as unfinished:
            write(unfinished)
            (unfinished / "meta.json").write_text(json.dumps(_meta(dataset), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"export to {folder}: {error.strerror or error}; free space, or choose a folder to write to"
        ) from error


@contextlib.contextmanager
def _replacing(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a hidden folder in ``folder``; at the end of the block its entries are moved up, ``meta.json`` last."""
    created = not folder.exists()
    for entry in _exports(folder):
        with contextlib.suppress(OSError):  # another process may delete it too
            if is_abandoned(entry):
                _remove(entry)
    _check_folder(folder, overwrite)
    unfinished = temporary_path(folder / _UNFINISHED)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        _check_folder(folder, overwrite, known=unfinished)  # something may have come meanwhile
        for entry in [entry for entry in folder.iterdir() if entry != unfinished]:
            _remove(entry)
        for entry in sorted(unfinished.iterdir(), key=lambda entry: entry.name == "meta.json"):
            entry.rename(folder / entry.name)
        unfinished.rmdir()
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _exports(folder: Path) -> list[Path]:
    """Return the hidden folders of exports to ``folder`` that run or were killed."""
    return sorted(folder.glob(f".{_UNFINISHED}.*.tmp")) if folder.is_dir() else []


def _check_folder(folder: Path, overwrite: bool, known: Path | None = None) -> None:
    """Refuse a folder that holds something beside ``known``, or one that nobody means to empty."""
    if running := [entry.name for entry in _exports(folder) if entry != known]:
        raise UserError(
            f"export to {folder}: another export writes to it; choose another folder, or remove {running[0]} from it "
            "if that export has ended"
        )
    held = sorted(entry.name for entry in folder.iterdir() if entry != known) if folder.is_dir() else []
    if not held:
        return
    if not overwrite:
        raise UserError(f"export to {folder}: holds {held[0]!r}; choose another folder, or overwrite=True to empty it")
    if any(place.resolve().is_relative_to(folder.resolve()) for place in (Path.cwd(), Path.home())):
        raise UserError(f"export to {folder}: holds the working or home folder, which is not emptied; choose another")


def _remove(entry: Path) -> None:
    """Remove a file, a folder, or a link without what it leads to."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


class _Item(NamedTuple):
    number: int
    png: bytes
    target: int
    kind: str  # natural, composed or view
    probabilities: list[float]


def _items(dataset: ComposedSet) -> Iterator[_Item]:
    """All items, composed in batches."""
    most = min(256, _BATCH_BYTES // dataset.naturals[0].numel(), _most_labels(dataset))
    for indices in torch.arange(len(dataset)).split(max(1, most)):
        parts = (dataset.images(indices), dataset.classes_of(indices).tolist(), dataset.soft_labels(indices).tolist())
        for number, image, target, label in zip(indices.tolist(), *parts, strict=True):
            kind = "view" if dataset.mixed_views else "natural" if number < len(dataset.naturals) else "composed"
            yield _Item(number, _png(image), target, kind, label)


def _most_labels(dataset: ComposedSet) -> int:
    """Return the number of labels that are held at once; at least 1."""
    return max(1, _LABEL_BYTES // (len(dataset.header.classes) * _BYTES_PER_PROBABILITY))


def _png(image: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _meta(dataset: ComposedSet) -> dict[str, Any]:
    header = dataset.header
    return {
        "classes": header.classes,
        "mean": header.mean,
        "std": header.std,
        "temperature": header.temperature,
        "label_space": "probabilities",
        "stored_label_space": header.space,
    }


def _imagefolder(dataset: ComposedSet) -> Callable[[Path], None]:
    classes = dataset.header.classes
    cells = [cell(name, _COLUMNS) for name in classes]
    # A class may be called like one of our files.
    names = folder_names([*classes, "labels.csv", "meta.json"])[: len(classes)]

    def write(folder: Path) -> None:
        for name in names:
            (folder / name).mkdir()
        with _table(folder / "labels.csv", [*_COLUMNS, *cells]) as writer:
            for item in _items(dataset):
                file = f"{names[item.target]}/{item.number:06d}.png"
                (folder / file).write_bytes(item.png)
                writer.writerow([file, cells[item.target], item.kind, *map(rounded, item.probabilities)])

    return write


def _huggingface(dataset: ComposedSet) -> Callable[[Path], None]:
    cells = [cell(name, _COLUMNS) for name in dataset.header.classes]
    columns = [f"probability_{number}" for number in range(len(cells))]

    def write(folder: Path) -> None:
        train = folder / "train"
        train.mkdir()
        with _table(train / "metadata.csv", ["file_name", "label", "class", *columns]) as writer:
            for item in _items(dataset):
                file = f"{item.number:06d}.png"
                (train / file).write_bytes(item.png)
                writer.writerow([file, item.target, cells[item.target], *map(rounded, item.probabilities)])

    return write


def _parquet(dataset: ComposedSet) -> Callable[[Path], None]:
    with needed_by("format=parquet"):
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    classes = [_encodable(name) for name in dataset.header.classes]
    schema = pyarrow.schema(
        {
            "image": pyarrow.binary(),
            "label": pyarrow.int64(),
            "class": pyarrow.string(),
            "probabilities": pyarrow.list_(pyarrow.float32()),
        }
    )

    def write(folder: Path) -> None:
        items, most = _items(dataset), min(_ROWS, _most_labels(dataset))
        with parquet.ParquetWriter(folder / "train.parquet", schema) as writer:
            while rows := list(itertools.islice(items, most)):
                columns = [
                    [item.png for item in rows],
                    [item.target for item in rows],
                    [classes[item.target] for item in rows],
                    [item.probabilities for item in rows],
                ]
                writer.write_table(pyarrow.table(columns, schema=schema))

    return write


_FORMATS: dict[str, Callable[[ComposedSet], Callable[[Path], None]]] = {
    "imagefolder": _imagefolder,
    "huggingface": _huggingface,
    "parquet": _parquet,
}


@contextlib.contextmanager
def _table(file: Path, columns: list[str]) -> Iterator[Any]:
    """Open a CSV file whose texts are quoted, and write its first row."""
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened:
        writer = csv.writer(opened, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(columns)
        yield writer


def _encodable(name: str) -> str:
    """Return ``name`` with lone surrogates escaped."""
    return name.encode(errors="backslashreplace").decode()
