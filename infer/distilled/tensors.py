"""Checks of the tensors of a distilled file: types and shapes before any is read, values after."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from infer.core import codec
from infer.core.errors import UserError
from infer.core.label_code import LabelCode, choice_bits
from infer.core.mixed_views import MOST_CANDIDATES, MixedViews
from infer.distilled.header import LARGEST_SIDE, Header

_CHECKED_AT_ONCE = 2**22  # numbers of labels
_NAMES = {torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.float16: "F16"}


class Layout(NamedTuple):
    """Type, in the spelling of safetensors, and shape of a tensor; a side of None is any."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('any' if side is None else str(side) for side in self.shape)}]"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shape of a tensor that was found."""
        return tuple(side or 0 for side in self.shape)

    def allows(self, found: Layout) -> bool:
        """Return whether a tensor of the layout ``found`` is as this one requires."""
        return (
            self.dtype == found.dtype
            and len(self.shape) == len(found.shape)
            and all(side in (None, other) for side, other in zip(self.shape, found.shape, strict=True))
        )


def layout_of(tensor: Tensor) -> Layout:
    """Return the layout of a tensor that is to be written."""
    return Layout(_NAMES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))


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
    if views := header.mixed_views:
        layouts["labels"] = Layout("U8", _label_shape(header.label_code, views.count))
        if bits := views.count * choice_bits(views.candidates):
            layouts["choices"] = Layout("U8", (-(-bits // 8),))
    return layouts


def _label_shape(code: LabelCode, count: int) -> tuple[int | None, ...]:
    """Return the shape of the labels of ``count`` views in a file."""
    if code.coding != "none":
        return (None,)
    return (count, code.classes) if code.bits == 8 else (code.packed_bytes(count),)


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
        name = reprlib.repr(foreign[0])
        raise UserError(f"{path}: tensor {name} does not belong to a file with labels={header.labels}")
    _check_together(path, header, found)
    if header.mixed_views:
        _check_views(path, header.mixed_views, max(found["compensators"].sizes[-2:]))


def _check_together(path: Path, header: Header, found: Mapping[str, Layout]) -> None:
    """Check the rules over several shapes."""
    (images,), (compensators, *image) = found["targets"].sizes, found["compensators"].sizes
    if not images:
        raise UserError(f"{path}: tensor targets is empty")
    if "naturals" in found and found["naturals"].shape != (images, *image):
        layout = Layout("U8", (images, *image))
        raise UserError(f"{path}: tensor naturals is {found['naturals']}, expected {layout} by the other tensors")
    if not all(0 < side <= LARGEST_SIDE for side in image):
        raise UserError(f"{path}: tensor compensators is {found['compensators']}: sides lie in 1 to {LARGEST_SIDE}")
    if header.sheets and len(header.sheets) != (sheets := codec.sheet_count(images, image[1:])):
        raise UserError(
            f"{path}: header field sheets has {len(header.sheets)} sheets, expected {sheets} for {images} images"
        )
    per_round = header.compensators_per_round
    if compensators and (not per_round or compensators % per_round):
        raise UserError(f"{path}: {compensators} compensators are no multiple of compensators_per_round={per_round}")


def _check_views(path: Path, views: MixedViews, side: int) -> None:
    """Check the sizes that the header's entry on mixed views implies for images of ``side`` pixels."""
    if (drawn := views.drawn or views.count) < views.count:
        raise UserError(f"{path}: header field views.drawn={drawn}: must be at least views.count={views.count}")
    if views.all_candidates > MOST_CANDIDATES:
        raise UserError(
            f"{path}: header field views: {drawn:,} views of {views.candidates} candidates, expected at most "
            f"{MOST_CANDIDATES:,} candidates in all"
        )
    if views.crop > side:
        raise UserError(f"{path}: header field views.crop={views.crop}: must be at most the image's side, {side}")


def check_targets(path: Path, header: Header, targets: Tensor) -> None:
    """Refuse class numbers outside of the classes."""
    for number in (int(targets.max()), int(targets.min())):
        if not 0 <= number < len(header.classes):
            raise UserError(
                f"{path}: tensor targets has class number {number}, there are {len(header.classes)} classes"
            )


def check_labels(path: Path, header: Header, labels: Tensor) -> None:
    """Refuse labels that are not finite, or that claim to be distributions and are none.

    Raises:
        UserError: names the tensor, and the row and its sum.
    """
    classes = len(header.classes)
    if views := header.mixed_views:
        if (largest := int(labels.max())) >= 2**views.label_bits:
            raise UserError(f"{path}: tensor labels has {largest}, which takes more than label_bits={views.label_bits}")
        if not labels.any(dim=1).all():
            raise UserError(f"{path}: tensor labels has a label of zeros, which is no distribution")
        return
    # float16 has 11 bits, and steps of 2^-24 near zero; the sum of C rounded numbers is off by half of these at most.
    tolerance = 2**-10 + classes * 2**-25
    first = 0
    for rows in labels.split(max(1, _CHECKED_AT_ONCE // classes)):
        rows = rows.float()
        if not rows.isfinite().all():
            raise UserError(f"{path}: tensor labels has numbers that are not finite")
        sums = rows.sum(dim=1)
        wrong = (rows < 0).any(dim=1) | ((sums - 1).abs() > tolerance)
        if header.space == "probabilities" and wrong.any():
            row = int(wrong.nonzero()[0])
            raise UserError(
                f"{path}: tensor labels has row {first + row} of sum {float(sums[row]):.4g} and least number "
                f"{float(rows[row].min()):.4g}, expected a distribution where space=probabilities"
            )
        first += len(rows)
