"""Labels of a set: the teachers' outputs on its images or on its mixed views."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
from torch import Tensor

from infer.core import ufc
from infer.core.label_code import quantise_labels
from infer.core.labels import Ensemble, average, stored_labels
from infer.core.mixed_views import MixedViews
from infer.core.options import LabelOptions
from infer.core.progress import counted, stage, track, unnumbered
from infer.distilled import DistilledSet, Header
from infer.methods.proxy import ProxyModel
from infer.models.weights import require_finite
from infer.training.context import Context
from infer.training.teachers import Teacher

log = logging.getLogger("infer")

_BATCH = 500

_SAMPLE = 2000
"""Mixed views that tell how many bytes compressed labels take."""

_SPARE = 1.03
"""Views that are labelled for each one that is expected to fit; longer files are compressed a little better."""

_NUMBERS = 64
"""Bytes of header by which many views may take more than one: the digits of their numbers."""


@dataclass(frozen=True)
class Labeller:
    """Labels sets of a run.

    Args:
        context: of the run.
        teachers: of the run.
        options: which labels.
        asked: number of mixed views that ``options.share`` asks for.
        view_count: number of mixed views that are stored, or the most of them where ``room`` bounds their bytes.
        seed: of the mixed views.
        room: bytes that compressed labels and the choices among candidates may take; None: they are not compressed.
    """

    context: Context
    teachers: Sequence[Teacher]
    options: LabelOptions
    asked: int
    view_count: int
    seed: int
    room: int | None = None

    def mixed_views(self, pool: int, count: int | None = None) -> MixedViews:
        """Describe ``count`` mixed views, or as many as are stored, of a pool of ``pool`` images."""
        augment, labels = self.context.augmentation, self.options
        return MixedViews(
            count=count or self.view_count,
            pool=pool,
            seed=self.seed,
            crop=augment.crop,
            flip=augment.flip,
            resized_crop=augment.resized_crop,
            mixing=labels.mixing,
            candidates=labels.candidates,
            smooth_noise=labels.smooth_noise,
            label_bits=cast("Literal[2, 4, 8]", labels.bits),
            label_coding=labels.coding,
        )

    def label(self, bare: DistilledSet, proxy: ProxyModel | None = None) -> DistilledSet:
        """Return ``bare`` with its labels, of each image or of each mixed view; ``proxy`` chooses among candidates.

        Raises:
            UserError: for a teacher whose logits are NaN or infinite.
        """
        header = bare.header
        if header.labels in ("hard", "dynamic"):
            return bare
        if header.views is None:
            return replace(bare, labels=stored_labels(self._labels(bare), header.space))
        if self.room is None:
            _tell_of_views(self.options, self.asked, self.view_count)
            return self._labelled(bare, self.view_count, proxy)
        with unnumbered():
            sample = self._labelled(bare, min(self.view_count, _SAMPLE), proxy)
        asked = math.ceil(_SPARE * self.room * len(sample) / sample.label_bytes)
        _tell_of_views(self.options, asked, self.view_count)
        count = min(asked, self.view_count)
        return _within(sample if count == len(sample) else self._labelled(bare, count, proxy), self.room)

    def _labelled(self, bare: DistilledSet, count: int, proxy: ProxyModel | None) -> DistilledSet:
        """Return ``bare`` with labels of ``count`` mixed views."""
        views = self.mixed_views(bare.pool, count)
        viewed = replace(bare, header=replace(bare.header, views=views.header))
        if proxy and views.candidates > 1:
            return self._chosen(viewed, views, proxy)
        return replace(viewed, labels=quantise_labels(self._labels(viewed), views.label_bits))

    def file_bytes(self, bare: DistilledSet) -> int:
        """Return the bytes of the file of ``bare`` with its labels, which do not exist yet, or slightly more."""
        classes = len(bare.classes)
        if bare.header.labels in ("hard", "dynamic"):
            return len(bare.to_bytes())
        if bare.header.views is None:
            return len(replace(bare, labels=torch.zeros(bare.pool, classes, dtype=torch.float16)).to_bytes())
        views = self.mixed_views(bare.pool, None if self.room is None else 1)
        choices = torch.zeros(views.count, dtype=torch.int64) if views.candidates > 1 else None
        labels, header = torch.zeros(views.count, classes, dtype=torch.uint8), replace(bare.header, views=views.header)
        found = len(replace(bare, labels=labels, choices=choices, header=header).to_bytes())
        return found if self.room is None else found + self.room + _NUMBERS

    def _chosen(self, viewed: DistilledSet, views: MixedViews, proxy: ProxyModel) -> DistilledSet:
        """Return ``viewed`` with the candidate of the highest reducible loss of each mixed view, and with its label.

        Each candidate is composed once and passes once through the teachers: the label of the best one so far is kept.
        """
        items, teachers = counted(views.count, "mixed view"), counted(len(self.teachers), "teacher")
        stage("Choosing %s among %d candidates each, and labelling with %s", items, views.candidates, teachers)
        largest = torch.full((views.count,), -torch.inf)
        choices = torch.zeros(views.count, dtype=torch.int64)
        labels = torch.zeros(views.count, len(viewed.classes), dtype=torch.uint8)
        for number in range(views.candidates):
            candidates = replace(viewed, choices=torch.full((views.count,), number)).to(self.context.trainer.device)
            title = f"candidate {number + 1} of {views.candidates}"
            for part in track(torch.arange(views.count).split(_BATCH), title):
                images = candidates.images(part.to(candidates.device))
                logits, own_labels = self._outputs(viewed.header, images)
                losses = proxy.reducible_loss(images, logits)
                better = ~(losses <= largest[part])  # so that every view gets a label, whatever the losses are
                largest[part[better]], choices[part[better]] = losses[better], number
                labels[part[better]] = quantise_labels(own_labels[better], views.label_bits)
        return replace(viewed, choices=choices, labels=labels)

    def _labels(self, bare: DistilledSet) -> Tensor:
        """Return the teachers' labels of every item of ``bare``: float32 [len, C]."""
        items = counted(len(bare), "mixed view" if bare.mixed_views else "image")
        stage("Labelling %s with %s", items, counted(len(self.teachers), "teacher"))
        composed = bare.to(self.context.trainer.device)
        batches = track(torch.arange(len(bare), device=composed.device).split(_BATCH), "labels")
        return torch.cat([self._outputs(bare.header, composed.images(part))[1] for part in batches])

    def _outputs(self, header: Header, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teachers' logits float32 [M, B, C] of ``images`` uint8 [B, ch, H, W], and their labels [B, C]."""
        device = self.context.trainer.device
        ensemble = Ensemble([teacher.network for teacher in self.teachers], header.space, header.temperature).to(device)
        mean, std = (moment.to(device) for moment in self.context.data.moments)
        logits = ensemble.logits(ufc.normalise(images.to(device), mean, std))
        for teacher, own in zip(self.teachers, logits, strict=True):
            require_finite(f"teacher {teacher.name}", own)
        return logits, average(logits, header.space, header.temperature).cpu()


def _tell_of_views(options: LabelOptions, asked: int, stored: int) -> None:
    """Log that fewer views are stored than were asked for."""
    if stored < asked:
        reason = "a student sees no more in all its steps" if options.views is None else f"labels.views={options.views}"
        views = counted(asked, "mixed view")
        log.info("labels.share=%s: %s asked, %s stored: %s", options.share, views, f"{stored:,}", reason)


def _within(labelled: DistilledSet, room: int) -> DistilledSet:
    """Return the set with the first of its mixed views, as many as fit into ``room`` bytes with their choices."""
    views, found = labelled.mixed_views, labelled
    assert views is not None
    assert labelled.labels is not None
    count = views.count
    while found.label_bytes > room and count > 1:
        count = max(1, min(count - 1, int(count * 0.9995 * room / found.label_bytes)))
        choices = None if labelled.choices is None else labelled.choices[:count]
        header = replace(labelled.header, views=replace(views, count=count, drawn=views.count).header)
        found = replace(labelled, labels=labelled.labels[:count], choices=choices, header=header)
    return found
