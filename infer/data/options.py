"""Options of a data set. Importing them does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from infer.core.checks import Choice, Name, Range, RangeOrAuto
from infer.core.errors import UserError, shown


@dataclass(frozen=True)
class DatasetOptions:
    """Where the pictures of a data set are, and how they are read, divided and augmented.

    Args:
        name: of the data set; output folders have it in their path.
        kind: ``folder`` of pictures, a ``torchvision`` data set, or scikit-learn's ``digits``.
        torchvision: name of a class of torchvision.datasets.
        root: folder with train/<class>/* and test/<class>/*, or with <class>/* alone; it replaces a download.
        data_dir: folder of torchvision's downloads.
        image_size: height and width of a picture in pixels; ``auto`` is 32, 64 or 128, which half of the pictures have.
        channels: 1 for grey, 3 for colour; ``auto`` is grey where every picture is.
        crop: pixels of padding before a random crop.
        flip: mirror pictures at random.
        resized_crop: instead of ``crop``, resize random boxes of at least this share of the area.
        centre: keep the proportions and cut the middle square; otherwise pictures are resized to a square.
        stream: decode pictures on request (true) or keep them in memory (false); None decides by their size.
        background: colour behind transparent pixels, a name or ``#rrggbb``; colour profiles of files are ignored.
        depth: bits that the pixel values use, as 12 of a camera in 16-bit files; None: what each file states.
        mean: of pixels in 0 to 1, one value per channel; None measures it on the train pictures.
        std: of the same pixels; given together with ``mean``.
        test_fraction: share of each class for the test split, where the data have none of their own.
        validation: share of the train pictures that replaces the test pictures, for choosing settings.
        imbalance: the last class keeps so many times fewer train pictures than the first; None keeps all.
        balanced: adjust logits in the loss so that rare classes count as much as common ones.
        split_seed: seed of the choice of test and validation pictures.
    """

    name: Annotated[str, Name()] = "image_folder"
    kind: Annotated[str, Choice("digits", "torchvision", "folder")] = "folder"
    torchvision: str | None = None
    root: str | None = None
    data_dir: str = "data"
    image_size: Annotated[int | str, RangeOrAuto(4, 1024)] = 64
    channels: Annotated[int | str, Choice(1, 3, "auto")] = 3
    crop: int = 4
    flip: bool = True
    resized_crop: Annotated[float | None, Range(0.01, 1)] = None
    centre: bool = False
    stream: bool | None = None
    background: str = "white"
    depth: Annotated[int | None, Range(1, 32)] = None
    mean: Annotated[list[float] | None, Range(0, 1)] = None
    std: Annotated[list[float] | None, Range(1e-6, 1)] = None
    test_fraction: Annotated[float | None, Range(0.01, 0.9)] = 0.2
    validation: Annotated[float | None, Range(0.01, 0.9)] = None
    imbalance: Annotated[float | None, Range(1, 1e6)] = None
    balanced: bool = True
    split_seed: Annotated[int, Range(0, 2**31)] = 0

    def __hash__(self) -> int:
        # The generated hash fails on the lists of mean and std. Equality still compares every field.
        return hash((self.name, self.root, self.image_size, self.channels))

    def check_together(self, at: str) -> None:
        """Check the rules over several fields; ``at`` is the key prefix for messages, such as ``dataset.``.

        Raises:
            UserError: for the first rule that does not hold.
        """
        Range(0, self.image_size if isinstance(self.image_size, int) else 1024).check(f"{at}crop", self.crop)
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and self.channels == "auto":
                raise UserError(f"{at}channels=auto: {at}{key} is given; give {at}channels=1 or {at}channels=3 too")
            if (self.mean is None) != (self.std is None) or (values is not None and len(values) != self.channels):
                raise UserError(
                    f"{at}{key}={shown(values)}: give mean and std a value for each of {self.channels} channels"
                )
        if not _is_colour(self.background):
            raise UserError(f"{at}background={self.background}: not a colour; give a name, such as white, or #rrggbb")
        if self.kind == "digits" and self.root is not None:
            raise UserError(
                f"{at}root={self.root}: dataset=digits is scikit-learn's; for pictures of your own choose "
                "dataset=image_folder, or experiment=poc for a report"
            )
        if self.kind == "folder" and self.root is None:
            raise UserError(f"{at}root=null: give the folder of pictures, {at}root=<folder>")


def no_such_folder(key: str, folder: str) -> UserError:
    """Return the error for a folder of pictures that is not there."""
    return UserError(
        f"{key}={folder}: no such folder; give one with a folder of pictures for each class, or with train/<class>/ "
        "and test/<class>/"
    )


def _is_colour(text: str) -> bool:
    """Return whether ``text`` is an opaque colour."""
    from PIL import ImageColor

    try:
        return len(ImageColor.getrgb(text)) == 3
    except ValueError:
        return False
