"""Natural images of a set: selected by the method, compressed by the codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from infer.core import codec
from infer.core.options import BudgetOptions
from infer.methods.options import METHODS, method_options
from infer.methods.proxy import ProxyModel
from infer.methods.selection import Naturals, SelectionInputs
from infer.pipeline.set_options import RANDOM, MethodOptions
from infer.training.context import Context
from infer.training.teachers import Teacher

_SAMPLE = 256
_POWER = {"uniform": 0.0, "sqrt": 0.5, "proportional": 1.0}
"""Weight of a class among the natural images as a function of its number of pictures."""


class Compressed(NamedTuple):
    """Natural images as a reader gets them.

    Args:
        images: uint8 [N, ch, H, W].
        targets: int64 [N].
        sheets: the compressed files; empty where images are raw.
        indices, reasons: as of :class:`Naturals`.
    """

    images: Tensor
    targets: Tensor
    sheets: tuple[bytes, ...] = ()
    indices: Tensor | None = None
    reasons: Sequence[str] = ()

    @property
    def nbytes(self) -> int:
        """Bytes that the images take in a file."""
        return sum(map(len, self.sheets)) if self.sheets else self.images.numel()


@dataclass(frozen=True)
class NaturalsSource:
    """Selects natural images and compresses them.

    Args:
        context: of the run.
        order: of the train pictures of each class, by the seed: C tensors int64.
        teachers: of the run.
        seed: of methods that create images.
        budget: codec, and shares of the classes.
    """

    context: Context
    order: Sequence[Tensor]
    teachers: Sequence[Teacher]
    seed: int
    budget: BudgetOptions

    def select(self, method: MethodOptions, count: int, proxy: ProxyModel | None = None) -> Naturals:
        """Let ``method`` select or create ``count`` natural images, with a proxy model where it uses one."""
        inputs = SelectionInputs(
            self.context.data,
            self.order,
            count,
            torch.tensor([float(len(members)) for members in self.order]) ** _POWER[self.budget.per_class],
            [teacher.network for teacher in self.teachers],
            self.seed,
            self.context.trainer.device,
            proxy,
        )
        return METHODS[method.name].select(inputs, method_options(method.name, method.options))

    def compress(self, naturals: Naturals) -> Compressed:
        """Compress images by the codec, if there is one."""
        chosen = self.budget
        if chosen.codec is None or not len(naturals.images):
            return Compressed(naturals.images, naturals.targets, (), naturals.indices, naturals.reasons)
        sheets = tuple(codec.encode(naturals.images, chosen.codec, chosen.quality, chosen.speed, chosen.subsampling))
        channels, height, width = naturals.images.shape[1:]
        images = codec.decode(sheets, len(naturals.targets), (channels, height, width))
        return Compressed(images, naturals.targets, sheets, naturals.indices, naturals.reasons)

    def bytes_an_image(self) -> float:
        """Estimate the bytes of a compressed image from the seed's first pictures."""
        count = min(_SAMPLE, len(self.context.data.train))
        sample = self.compress(self.select(RANDOM, count))
        return sample.nbytes / count if sample.sheets else sample.images[0].numel()
