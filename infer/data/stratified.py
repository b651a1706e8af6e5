"""Division of labelled pictures into a train and a test part, class by class and without tearing groups apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from infer.core.errors import UserError


def members_of_each(targets: Tensor, classes: int) -> list[Tensor]:
    """Return the positions of the pictures of each class, ascending: C tensors int64."""
    return list(targets.argsort(stable=True).split(targets.bincount(minlength=classes).tolist()))


def stratified(
    targets: Tensor,
    share: float,
    seed: int,
    groups: Tensor | None = None,
    classes: Sequence[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Divide pictures into a train and a test part, with ``share`` of each class in the test part.

    A group stays in one part: in the train part where it is too large for the test part. A class whose pictures all
    belong to one group is divided nevertheless.

    Args:
        targets: class numbers, int64 [N].
        share: of each class, in 0 to 1; at least one picture.
        seed: of the random choice.
        groups: group number of each picture, int64 [N], such as those of :func:`duplicate_groups`.
        classes: class names, for the message.

    Returns:
        Positions of the train and of the test part, int64, ascending.

    Raises:
        UserError: if a class has a single picture.
    """
    generator = torch.Generator().manual_seed(seed)
    test = torch.zeros(len(targets), dtype=torch.bool)
    whole = _WholeGroups(targets, groups) if groups is not None else None
    for number, members in enumerate(members_of_each(targets, int(targets.max()) + 1)):
        if len(members) == 1:
            name = classes[number] if classes else f"number {number}"
            raise UserError(f"dataset: class {name} has one picture; a split needs two, so add one")
        if len(members):
            members = members[torch.randperm(len(members), generator=generator)]
            wanted = max(1, round(share * len(members)))
            if whole is None:
                test[members[:wanted]] = True
            else:
                whole.take(number, members, wanted)
    if whole is not None:
        test = whole.taken
    return (~test).nonzero().flatten(), test.nonzero().flatten()


class _WholeGroups:
    """The choice of a test part by whole groups, in a time that grows with the number of pictures.

    Args:
        targets: class numbers, int64 [N].
        groups: group numbers, int64 [N].
    """

    def __init__(self, targets: Tensor, groups: Tensor) -> None:
        _, self._groups, sizes = groups.unique(return_inverse=True, return_counts=True)
        self._train = targets.bincount().tolist()
        self._train_of_group: dict[int, dict[int, int]] = defaultdict(Counter)  # of the groups of several pictures
        several = sizes[self._groups] > 1
        for target, group in zip(targets[several].tolist(), self._groups[several].tolist(), strict=True):
            self._train_of_group[group][target] += 1
        self._whole = torch.zeros(len(sizes), dtype=torch.bool)
        self._divided = torch.zeros(len(targets), dtype=torch.bool)
        self._emptied = False  # a class has no train picture left

    def take(self, number: int, members: Tensor, wanted: int) -> None:
        """Take groups of the pictures of a class, in the order of ``members``, until ``wanted`` of it are taken.

        A group that is too large, or would leave a class without train pictures, is left out. If none can be taken, the
        first ``wanted`` members are, without the others of their groups.

        Args:
            number: of the class.
            members: positions of all its pictures, int64.
            wanted: pictures of the class that are taken at most.
        """
        least, whole = len(members) - wanted, list[int]()
        for group in self._groups[members].tolist():
            if self._train[number] == least:
                break
            pictures = self._train_of_group.get(group, {number: 1})
            if self._train[number] - pictures.get(number, 0) >= least and self._leaves_train_pictures(pictures):
                for target, count in pictures.items():
                    self._train[target] -= count
                pictures.clear()
                whole.append(group)
        self._whole[whole] = True
        if self._train[number] == len(members):
            self._divide(number, members[:wanted])

    def _leaves_train_pictures(self, pictures: dict[int, int]) -> bool:
        """Return whether every class keeps train pictures without ``pictures``, their number by class."""
        return not self._emptied and all(self._train[target] > count for target, count in pictures.items())

    def _divide(self, number: int, members: Tensor) -> None:
        """Take ``members`` of a class without the others of their groups."""
        self._divided[members] = True
        self._train[number] -= len(members)
        self._emptied |= self._train[number] == 0
        for group in self._groups[members].tolist():
            self._train_of_group[group][number] -= 1

    @property
    def taken(self) -> Tensor:
        """Which pictures are taken, bool [N]."""
        return self._whole[self._groups] | self._divided
