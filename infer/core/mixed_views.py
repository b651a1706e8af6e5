"""Mixed views: augmented and mixed images that a seed reproduces, so that a file stores only their labels.

A mixed view is made of two images of a pool. Each is cropped and flipped, and the two are mixed by CutMix or mixup. All
random numbers follow from one seed. The file stores the teachers' label of the result, some bits per class, as FKD
(Shen & Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", ECCV 2022) does for augmented images.
A view may be chosen among several candidates; the file then also stores the number of the chosen one in a few bits.

Smooth noise is an optional augmentation: a random image of low spatial frequency, drawn from the same seed, is added to
half of the images before they are cropped. It takes no bytes either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, StrictBool, StrictFloat, StrictInt, TypeAdapter
from torch import Tensor

from infer.core import ufc
from infer.core.augment import DRAWS, augment
from infer.core.mixing import blend

MOST_SMOOTH_NOISE = 256
"""Largest number of different smooth noise images."""
MOST_CANDIDATES = 10**8
"""Largest number of views times candidates that a file may have: drawing them takes about half a minute."""
_NOISE_GRID = 4  # points per side between which the noise is interpolated
_NOISE_AMPLITUDE = 52  # pixel levels; the standard deviation of the noise is then about 20
_NOISE_KEY = 2**64  # second word of the Philox key: gives the noise a random stream of its own
_BLOCK = 2**18  # candidates that are drawn at once: about 50 MB; of a larger pool, as many as it has images


class ViewDraws(NamedTuple):
    """The random numbers of V mixed views.

    Attributes:
        first: position in the pool of the first image, int64 [V].
        second: position in the pool of the second image, int64 [V].
        first_draws: augmentation of the first image, float32 [V, DRAWS], or [V, DRAWS + 1] with smooth noise.
        second_draws: augmentation of the second image, same shape.
        weight: share of the first image in the mix, float32 [V].
        corner: relative position of the CutMix box, float32 [V, 2].
    """

    first: Tensor
    second: Tensor
    first_draws: Tensor
    second_draws: Tensor
    weight: Tensor
    corner: Tensor


@dataclass(frozen=True)
class MixedViews:
    """How mixed views are drawn from a pool of images.

    The random numbers are the raw output of NumPy's Philox generator, which NumPy keeps stable over versions, so that a
    file means the same images on every machine. Every image of the pool is the first of equally many views, to within
    one. The share of the first image is uniform.

    Args:
        count: number of mixed views V.
        pool: number of images in the pool.
        seed: seed of all draws, 0 to 2**64 - 1.
        crop: padding in pixels of the random crop; 0 turns it off.
        flip: whether images are flipped horizontally with probability 1/2.
        resized_crop: smallest area share of a random resized crop, which replaces ``crop``; None turns it off.
        mixing: ``"cutmix"``, ``"mixup"`` or ``"none"``.
        candidates: number of candidates per view, 1 to 256.
        smooth_noise: number of smooth noise images, 0 to 256; 0 turns the noise off.
        label_bits: bits of each class of a label: 2, 4 or 8.
        label_coding: how a file has the labels: see :class:`infer.core.label_code.LabelCode`.
        drawn: number of views that the seed draws, of which the first ``count`` are these; None: ``count``. The views
            that a file has labels of are the same, however many fit.
    """

    count: Annotated[StrictInt, Field(ge=1, le=2**40)]
    pool: Annotated[StrictInt, Field(ge=1, le=2**40)]
    seed: Annotated[StrictInt, Field(ge=0, le=2**64 - 1)]
    crop: Annotated[StrictInt, Field(ge=0, le=4096)]
    flip: StrictBool
    resized_crop: Annotated[StrictFloat, Field(ge=1e-4, le=1, allow_inf_nan=False)] | None
    mixing: Annotated[str, Field(pattern="^(cutmix|mixup|none)$")]
    candidates: Annotated[StrictInt, Field(ge=1, le=256)] = 1
    smooth_noise: Annotated[StrictInt, Field(ge=0, le=MOST_SMOOTH_NOISE, validation_alias="compensators")] = 0
    label_bits: Literal[2, 4, 8] = 8
    label_coding: Annotated[str, Field(pattern="^(none|lzma)$")] = "none"
    drawn: Annotated[StrictInt, Field(ge=1, le=2**40)] | None = None

    @classmethod
    def from_header(cls, content: Mapping[str, Any]) -> MixedViews:
        """Read the entry ``views`` of a file's header, where the smooth noise is named ``compensators``.

        Unknown keys are ignored.

        Raises:
            pydantic.ValidationError: for a value of another type or out of its range.
        """
        return _FROM_HEADER.validate_python(content)

    @property
    def header(self) -> dict[str, Any]:
        """Entry ``views`` of a file's header; it has later fields only where they are not the default."""
        content = asdict(self)
        content["compensators"] = content.pop("smooth_noise")
        return {key: value for key, value in content.items() if key not in _LATER or value != _LATER[key]}

    @property
    def all_candidates(self) -> int:
        """Candidates that the seed draws."""
        return (self.drawn or self.count) * self.candidates

    def draws(self, choices: Tensor | None = None) -> ViewDraws:
        """Return the random numbers of all views.

        Args:
            choices: number of the chosen candidate of each view, int64 [V]; None chooses the first of each.
        """
        numbers = np.arange(self.count)
        if choices is not None:
            numbers += (self.drawn or self.count) * choices.cpu().numpy()
        order = np.argsort(numbers, kind="stable")
        starts = range(0, self.all_candidates, max(_BLOCK, self.pool))
        parts = np.split(order, np.searchsorted(numbers[order], starts[1:]))
        drawn = ViewDraws(*(torch.empty(self.count, *part.shape[1:], dtype=part.dtype) for part in _block(self, 0, 0)))
        for start, part in zip(starts, parts, strict=True):
            if len(part):
                block = _block(self, start, int(numbers[part[-1]]) + 1)
                for whole, values in zip(drawn, block, strict=True):
                    whole[part] = values[numbers[part] - start]
        return drawn

    def images(self, draws: ViewDraws, pool_images: Callable[[Tensor], Tensor], indices: Tensor) -> Tensor:
        """Compose mixed views.

        Args:
            draws: result of :meth:`draws`, on the device of the pool.
            pool_images: function from positions int64 [B] to images of the pool, uint8 [B, ch, H, W].
            indices: numbers of the views, int64 [B].

        Returns:
            The views, uint8 [B, ch, H, W].
        """
        first, second, first_draws, second_draws, weight, corner = (part[indices] for part in draws)
        images = self._augmented(pool_images(first), first_draws)
        if self.mixing != "none":
            partners = self._augmented(pool_images(second), second_draws)
            if self.mixing == "mixup":
                images, partners = images.float(), partners.float()
            images, _ = blend(images, partners, self.mixing, weight, corner)
        return images.round().to(torch.uint8) if images.is_floating_point() else images

    def _augmented(self, images: Tensor, draws: Tensor) -> Tensor:
        if self.smooth_noise:
            noise = _smooth_noise(self.smooth_noise, self.seed, *images.shape[1:], images.device)
            # The upper half of the draws selects the last image, which is zero.
            selected = (draws[:, DRAWS] * 2 * self.smooth_noise).long().clamp(max=self.smooth_noise)
            images = ufc.compose(images.short(), noise[selected]).to(torch.uint8)
        return augment(images, draws, self.crop, self.flip, self.resized_crop)


def _block(views: MixedViews, start: int, stop: int) -> ViewDraws:
    """Return the draws of the candidates ``start`` to ``stop``.

    They are numbered through: the first candidate of every view, then every second candidate, and so on. The
    stream has orders of the whole pool, one after another, for the first images; then the augmentations of the
    first images, those of the second images, and the rest.
    """
    count, each = views.all_candidates, DRAWS + bool(views.smooth_noise)
    passes, first_pass, last_pass = -(-count // views.pool), start // views.pool, -(-stop // views.pool)
    orders = _uniform(views.seed, first_pass * views.pool, last_pass - first_pass, views.pool)
    first = np.argsort(orders, axis=1, kind="stable").reshape(-1)[start - first_pass * views.pool :][: stop - start]
    sections = []
    section = passes * views.pool
    for width in (each, each, 4):
        sections.append(_uniform(views.seed, section + start * width, stop - start, width))
        section += count * width
    rest = sections[2]
    second = (rest[:, 0] * views.pool).astype(np.int64)
    # A number that float32 rounds to 1 would lie outside of the padding or the box.
    largest = 1 - 2**-24
    floats = (torch.from_numpy(p).float().clamp(max=largest) for p in (*sections[:2], rest[:, 1], rest[:, 2:]))
    return ViewDraws(torch.from_numpy(first), torch.from_numpy(second), *floats)


_FROM_HEADER = TypeAdapter(MixedViews)
_LATER = {"compensators": 0, "label_bits": 8, "label_coding": "none", "drawn": None}


@lru_cache(maxsize=2)
def _smooth_noise(count: int, seed: int, channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Smooth noise images followed by a zero image, int16 [count + 1, ch, H, W], in pixel levels.

    Uniform numbers at the points of a grid are interpolated linearly in float64 and then rounded to whole levels.
    """
    points = 2 * _uniform(seed + _NOISE_KEY, 0, count, channels, _NOISE_GRID, _NOISE_GRID) - 1
    rows, columns = (
        np.maximum(0, 1 - np.abs(np.linspace(0, _NOISE_GRID - 1, side)[:, None] - np.arange(_NOISE_GRID)))
        for side in (height, width)
    )
    levels = np.zeros((count + 1, channels, height, width), np.int16)
    for image, grid in zip(levels, points, strict=False):  # one by one: float64 takes four times the memory
        image[:] = np.rint(_NOISE_AMPLITUDE * np.einsum("hi,cij,wj->chw", rows, grid, columns))
    return torch.from_numpy(levels).to(device)


def _uniform(key: int, position: int, *shape: int) -> np.ndarray:
    """Float64 in 0 to 1 from the upper 53 of 64 raw bits each, from ``position`` of the stream of ``key``."""
    stream = np.random.Philox(key=key, counter=position // 4)  # a step of the counter gives four numbers
    stream.random_raw(position % 4, output=False)
    return (stream.random_raw(shape) >> np.uint64(11)) * 2.0**-53
