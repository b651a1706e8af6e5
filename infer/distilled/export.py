"""Export of a distilled set to formats that other programs read."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from infer.core.errors import UserError, choices
from infer.core.extras import needed_by
from infer.distilled.composing import ComposedSet

_BATCH = 256


def export_set(dataset: ComposedSet, folder: str | Path, format: str = "imagefolder") -> None:
    """Write all images, composed ones too, with their labels.

    Images are PNG files without the transform of the set. Labels are probabilities, one per class, at the temperature
    of the set. Every format comes with ``meta.json``: classes, mean, std, temperature, the label space of the export
    and the one in which the distilled file stores its labels.

    - ``"imagefolder"``: ``<class>/<number>.png`` and ``labels.csv`` with file, class, kind (natural, composed or view)
      and a column of probabilities per class. Characters that a folder name cannot hold become ``_``.
    - ``"huggingface"``: ``train/<number>.png`` and ``train/metadata.csv`` with file_name, label (class number), class
      and ``probability_<class number>``. ``datasets.load_dataset("imagefolder", data_dir=folder)`` reads it.
    - ``"parquet"``: ``train.parquet`` with image (bytes of a PNG), label (class number), class and probabilities.

    Args:
        dataset: the set.
        folder: folder to write to; it is created.
        format: ``"imagefolder"``, ``"huggingface"`` or ``"parquet"``.

    Raises:
        UserError: if the format is unknown, needs a package that is missing, or the folder cannot be written.

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
    folder = Path(folder)
    try:
        _FORMATS[format](dataset, folder)
        (folder / "meta.json").write_text(json.dumps(_meta(dataset), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"export to {folder}: {error.strerror or error}; choose a folder to write to") from error


class _Item(NamedTuple):
    number: int
    png: bytes
    target: int
    kind: str  # natural, composed or view
    probabilities: list[float]


def _items(dataset: ComposedSet) -> Iterator[_Item]:
    """All items, composed in batches."""
    for indices in torch.arange(len(dataset)).split(_BATCH):
        at = indices.to(dataset.device)
        parts = (dataset.images(at).cpu(), dataset.classes_of(at).tolist(), dataset.soft_labels(at).tolist())
        for number, image, target, label in zip(indices.tolist(), *parts, strict=True):
            kind = "view" if dataset.mixed_views else "natural" if number < len(dataset.naturals) else "composed"
            yield _Item(number, _png(image), target, kind, label)


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


def _write_imagefolder(dataset: ComposedSet, folder: Path) -> None:
    names = _folder_names(dataset.header.classes)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(["file", "class", "kind", *dataset.header.classes])
        for item in _items(dataset):
            file = f"{names[item.target]}/{item.number:06d}.png"
            (folder / file).write_bytes(item.png)
            writer.writerow([file, dataset.header.classes[item.target], item.kind, *map(_rounded, item.probabilities)])


def _write_huggingface(dataset: ComposedSet, folder: Path) -> None:
    train = folder / "train"
    train.mkdir(parents=True, exist_ok=True)
    with (train / "metadata.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        columns = [f"probability_{number}" for number in range(len(dataset.header.classes))]
        writer.writerow(["file_name", "label", "class", *columns])
        for item in _items(dataset):
            file = f"{item.number:06d}.png"
            (train / file).write_bytes(item.png)
            writer.writerow(
                [file, item.target, dataset.header.classes[item.target], *map(_rounded, item.probabilities)]
            )


def _write_parquet(dataset: ComposedSet, folder: Path) -> None:
    with needed_by("format=parquet"):
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    items = list(_items(dataset))
    columns = {
        "image": pyarrow.array([item.png for item in items], pyarrow.binary()),
        "label": pyarrow.array([item.target for item in items], pyarrow.int64()),
        "class": pyarrow.array([dataset.header.classes[item.target] for item in items], pyarrow.string()),
        "probabilities": pyarrow.array([item.probabilities for item in items], pyarrow.list_(pyarrow.float32())),
    }
    folder.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), folder / "train.parquet")


_FORMATS: dict[str, Callable[[ComposedSet, Path], None]] = {
    "imagefolder": _write_imagefolder,
    "huggingface": _write_huggingface,
    "parquet": _write_parquet,
}


def _rounded(probability: float) -> str:
    return f"{probability:.6g}"


def _folder_names(classes: list[str]) -> list[str]:
    """One distinct name per class that is valid on every system and leads out of no folder."""
    names = [re.sub(r"[^\w \-.]", "_", name).strip(". ") or "_" for name in classes]
    return [name if names.count(name) == 1 else f"{name}-{number}" for number, name in enumerate(names)]
