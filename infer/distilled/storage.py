"""What a distilled file stores, and how many bytes each part takes.

The file is in the format safetensors. It holds

- ``naturals`` uint8 [N, ch, H, W], or ``sheets`` uint8 [bytes], the compressed files of :mod:`infer.core.codec` one
  after the other;
- ``targets`` [N], the class numbers in the smallest unsigned type that holds them;
- ``compensators`` int8 [U, ch, H, W], in steps of ``step`` pixel levels;
- ``labels`` float16 [N + P, C] of images, or uint8 of mixed views, packed; none where labels are hard or dynamic;
- ``choices`` uint8 [bytes], the chosen candidates of mixed views, where there are several;
- one metadata entry ``infer``, the JSON of :class:`infer.distilled.header.Header`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from infer.core.budget import Ledger
from infer.core.files import write_bytes
from infer.core.label_code import choice_bytes, pack_choices
from infer.core.mixed_views import MixedViews
from infer.core.paths import user_path
from infer.distilled.header import Header, read_header
from infer.distilled.tensors import check_labels, check_layouts, check_targets, layout_of, target_dtype

Stored = TypeVar("Stored", bound="StoredSet")


@dataclass(frozen=True, eq=False)
class StoredSet:
    """The tensors and the header of a distilled file; :class:`infer.DistilledSet` describes the fields."""

    naturals: Tensor
    natural_targets: Tensor
    compensators: Tensor
    labels: Tensor | None
    header: Header
    coded: tuple[bytes, ...] = ()
    choices: Tensor | None = None

    def to(self: Stored, device: torch.device | str) -> Stored:
        """Return the same set with its tensors on ``device``; batches are then composed there."""
        return replace(
            self,
            naturals=self.naturals.to(device),
            natural_targets=self.natural_targets.to(device),
            compensators=self.compensators.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )

    @property
    def device(self) -> torch.device:
        """Device of the tensors; indices must lie on it."""
        return self.naturals.device

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.naturals.nbytes + self.compensators.nbytes + (0 if self.labels is None else self.labels.nbytes)

    @property
    def mixed_views(self) -> MixedViews | None:
        """How the mixed views of the set are drawn; None where its items are the images of the pool."""
        return self.header.mixed_views

    @property
    def natural_bytes(self) -> int:
        """Bytes of the natural images in the file."""
        return sum(map(len, self.coded)) if self.coded else self.naturals.numel()

    @property
    def label_bytes(self) -> int:
        """Bytes of the stored labels and choices, or of the teachers that give dynamic labels."""
        if self.labels is None:
            return self.header.label_bytes
        views = self.mixed_views
        return self._packed_labels.nbytes + (choice_bytes(views.count, views.candidates) if views else 0)

    @cached_property
    def _packed_labels(self) -> Tensor:
        """The labels as the file has them; compressing them takes a second."""
        assert self.labels is not None
        return self.header.label_code.pack(self.labels) if self.header.views else self.labels

    @property
    def payload(self) -> int:
        """Bytes of everything but the header: images, class numbers, compensators, and labels or teachers."""
        targets = len(self.natural_targets) * target_dtype(len(self.header.classes)).itemsize
        return self.natural_bytes + self.compensators.numel() + targets + self.label_bytes

    def ledger(self, ipc: int, real: int, file: int) -> Ledger:
        """Return the bytes by purpose.

        Args:
            ipc: images per class of the budget.
            real: bytes of the real training set.
            file: bytes of the file of this set.
        """
        image = self.naturals[0].numel()
        natural, compensators = self.natural_bytes, self.compensators.numel()
        labels = self.payload - natural - compensators
        header = file - (self.payload - self.header.label_bytes)
        budget = ipc * len(self.header.classes) * image
        return Ledger(natural, compensators, labels, header, self.payload + header, budget, file, real)

    def to_bytes(self) -> bytes:
        """Return the content of the file; the same set gives the same bytes."""
        return to_safetensors(self._tensors, metadata={"infer": self._header.text})

    @property
    def _header(self) -> Header:
        """The header as the file has it."""
        return replace(self.header, sheets=[len(sheet) for sheet in self.coded])

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """The tensors as the file has them."""
        tensors = {
            "targets": self.natural_targets.to(target_dtype(len(self.header.classes))),
            "compensators": self.compensators,
        }
        if self.coded:
            tensors["sheets"] = torch.frombuffer(bytearray(b"".join(self.coded)), dtype=torch.uint8)
        else:
            tensors["naturals"] = self.naturals
        if self.labels is not None:
            tensors["labels"] = self._packed_labels
        if self.choices is not None and self.mixed_views:
            tensors["choices"] = pack_choices(self.choices, self.mixed_views.candidates)
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def save(self, path: str | Path) -> int:
        """Write the file completely or not at all.

        Args:
            path: the file to write (``~`` is the home folder); its folder is created.

        Returns:
            The bytes of the file.

        Raises:
            UserError: if the file cannot be written, or could not be read: its header or its tensors are none of a
                distilled set.
        """
        file = user_path(path)
        _require_readable(file, self)
        content = self.to_bytes()
        write_bytes(file, content)
        return len(content)


def _require_readable(file: Path, stored: StoredSet) -> None:
    """Refuse, as :func:`infer.load` would, a header or tensors that are none of a distilled file."""
    header = read_header(file, stored._header.text)
    check_layouts(file, header, {name: layout_of(tensor) for name, tensor in stored._tensors.items()})
    check_targets(file, header, stored.natural_targets)
    if stored.labels is not None:
        check_labels(file, header, stored.labels)
