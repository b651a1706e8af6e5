"""The tensors that the report draws and that result.json does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save as to_safetensors
from torch import Tensor

from infer.core.files import read_tensors, write_bytes

KINDS = ("test", "distilled naturals", "distilled composed", "random naturals", "random composed")
"""The kinds of points on the class map, by number."""


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
            UserError: If the file is damaged.
        """
        content = read_tensors(path)
        margins = {name.partition(".")[2]: content.pop(name) for name in list(content) if name.startswith("margins.")}
        return cls(margins=margins, **content)
