"""How ``ipc`` is spent, and what every byte of the file is for."""

from __future__ import annotations

from dataclasses import dataclass

from infer.core.errors import UserError


@dataclass(frozen=True)
class Split:
    """The stored images of a distilled set of C classes: naturals and compensators.

    ``rounds`` K: naturals of each class that meet the compensators; ``compensators_per_round`` M: one a teacher;
    ``extra``: further naturals, class after class, that meet none.
    """

    classes: int
    rounds: int
    compensators_per_round: int
    extra: int = 0

    @property
    def naturals(self) -> int:
        """Stored natural images."""
        return self.rounds * self.classes + self.extra

    @property
    def compensators(self) -> int:
        """Stored compensators, K * M."""
        return self.rounds * self.compensators_per_round

    @property
    def composed(self) -> int:
        """Images that reading composes, K * M * C: none of them is stored."""
        return self.compensators * self.classes


def infer_split(ipc: int, classes: int, teachers: int, fill: bool = False) -> Split:
    """The split as published: K = floor(ipc*C / (C+M)) naturals a class and M compensators a round.

    ``fill`` spends the unused rest on further naturals. Raises :class:`UserError` where the split has no round.
    """
    budget = ipc * classes
    rounds = budget // (classes + teachers)
    if rounds == 0 and not fill:
        smallest = -(-(classes + teachers) // classes)
        raise UserError(
            f"ipc={ipc}: too small to split between {classes} classes and {teachers} teachers; the smallest that "
            f"works is ipc={smallest}, or budget=filled for naturals alone"
        )
    extra = budget - rounds * (classes + teachers) if fill else 0
    return Split(classes, rounds, teachers, extra)


def published_images(ipc: int, classes: int, teachers: int) -> int:
    """Images that a student sees of the published split, stored and composed; naturals where ``ipc`` is too small for
    it. Epochs are passes over so many images for every method and budget, so that none is trained for longer."""
    split = infer_split(ipc, classes, teachers, fill=True)
    return split.rounds * classes + split.composed or split.extra


def natural_split(images: int, classes: int) -> Split:
    """``images`` naturals and no compensator, taken from the classes in turn."""
    return Split(classes, 0, 0, images)


@dataclass(frozen=True)
class Ledger:
    """Bytes of a distilled set.

    ``labels`` counts whatever a consumer needs to label an image: stored soft labels, class numbers, or the teachers
    where they label on the fly; ``header`` is the file's, ``total`` the sum of the four, ``file`` the size on disk,
    ``budget`` that of ipc * C images at 8 bit, ``real`` that of the real training images at 8 bit.
    """

    natural: int
    compensators: int
    labels: int
    header: int
    total: int
    budget: int
    file: int
    real: int
