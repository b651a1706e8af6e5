"""The natural images of an earlier distilled file, as train pictures beside those of a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.data.layout import first_few
from infer.data.pictures import Pictures
from infer.data.splits import Splits


@dataclass(frozen=True, eq=False)  # equal is the same object: what is read is kept by it
class StoredPictures:
    """Labelled pictures that an earlier file stores.

    Args:
        classes: its class names, in the order of the class numbers.
        pictures: its natural images, uint8 [N, ch, H, W], and their class numbers.
    """

    classes: tuple[str, ...]
    pictures: Pictures

    def join(self, new: Splits) -> Splits:
        """Return ``new`` with these pictures in front of its train pictures.

        Args:
            new: whose classes begin with those of these pictures.

        Raises:
            UserError: where the train pictures of ``new`` are streamed, and where a class has no train picture.
        """
        train = new.train
        if not isinstance(train, Pictures):
            raise UserError(
                "dataset.stream: the pictures are streamed from disk, and those that come to an earlier file are kept "
                "in memory; choose dataset.stream=false, or a smaller dataset.image_size"
            )
        pictures, files = self.pictures, [*[None] * len(self.pictures), *train.files]
        both = Pictures(torch.cat([pictures.images, train.images]), torch.cat([pictures.targets, train.targets]), files)
        if missing := _without(both.targets, new.classes):
            raise UserError(f"update: neither the file nor the folder has a train picture of {first_few(missing)}")
        added = new.classes[len(self.classes) :]
        more = f"; new classes: {first_few(added)}" if added else ""
        note = f"{len(pictures)} of {len(both)} train pictures are the natural images of an earlier file{more}"
        return replace(new, train=both, notes=(*new.notes, note))

    def free(self, data: Splits, groups: Tensor) -> Tensor:
        """Return the positions, int64, of the folder's train pictures that a split may test on.

        A near-duplicate of a picture of the file stays a train picture, and so does the one free picture of a class
        that has others.

        Args:
            data: as :meth:`join` returns it.
            groups: of near-duplicates among its train pictures, int64 [N].

        Raises:
            UserError: where there is none.
        """
        count = len(self.pictures)
        targets = data.train.targets
        free = ~torch.isin(groups, groups[:count])
        left = targets[free].bincount(minlength=len(data.classes))
        alone = (left == 1) & (targets.bincount(minlength=len(data.classes)) > 1)
        positions = (free & ~alone[targets]).nonzero().flatten()
        if not len(positions):
            raise UserError(
                "update: no new picture can be tested on, because each is a near-duplicate of one in the file or alone "
                "in its class; add pictures, or a test/ folder"
            )
        return positions


def untested_note(data: Splits) -> tuple[str, ...]:
    """Return a line on the classes without a test picture; none where there is no such class."""
    untested = _without(data.test.targets, data.classes)
    return (f"classes without test pictures, which no accuracy counts: {first_few(untested)}",) if untested else ()


def _without(targets: Tensor, classes: list[str]) -> list[str]:
    """Return the classes that no picture has."""
    counts = targets.bincount(minlength=len(classes)).tolist()
    return [name for name, count in zip(classes, counts, strict=True) if not count]
