"""Options of the paper's method and of the pure functions beside it. Importing them does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from infer.core.checks import Choice, Range, RangeOrAuto
from infer.core.errors import UserError
from infer.core.identity import as_identity

SUBSAMPLINGS = Choice("4:4:4", "4:2:2", "4:2:0")


@dataclass(frozen=True)
class UFCOptions:
    """Options of the optimisation; the defaults are the paper's for CIFAR.

    Args:
        steps: steps of Adam (betas 0.5 and 0.9), whose rate falls to zero by a cosine.
        lr: initial learning rate, in normalised units.
        bn_weight: the weight alpha of the BatchNorm distance.
        first_weight: the weight w of the first BatchNorm layer; the others have 1.
        jitter: each step rolls its images by 0 to this many pixels, down and right.
        resized_crop: least share of the area of a step's random resized crop, with a random flip; None: off.
    """

    steps: Annotated[int, Range(1, 10**7)] = 1000
    lr: Annotated[float, Range(1e-9, 100)] = 0.25
    bn_weight: Annotated[float, Range(0, 1e6)] = 1.0
    first_weight: Annotated[float, Range(0, 1e6)] = 10.0
    jitter: Annotated[int, Range(0, 1024)] = 4
    resized_crop: Annotated[float | None, Range(0.01, 1)] = None


@dataclass(frozen=True)
class BudgetOptions:
    """How the budget of ipc images per class is counted and spent.

    Args:
        by: ``images``: ipc counts stored images, without their labels (the paper); ``bytes``: the whole file
            takes no more bytes than ipc raw images of every class.
        bytes: of the whole file, in place of those of ipc raw images of every class; None: by ipc.
        fill: spend the unused rest of a budget of images on further natural images.
        codec: of the natural images; None stores raw pixels.
        quality: the codec's own, 0 to 100.
        speed: effort of AVIF's encoder, 0 (slowest, fewest bytes) to 10; None: Pillow's default, 6.
        subsampling: resolution of the colours: ``4:4:4`` is full, ``4:2:0`` half in both directions; not of WebP.
        per_class: how classes share the natural images: equally, or by the (square root of) their number of pictures.
    """

    by: Annotated[str, Choice("images", "bytes")] = "images"
    fill: bool = False
    codec: Annotated[str | None, Choice("avif", "webp", "jpeg")] = None
    quality: Annotated[int, Range(0, 100)] = 50
    per_class: Annotated[str, Choice("uniform", "sqrt", "proportional")] = "uniform"
    bytes: Annotated[int | None, Range(1, 10**12)] = field(default=None, metadata={"added": "0.2"})
    speed: Annotated[int | None, Range(0, 10)] = field(default=None, metadata={"added": "0.2"})
    subsampling: Annotated[str, SUBSAMPLINGS] = field(default="4:4:4", metadata={"added": "0.2"})

    def check_together(self, at: str) -> None:
        """Raise :class:`UserError` for a size of a file in a budget of images, and settings that a codec lacks."""
        if self.bytes is not None and self.by != "bytes":
            raise UserError(f"{at}bytes={self.bytes}: {at}by={self.by} counts images; choose {at}by=bytes")
        if self.speed is not None and self.codec != "avif":
            raise UserError(f"{at}speed={self.speed}: only avif has it, {at}codec={self.codec or 'null'} is chosen")
        if self.subsampling != "4:4:4" and self.codec not in ("avif", "jpeg"):
            has = f"avif and jpeg have it, {at}codec={self.codec or 'null'} is chosen"
            raise UserError(f"{at}subsampling={self.subsampling}: only {has}")


@dataclass(frozen=True)
class LabelOptions:
    """Which labels a distilled set has.

    Args:
        kind: ``static``: one soft label per image, stored; ``views``: soft labels of mixed views, stored; ``dynamic``:
            the teachers label each training batch; ``hard``: the class.
        space: average the teachers' ``logits`` (the paper) or their ``probabilities``; for static and dynamic labels.
        share: share of the bytes of the budget that labels of mixed views take. No more views are stored than a student
            of the run sees: one for each image of each of its steps.
        views: most mixed views; ``auto``: as many as a student of the run sees twenty-five times each in all its steps.
        bits: bits of an entry of a mixed view's label, which has C.
        coding: ``lzma`` compresses the labels of mixed views; their share of the bytes then holds more of them.
        mixing: of the two images of a mixed view.
        candidates: number of candidates per view, of which the proxy model chooses the one to learn most from.
        smooth_noise: number of smooth noise images, drawn from the seed; one is added to half of a view's images.
        proxy_steps: training steps of the proxy model.
    """

    kind: Annotated[str, Choice("static", "views", "dynamic", "hard")] = "static"
    space: Annotated[str, Choice("logits", "probabilities")] = "logits"
    share: Annotated[float, Range(1e-4, 100)] = 0.1
    mixing: Annotated[str, Choice("mixup", "cutmix", "none")] = "cutmix"
    candidates: Annotated[int, Choice(1, 2, 4, 16, 256)] = 1
    smooth_noise: Annotated[int, Range(0, 256)] = 0
    proxy_steps: Annotated[int, Range(1, 10**7)] = 1500
    bits: Annotated[int, Choice(2, 4, 8)] = field(default=8, metadata={"added": "0.2"})
    coding: Annotated[str, Choice("none", "lzma")] = field(default="none", metadata={"added": "0.2"})
    views: Annotated[int | str | None, RangeOrAuto(1, 10**9)] = field(default=None, metadata={"added": "0.2"})

    @property
    def identity(self) -> dict[str, Any]:
        """The options as the settings of a run, and the header of a file, know them, by the names of version 0.1."""
        content = {key: value for key, value in as_identity(self).items() if key not in ("smooth_noise", "proxy_steps")}
        noise = {"compensators": self.smooth_noise} if self.smooth_noise else {}
        return {**content, "scout": self.proxy_steps, **noise}


@dataclass(frozen=True)
class MixingOptions:
    """How a student's batch is interpolated.

    Args:
        kind: ``mixup``, ``cutmix`` or ``none``.
        alpha: the interpolation weight is drawn from Beta(alpha, alpha), once per batch.
        natural_ratio: share of natural images in a batch; None draws every image of the set equally often.
    """

    kind: Annotated[str, Choice("mixup", "cutmix", "none")] = "mixup"
    alpha: Annotated[float, Range(1e-3, 1e3)] = 0.8
    natural_ratio: Annotated[float | None, Range(0, 1)] = None


@dataclass(frozen=True)
class AugmentOptions:
    """How training images are augmented.

    Args:
        crop: pixels of black padding before a random crop of the image's size.
        flip: flip half of the images horizontally.
        resized_crop: in place of ``crop``, random boxes of at least this share of the area, resized; None: off.
    """

    crop: Annotated[int, Range(0, 1024)] = 4
    flip: bool = True
    resized_crop: Annotated[float | None, Range(0.01, 1)] = None
