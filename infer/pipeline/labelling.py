"""Labels of a set: the teachers' outputs on its images or on its mixed views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from infer.core import ufc
from infer.core.labels import Ensemble
from infer.core.mixed_views import MixedViews, choice_bits, quantise_labels
from infer.core.options import LabelOptions
from infer.core.progress import counted, stage, track
from infer.distilled import DistilledSet
from infer.methods.proxy import ProxyModel
from infer.training.context import Context

_BATCH = 500


@dataclass(frozen=True)
class Labeller:
    """Labels sets of a run.

    Args:
        context: of the run.
        networks: the teachers.
        options: which labels.
        ipc: raw images per class; labels of mixed views take ``options.share`` of their bytes.
        seed: of the mixed views.
    """

    context: Context
    networks: Sequence[nn.Module]
    options: LabelOptions
    ipc: int
    seed: int

    @property
    def view_count(self) -> int:
        """Number of mixed views."""
        return max(1, round(self.options.share * self.ipc * math.prod(self.context.data.train.shape)))

    @property
    def view_bytes(self) -> int:
        """Bytes of the labels of all mixed views and of the choices among their candidates."""
        if self.options.kind != "views":
            return 0
        classes = len(self.context.data.classes)
        return self.view_count * classes + math.ceil(self.view_count * choice_bits(self.options.candidates) / 8)

    def mixed_views(self, pool: int) -> MixedViews:
        """Describe the mixed views of a pool of ``pool`` images."""
        augment, labels = self.context.augmentation, self.options
        return MixedViews(
            count=self.view_count,
            pool=pool,
            seed=self.seed,
            crop=augment.crop,
            flip=augment.flip,
            resized_crop=augment.resized_crop,
            mixing=labels.mixing,
            candidates=labels.candidates,
            smooth_noise=labels.smooth_noise,
        )

    def label(self, bare: DistilledSet, proxy: ProxyModel | None = None) -> DistilledSet:
        """Return ``bare`` with its labels, of each image or of each mixed view; ``proxy`` chooses among candidates."""
        header = bare.header
        if header.labels in ("hard", "dynamic"):
            return bare
        if header.views is None:
            return replace(bare, labels=self._labels(bare).half())
        views = self.mixed_views(bare.pool)
        viewed = replace(bare, header=replace(header, views=views.header))
        if proxy and views.candidates > 1:
            viewed = replace(viewed, choices=self._choose(viewed, views, proxy))
        return replace(viewed, labels=quantise_labels(self._labels(viewed)))

    def placeholder(self, bare: DistilledSet) -> DistilledSet:
        """Return ``bare`` with labels of zeros: a set of the same file size."""
        classes = len(bare.classes)
        if bare.header.labels in ("hard", "dynamic"):
            return bare
        if bare.header.views is None:
            return replace(bare, labels=torch.zeros(bare.pool, classes, dtype=torch.float16))
        views = self.mixed_views(bare.pool)
        choices = torch.zeros(views.count, dtype=torch.int64) if views.candidates > 1 else None
        labels = torch.zeros(views.count, classes, dtype=torch.uint8)
        return replace(bare, labels=labels, choices=choices, header=replace(bare.header, views=views.header))

    def _choose(self, viewed: DistilledSet, views: MixedViews, proxy: ProxyModel) -> Tensor:
        """Return, for each mixed view, its candidate of the highest reducible loss: int64 [V]."""
        stage("Choosing %s among %d candidates each", counted(views.count, "mixed view"), views.candidates)
        losses = []
        for number in range(views.candidates):
            candidates = replace(viewed, choices=torch.full((views.count,), number))
            title = f"candidate {number + 1} of {views.candidates}"
            batches = track(torch.arange(views.count).split(_BATCH), title)
            losses.append(torch.cat([proxy.reducible_loss(candidates.images(part)) for part in batches]))
        return torch.stack(losses).argmax(dim=0)

    def _labels(self, bare: DistilledSet) -> Tensor:
        """Return the teachers' labels of every item of ``bare``: float32 [len, C]."""
        header, device = bare.header, self.context.trainer.device
        ensemble = Ensemble(self.networks, header.space, header.temperature).to(device)
        items = counted(len(bare), "mixed view" if bare.mixed_views else "image")
        stage("Labelling %s with %s", items, counted(len(self.networks), "teacher"))
        mean, std = (moment.to(device) for moment in self.context.data.moments)
        found = []
        for part in track(torch.arange(len(bare)).split(_BATCH), "labels"):
            found.append(ensemble(ufc.normalise(bare.images(part).to(device), mean, std)).cpu())
        return torch.cat(found)
