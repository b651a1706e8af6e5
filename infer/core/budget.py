"""How a budget of ``ipc`` images per class is spent, and the bytes of the file by purpose."""

from __future__ import annotations

from dataclasses import dataclass

from infer.core.errors import UserError


@dataclass(frozen=True)
class Split:
    """The stored images of a distilled set of C ``classes``.

    Args:
        classes: C.
        rounds: K, natural images of each class that compensators are added to.
        compensators_per_round: M, one a teacher.
        extra: further natural images, class after class, without compensators.
    """

    classes: int
    rounds: int
    compensators_per_round: int
    extra: int = 0

    @property
    def naturals(self) -> int:
        """Number of stored natural images."""
        return self.rounds * self.classes + self.extra

    @property
    def compensators(self) -> int:
        """Number of stored compensators, K * M."""
        return self.rounds * self.compensators_per_round

    @property
    def composed(self) -> int:
        """Number of images that a reader composes, K * M * C; none of them is stored."""
        return self.compensators * self.classes


def infer_split(ipc: int, classes: int, teachers: int, fill: bool = False) -> Split:
    """Split a budget of images as published: K = floor(ipc * C / (C + M)) rounds of C naturals and M compensators.

    Args:
        ipc: images per class that may be stored.
        classes: C.
        teachers: M.
        fill: spend the unused rest on further natural images.

    Raises:
        UserError: where ``ipc`` is too small for one round and ``fill`` is off.

    Example:
        >>> infer_split(10, classes=100, teachers=4)
        Split(classes=100, rounds=9, compensators_per_round=4, extra=0)
    """
    budget = ipc * classes
    rounds = budget // (classes + teachers)
    if rounds == 0 and not fill:
        smallest = -(-(classes + teachers) // classes)
        raise UserError(
            f"ipc={ipc}: too small to split between {classes} classes and {teachers} teachers; the smallest that "
            f"works is ipc={smallest}, or budget=filled for natural images only"
        )
    extra = budget - rounds * (classes + teachers) if fill else 0
    return Split(classes, rounds, teachers, extra)


def published_images(ipc: int, classes: int, teachers: int) -> int:
    """Count the images, stored and composed, that a student sees of the published split at ``ipc``.

    An epoch is a pass over this number of images for every method and budget, so that all students take as many steps.
    """
    split = infer_split(ipc, classes, teachers, fill=True)
    return split.rounds * classes + split.composed or split.extra


def natural_split(images: int, classes: int) -> Split:
    """Split a budget into ``images`` natural images, taken from the classes in turn, and no compensator."""
    return Split(classes, 0, 0, images)


@dataclass(frozen=True)
class Ledger:
    """Bytes of a distilled set, by purpose.

    ``labels`` counts stored soft labels, class numbers, or the teachers of dynamic labels. ``header`` is the file's,
    ``total`` the sum of the four, ``file`` the size on disk, ``budget`` the size of ipc * C images at 8 bits a channel,
    ``real`` that of the real training images.
    """

    natural: int
    compensators: int
    labels: int
    header: int
    total: int
    budget: int
    file: int
    real: int
