"""Checks of labelled pictures that a caller passes as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from infer.core.errors import UserError, shown
from infer.data.pictures import Pictures

Array = np.ndarray | Tensor


def pictures_from_arrays(
    parts: Mapping[str, tuple[Array, Array]], classes: Sequence[str] | None
) -> tuple[list[str], dict[str, Pictures]]:
    """Check the images and labels of each part, such as ``train``, and the class names.

    Args:
        parts: images uint8 [N, ch, H, H] and labels int64 [N] of each part; its name is in the messages.
        classes: class names; None names each class by its number.

    Returns:
        The class names, and the pictures of each part.

    Raises:
        UserError: for the first mistake.
    """
    pictures = {part: _pictures(part, *arrays) for part, arrays in parts.items()}
    _require_equal_shapes(pictures)
    if classes is None:
        classes = [str(number) for number in range(1 + max(int(own.targets.max()) for own in pictures.values()))]
    _require_names(classes)
    if len(classes) < 2:
        raise UserError(f"classes={list(classes)}: two or more classes are needed")
    for part, own in pictures.items():
        _require_classes(part, own.targets, classes)
    return list(classes), pictures


def _pictures(part: str, images: Array, labels: Array) -> Pictures:
    """Check the dtypes, shapes and lengths of one part."""
    pixels = _tensor(f"{part}_images", images, torch.uint8, "[N, ch, H, H]", 4)
    targets = _tensor(f"{part}_labels", labels, torch.int64, "[N]", 1)
    count, channels, height, width = pixels.shape
    if channels not in (1, 3):
        raise UserError(
            f"{part}_images=uint8 {list(pixels.shape)}: has {channels} channels; give 1 (grey) or 3 (colour), in the "
            "order [N, ch, H, H]"
        )
    if height != width:
        raise UserError(f"{part}_images=uint8 {list(pixels.shape)}: is not square; crop or resize the pictures")
    if not len(targets) == count > 0:
        raise UserError(f"{part}_labels=int64 {list(targets.shape)}: give one label for each of {count} pictures")
    if (lowest := int(targets.min())) < 0:
        raise UserError(f"{part}_labels: has the label {lowest}; classes are numbered from 0")
    return Pictures(pixels, targets)


def _tensor(key: str, array: Array, dtype: torch.dtype, form: str, dimensions: int) -> Tensor:
    """Return a contiguous tensor on the CPU that shares the memory of ``array`` where it can."""
    kind = str(dtype).removeprefix("torch.")
    if not isinstance(array, np.ndarray | Tensor):
        raise UserError(f"{key}={type(array).__name__}: give a NumPy array or a torch tensor, {kind} {form}")
    given = str(array.dtype).removeprefix("torch.")
    if given != kind or array.ndim != dimensions:
        raise UserError(f"{key}={given} {list(array.shape)}: give {kind} {form}")
    if isinstance(array, Tensor):
        return array.detach().cpu().contiguous()
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _require_equal_shapes(pictures: Mapping[str, Pictures]) -> None:
    """Refuse parts whose pictures have different shapes."""
    (first, shape), *others = [(part, own.shape) for part, own in pictures.items()]
    for part, other in others:
        if other != shape:
            raise UserError(
                f"{part}_images: has pictures of {list(other)}, but {first}_images of {list(shape)}; give both the same"
            )


def _require_names(classes: Sequence[str]) -> None:
    """Refuse class names that are no texts, or equal: a distilled file of them could not be read."""
    if isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray):
        raise UserError(f"classes={shown(classes)}: give a list of texts, such as ['cat', 'dog']")
    for name in classes:
        if not isinstance(name, str):
            raise UserError(f"classes: has {name!r}, a {type(name).__name__}; give texts, such as {str(name)!r}")
    if len(set(classes)) < len(classes):
        twice = next(name for number, name in enumerate(classes) if name in classes[:number])
        raise UserError(f"classes: has {twice!r} twice; give each class a name of its own")


def _require_classes(part: str, targets: Tensor, classes: Sequence[str]) -> None:
    """Refuse labels outside the classes, and a class without a picture."""
    if (highest := int(targets.max())) >= len(classes):
        raise UserError(f"{part}_labels: has the label {highest}; {len(classes)} classes are 0 to {len(classes) - 1}")
    counts = targets.bincount(minlength=len(classes)).tolist()
    if missing := [str(name) for name, count in zip(classes, counts, strict=True) if not count]:
        more = f" and {len(missing) - 1} more classes" if len(missing) > 1 else ""
        raise UserError(f"{part}_labels: no picture of class {missing[0]}{more}; every class needs one")
