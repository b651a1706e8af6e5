"""The tensors that the report draws and that result.json does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from infer.core.errors import UserError
from infer.core.files import read_tensors, write_bytes
from infer.core.sources import REPORTED

KINDS = ("test", "distilled naturals", "distilled composed", "random naturals", "random composed")
"""The kinds of points on the class map, by number."""

_MARGINS = tuple(f"margins.{source}" for source in REPORTED)
_LAYOUTS = {
    "points": (torch.float32, 2),
    "of": (torch.int64, 1),
    "kind": (torch.int64, 1),
    "mistakes": (torch.uint8, 4),
    "taken": (torch.int64, 2),
    **dict.fromkeys(_MARGINS, (torch.float32, 1)),
}
"""Type and number of dimensions of each tensor of a file."""


class ReportArrays(NamedTuple):
    """The tensors behind the plots and the mistakes of a report.

    Attributes:
        points: Positions on the class map, float32 [P, 2].
        of: Class of every point, int64 [P].
        kind: Number of every point's kind in :data:`KINDS`, int64 [P].
        margins: Margins of the students' decisions by source, float32 [S * N] each.
        mistakes: Test images that only the students of the distilled file misclassify, uint8 [T, ch, H, W].
        taken: Their true and predicted classes, int64 [T, 2].
    """

    points: Tensor
    of: Tensor
    kind: Tensor
    margins: dict[str, Tensor]
    mistakes: Tensor
    taken: Tensor

    def save(self, path: Path) -> None:
        """Write the tensors to a safetensors file.

        Args:
            path: The file. It is written completely or not at all.

        Raises:
            UserError: If the file cannot be written.
        """
        content = {f"margins.{source}": values for source, values in self.margins.items()}
        content |= {name: value for name, value in self._asdict().items() if name != "margins"}
        write_bytes(path, to_safetensors({name: value.contiguous() for name, value in content.items()}))

    @classmethod
    def load(cls, path: Path) -> ReportArrays:
        """Read the tensors from a file of :meth:`save`.

        Args:
            path: The file.

        Raises:
            UserError: If the file is damaged, or its tensors are not those of a report.
        """
        content = read_tensors(path)
        if problem := _problem(content):
            raise UserError(f"{path}: no report arrays: {problem}; remove it, and it is created again")
        margins = {name.partition(".")[2]: content.pop(name) for name in _MARGINS}
        return cls(margins=margins, **content)


def _problem(content: Mapping[str, Tensor]) -> str | None:
    """Tell what keeps the tensors of a file from being drawn; None if nothing does."""
    if content.keys() != _LAYOUTS.keys():
        return f"tensors {', '.join(sorted(content.keys() ^ _LAYOUTS.keys()))} are missing or unknown"
    for name, (dtype, dimensions) in _LAYOUTS.items():
        if content[name].dtype != dtype or content[name].ndim != dimensions:
            return f"tensor {name} is {content[name].dtype} {list(content[name].shape)}"
        if dtype == torch.float32 and not (content[name].isfinite().all() and len(content[name])):
            return f"tensor {name} is empty, or not finite"
    points, of, kind, mistakes, taken = (content[name] for name in ("points", "of", "kind", "mistakes", "taken"))
    pairs = points.shape[1] == 2 and (not len(taken) or taken.shape[1] == 2)
    if not (pairs and len(points) == len(of) == len(kind) and len(mistakes) == len(taken)):
        return "its tensors differ in length"
    if not ((of >= 0).all() and (taken >= 0).all() and ((kind >= 0) & (kind < len(KINDS))).all()):
        return "a class or a kind has no such number"
    return None
