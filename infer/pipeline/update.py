"""``update=<file>``: the distilled file that new pictures come to."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from infer.core.errors import UserError
from infer.core.files import file_digest
from infer.core.paths import user_path
from infer.data import DatasetOptions, Pictures, Splits
from infer.data.stored import StoredPictures
from infer.distilled import load
from infer.report.file_facts import origin

_CREATED = {"crops": "made of crops", "synthetic": "optimised from noise"}
"""What stored images are that are no pictures, by :func:`infer.report.file_facts.origin`."""


class EarlierFile(NamedTuple):
    """A distilled file that a run updates.

    Args:
        path: of the file.
        digest: of its content.
        size: its bytes.
        stored: its natural images, which stand for the pictures that it was made from.
    """

    path: Path
    digest: str
    size: int
    stored: StoredPictures

    def shape_in(self, options: DatasetOptions) -> DatasetOptions:
        """Return ``options`` with the size and the channels of the file where they are ``auto``.

        Raises:
            UserError: where they are others.
        """
        channels, _, side = self.stored.pictures.shape
        for key, found in (("image_size", side), ("channels", channels)):
            if (value := getattr(options, key)) not in (found, "auto"):
                raise UserError(
                    f"dataset.{key}={value}: the pictures of update={self.path} have {found}; give dataset.{key}="
                    f"{found}, or auto"
                )
        return replace(options, image_size=side, channels=channels)

    def facts(self, data: Splits) -> dict[str, Any]:
        """Return what result.json says of the update to ``data``."""
        classes, pictures = len(self.stored.classes), len(self.stored.pictures)
        return {
            "file": str(self.path),
            "digest": self.digest,
            "bytes_before": self.size,
            "classes_before": classes,
            "pictures_before": pictures,
            "classes_added": len(data.classes) - classes,
            "pictures_added": sum(file is not None for file in data.train.files),
        }


def earlier_file(update: str) -> EarlierFile:
    """Read the file of ``update=``; the last one is kept.

    Raises:
        UserError: where it is no distilled file, or one of created images.
    """
    path = user_path(update)
    known = file_digest(path)
    if known is None:
        raise UserError(
            f"update={update}: no such file; give the distilled.safetensors of an earlier run, which lies in its folder"
        )
    return _read(path, known)


@lru_cache(maxsize=1)
def _read(path: Path, known: str) -> EarlierFile:
    """Read a file; its digest ``known`` is a part of the cache key."""
    try:
        distilled = load(path)
    except UserError as error:
        raise UserError(f"update={error}") from error
    if (made := origin(distilled)) != "real":
        raise UserError(
            f"update={path}: stores images {_CREATED[made]}, which stand for no pictures; give a file of real "
            "pictures, as every method but rded and sre2l stores them"
        )
    naturals = distilled.naturals
    if naturals.shape[2] != naturals.shape[3]:
        height, width = naturals.shape[2:]
        raise UserError(f"update={path}: stores images of {height} x {width} pixels; give a file of square ones")
    pictures = Pictures(naturals, distilled.natural_targets)
    return EarlierFile(path, known, path.stat().st_size, StoredPictures(tuple(distilled.classes), pictures))
