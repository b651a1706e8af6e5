"""Views: pictures that a file need not hold, because a seed draws them from those it holds.

A view is two images of the pool (naturals and composed), each cropped and flipped, mixed with each other. Which two,
where cut and how mixed follows from the seed; only the teachers' label of the result is stored, C bytes. Of several
candidates the most telling may be chosen, for some bits more: which one it was.

Compensators too may come from the seed, shared by all classes and views: smooth and random ones, which take no byte.
What the teachers see in the images that they make, the label says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from infer.core import ufc
from infer.core.augment import DRAWS, augment
from infer.core.mixing import blend

LEVELS = 255
MOST_COMPENSATORS = 256
_GRID = 4  # points a side between which a compensator of the seed is interpolated
_REACH = 52  # pixel levels it departs by at most; 20 is then its standard deviation
_SECOND = 2**64  # the second word of a Philox key: a stream of its own


class Drawn(NamedTuple):
    """Of each view: its two images in the pool, int64 [V]; what befalls each, float32 [V, DRAWS], and one more where
    it meets a compensator; the weight of the first, [V], and the place of a box, [V, 2]."""

    first: Tensor
    second: Tensor
    first_draws: Tensor
    second_draws: Tensor
    weight: Tensor
    corner: Tensor


@dataclass(frozen=True)
class Views:
    """How views are drawn: ``count`` of them, each of so many ``candidates``, from a pool of ``pool`` images.

    The numbers are the raw stream of NumPy's Philox generator, which NumPy promises not to change, and not a library's
    distributions, which may: a file must mean the same in ten years. Every image is the first of as many views as any
    other, within one; the weight of the first is uniform in 0 to 1. Every other image, as the seed has it, meets one of
    so many ``compensators``.
    """

    count: int
    pool: int
    seed: int
    crop: int
    flip: bool
    resized_crop: float | None
    mixing: str
    candidates: int = 1
    compensators: int = 0

    @property
    def header(self) -> dict[str, Any]:
        """Our arguments, as a file's header has them: without ``compensators`` where there are none, as in old ones."""
        return {name: value for name, value in asdict(self).items() if value or name != "compensators"}

    def drawn(self, choices: Tensor | None = None) -> Drawn:
        """All views' draws: of each the candidate that ``choices`` int64 [V] names, the first where None."""
        drawn = self._candidates
        if self.candidates == 1:
            return drawn
        numbers = torch.arange(self.count)
        numbers = numbers if choices is None else numbers + self.count * choices
        return Drawn(*(part[numbers] for part in drawn))

    @cached_property
    def _candidates(self) -> Drawn:
        """The draws of every view's first candidate, then those of every second one, and so on."""
        count = self.count * self.candidates
        stream = np.random.Philox(key=self.seed)
        passes = -(-count // self.pool)
        order = np.argsort(_uniform(stream, passes, self.pool), axis=1, kind="stable").reshape(-1)[:count]
        each = DRAWS + bool(self.compensators)
        own, other = _uniform(stream, count, each), _uniform(stream, count, each)
        rest = _uniform(stream, count, 4)
        second = (rest[:, 0] * self.pool).astype(np.int64)
        floats = (torch.from_numpy(part).float() for part in (own, other, rest[:, 1], rest[:, 2:]))
        return Drawn(torch.from_numpy(order), torch.from_numpy(second), *floats)

    def images(self, drawn: Drawn, of_pool: Callable[[Tensor], Tensor], numbers: Tensor) -> Tensor:
        """The views ``numbers`` int64 [B], uint8 [B, ch, H, W].

        ``of_pool`` gives the pool's images at positions; ``drawn`` is ours, on the device where they lie.
        """
        first, second, first_draws, second_draws, weight, corner = (part[numbers] for part in drawn)
        seen = self._augmented(of_pool(first), first_draws)
        if self.mixing != "none":
            partners = self._augmented(of_pool(second), second_draws)
            if self.mixing == "mixup":
                seen, partners = seen.float(), partners.float()
            seen, _ = blend(seen, partners, self.mixing, weight, corner)
        return seen.round().to(torch.uint8) if seen.is_floating_point() else seen

    def _augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        if self.compensators:
            levels = _smooth(self.compensators, self.seed, *images.shape[1:], images.device)
            which = (draws[:, DRAWS] * 2 * self.compensators).long().clamp(max=self.compensators)
            images = ufc.compose(images.short(), levels[which]).to(torch.uint8)
        return augment(images, draws, self.crop, self.flip, self.resized_crop)


@lru_cache(maxsize=2)
def _smooth(count: int, seed: int, channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """The seed's compensators and a last one of zeros, int16 [count + 1, ch, H, W], in pixel levels: interpolated
    between uniform numbers at the points of a grid, in float64 and then to whole levels."""
    points = 2 * _uniform(np.random.Philox(key=seed + _SECOND), count, channels, _GRID, _GRID) - 1
    rows, columns = (
        np.maximum(0, 1 - np.abs(np.linspace(0, _GRID - 1, side)[:, None] - np.arange(_GRID)))
        for side in (height, width)
    )
    levels = np.rint(_REACH * np.einsum("hi,ncij,wj->nchw", rows, points, columns)).astype(np.int16)
    return torch.from_numpy(np.concatenate([levels, np.zeros_like(levels[:1])])).to(device)


def _uniform(stream: np.random.Philox, *shape: int) -> np.ndarray:
    """Float64 in 0 to 1, the upper 53 of 64 raw bits each."""
    return (stream.random_raw(shape) >> np.uint64(11)) * 2.0**-53


def quantise(labels: Tensor) -> Tensor:
    """Probabilities [V, C] at 8 bits, as shares of the largest of each: uint8, same shape."""
    return (labels * (LEVELS / labels.amax(dim=1, keepdim=True))).round().to(torch.uint8)


def dequantise(stored: Tensor) -> Tensor:
    """Probabilities float32 [V, C] that sum to one, from :func:`quantise`'s."""
    shares = stored.float()
    return shares / shares.sum(dim=1, keepdim=True)


def bits(candidates: int) -> int:
    """Bits that a choice among so many takes: 0, 1, 2, 4 or 8, so that a byte holds whole ones."""
    return next(size for size in (0, 1, 2, 4, 8) if candidates <= 2**size)


def pack(choices: Tensor, candidates: int) -> Tensor:
    """Choices int64 [V] among ``candidates`` (2 to 256) as bytes: uint8 [ceil(V * bits / 8)]."""
    each = bits(candidates)
    lanes = 8 // each
    padded = torch.nn.functional.pad(choices, (0, -len(choices) % lanes)).view(-1, lanes)
    return (padded << (each * torch.arange(lanes))).sum(dim=1).to(torch.uint8)


def unpack(packed: Tensor, count: int, candidates: int) -> Tensor:
    """The first ``count`` choices int64 [V] of :func:`pack`'s bytes."""
    each = bits(candidates)
    shifts = each * torch.arange(8 // each)
    return ((packed.long()[:, None] >> shifts) & (2**each - 1)).view(-1)[:count]
