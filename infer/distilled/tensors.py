"""Checks of the tensors of a distilled file: types and shapes before any is read, values after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from infer.core.errors import UserError
from infer.core.mixed_views import choice_bits
from infer.distilled.header import LARGEST_SIDE, Header


class Layout(NamedTuple):
    """Type, in the spelling of safetensors, and shape of a tensor; a side of None is any."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('any' if side is None else str(side) for side in self.shape)}]"

    def allows(self, found: Layout) -> bool:
        """Return whether a tensor of the layout ``found`` is as this one requires."""
        return (
            self.dtype == found.dtype
            and len(self.shape) == len(found.shape)
            and all(side in (None, other) for side, other in zip(self.shape, found.shape, strict=True))
        )


def target_dtype(classes: int) -> torch.dtype:
    """Return the smallest unsigned type that holds the class numbers."""
    return torch.uint8 if classes <= 256 else torch.uint16


def expected_layouts(header: Header) -> dict[str, Layout]:
    """Return the tensors that a file with this header holds."""
    classes, image = len(header.classes), (len(header.mean), None, None)
    layouts = {
        "targets": Layout("U8" if target_dtype(classes) == torch.uint8 else "U16", (None,)),
        "compensators": Layout("I8", (None, *image)),
    }
    if header.sheets:
        layouts["sheets"] = Layout("U8", (sum(header.sheets),))
    else:
        layouts["naturals"] = Layout("U8", (None, *image))
    if header.labels == "static":
        layouts["labels"] = Layout("F16", (None, classes))
    if header.views is not None:
        layouts["labels"] = Layout("U8", (header.views["count"], classes))
        bits = header.views["count"] * choice_bits(header.views["candidates"])
        if bits:
            layouts["choices"] = Layout("U8", (-(-bits // 8),))
    return layouts


def check_layouts(path: Path, header: Header, found: Mapping[str, Layout]) -> None:
    """Refuse tensors that do not fit the header or each other.

    Args:
        path: the file, for messages.
        header: the checked header.
        found: layout of every tensor of the file.

    Raises:
        UserError: names the tensor and what was expected.
    """
    expected = expected_layouts(header)
    for name, layout in expected.items():
        if name not in found:
            raise UserError(f"{path}: it lacks the tensor {name}")
        if not layout.allows(found[name]):
            raise UserError(f"{path}: tensor {name} is {found[name]}, expected {layout}")
    if foreign := sorted(set(found) - set(expected)):
        raise UserError(f"{path}: tensor {foreign[0]!r} does not belong to a file with labels={header.labels}")
    _check_together(path, header, found)


def _check_together(path: Path, header: Header, found: Mapping[str, Layout]) -> None:
    """Check the rules over several shapes."""
    (images,), (compensators, *image) = found["targets"].shape, found["compensators"].shape
    if not images:
        raise UserError(f"{path}: tensor targets is empty")
    if "naturals" in found and found["naturals"].shape != (images, *image):
        layout = Layout("U8", (images, *image))
        raise UserError(f"{path}: tensor naturals is {found['naturals']}, expected {layout} by the other tensors")
    if not all(0 < (side or 0) <= LARGEST_SIDE for side in image):
        raise UserError(f"{path}: tensor compensators is {found['compensators']}: sides lie in 1 to {LARGEST_SIDE}")
    per_round = header.compensators_per_round
    if compensators and (not per_round or compensators % per_round):
        raise UserError(f"{path}: {compensators} compensators are no multiple of compensators_per_round={per_round}")


def check_values(path: Path, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Refuse class numbers beyond the classes and labels that are no distributions.

    Raises:
        UserError: names the tensor.
    """
    largest = int(tensors["targets"].long().max())
    if largest >= len(header.classes):
        raise UserError(f"{path}: tensor targets has class number {largest}, there are {len(header.classes)} classes")
    labels = tensors.get("labels")
    if labels is None:
        return
    if not labels.isfinite().all():
        raise UserError(f"{path}: tensor labels has numbers that are not finite")
    if header.views is not None and not labels.any(dim=1).all():
        raise UserError(f"{path}: tensor labels has a label of zeros, which is no distribution")
