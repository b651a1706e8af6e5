"""From a method's natural images to a labelled set within its budget, counted in images or in bytes of the file."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infer.core import ufc
from infer.core.budget import Split
from infer.core.progress import stage, unnumbered
from infer.data.stratified import members_of_each
from infer.distilled import DistilledSet
from infer.methods.proxy import ProxyModel
from infer.methods.selection import Naturals
from infer.pipeline.byte_budget import ByteBudget
from infer.pipeline.labelling import Labeller
from infer.pipeline.limits import asked_views, require_possible, split_by_images, stored_views, view_bytes
from infer.pipeline.naturals import Compressed, NaturalsSource
from infer.pipeline.proxy import train_proxy
from infer.pipeline.set_header import set_header
from infer.pipeline.set_options import SetOptions
from infer.training.compensators import Compensators
from infer.training.context import Context
from infer.training.teachers import Teacher

log = logging.getLogger("infer")

_SLACK = 192
"""Bytes by which the header of a whole set may be longer than that of one image, at a first try."""


@dataclass(frozen=True)
class Assembler:
    """Creates the sets of a run.

    Args:
        context: of the run.
        options: of the set.
        order: of the train pictures of each class, by the seed: C tensors int64.
        teachers: of the run.
        compensators: optimises compensators; None where the method has none.
        folder: the run's, for checkpoints; None writes nothing.
        settings: go into the header, as the set's provenance.
        known_proxy: a proxy model that is trained already; None trains one where it is needed.
    """

    context: Context
    options: SetOptions
    order: Sequence[Tensor]
    teachers: Sequence[Teacher]
    compensators: Compensators | None = None
    folder: Path | None = None
    settings: Mapping[str, Any] | None = None
    known_proxy: ProxyModel | None = None

    @property
    def _classes(self) -> int:
        return len(self.context.data.classes)

    @property
    def _bytes(self) -> int:
        """Bytes of the file of a budget that counts them."""
        return self.options.file_bytes(self._classes, math.prod(self.context.data.train.shape))

    @property
    def networks(self) -> list[nn.Module]:
        """The teachers' networks."""
        return [teacher.network for teacher in self.teachers]

    def create(self) -> DistilledSet:
        """Create the set within its budget.

        Raises:
            UserError: where the data or the budget have too little for it; see :meth:`require_possible`.
        """
        self.require_possible()
        return self._finished(*self._filled)

    @property
    def naturals(self) -> Compressed:
        """The natural images of the set that :meth:`create` creates, before it has compensators and labels."""
        return self._filled[0]

    @cached_property
    def _filled(self) -> tuple[Compressed, Split]:
        """The natural images within the budget, and its split."""
        if self.options.budget.by == "bytes":
            return _fill(self)
        split = split_by_images(self.options, self._classes, len(self.teachers))
        return self._source.compress(self._select(split.naturals)), split

    def require_possible(self) -> None:
        """Check, before anything is trained, that the data and the budget have enough for the set.

        Raises:
            UserError: see :func:`infer.pipeline.limits.require_possible`, and where it is certain that the bytes hold
                fewer natural images than there are classes.
        """
        require_possible(self.options, self.context.data, len(self.teachers))
        if self.options.budget.by == "bytes":
            self._budget.require_room(self._bytes - _header_bytes(self), self._classes)

    def within_bytes(self, room: int) -> DistilledSet:
        """Create the set in ``room`` bytes, its header not counted."""
        return self._finished(*self._budget.fill(room, least=1, proxy=self.proxy))

    def of_images(self, images: int) -> DistilledSet:
        """Create a set of ``images`` natural images, at most all pictures, without compensators."""
        pictures = len(self.context.data.train)
        if images > pictures:
            log.info("%d random pictures are asked for; the set holds every train picture (%d)", images, pictures)
        naturals = self._source.compress(self._select(min(images, pictures)))
        return self._finished(naturals, Split(self._classes, 0, 0, len(naturals.targets)))

    @property
    def real_bytes(self) -> int:
        """Estimate of the bytes of all train pictures under the codec."""
        return round(self._source.bytes_an_image() * len(self.context.data.train))

    @cached_property
    def proxy(self) -> ProxyModel | None:
        """The proxy model; None where the set needs none."""
        return (self.known_proxy or _trained_proxy(self)) if self.options.uses_proxy else None

    @cached_property
    def _source(self) -> NaturalsSource:
        options = self.options
        return NaturalsSource(self.context, self.order, self.teachers, options.seed, options.budget)

    @cached_property
    def _labeller(self) -> Labeller:
        options, data = self.options, self.context.data
        views = stored_views(options, data, len(self.teachers))
        coded = options.labels.kind == "views" and options.labels.coding != "none"
        room = view_bytes(options, data, views) if coded else None
        asked = asked_views(options, data)
        return Labeller(self.context, self.teachers, options.labels, asked, views, options.seed, room)

    @cached_property
    def _budget(self) -> ByteBudget:
        return ByteBudget(self._source, self._labeller, self.options, len(self.teachers))

    def _select(self, count: int) -> Naturals:
        return self._source.select(self.options.method, count, self.proxy)

    def _finished(self, naturals: Compressed, split: Split) -> DistilledSet:
        """Add compensators and labels; all processes of the job get the images and the labels of the first."""
        naturals, split = self.context.from_first("the images of a set", lambda: (naturals, split))
        bare = _unlabelled(self, naturals, split.compensators_per_round)
        whole = replace(bare, compensators=_compensators(self, naturals, split)) if split.compensators else bare
        labelled = self._labeller.label(whole, self.proxy)
        return self.context.from_first("the labels of a set", lambda: labelled)


def _fill(assembler: Assembler) -> tuple[Compressed, Split]:
    """Return the natural images that fill the bytes of the file, and the split."""
    header = _header_bytes(assembler)
    while True:  # a header that outgrows its slack gets more room
        found = assembler._budget.fill(assembler._bytes - header, assembler._classes, assembler.proxy)
        over = _file_bytes(assembler, *found) - assembler._bytes
        if over <= 0:
            return found
        header += over


def _trained_proxy(assembler: Assembler) -> ProxyModel:
    """Train the proxy model: a student of random pictures in the same budget, with the same kind of labels."""
    options = assembler.options
    stage("Training the proxy model (%s, %d steps)", options.proxy_backbone, options.labels.proxy_steps)
    with unnumbered():
        random = replace(assembler, options=options.baseline(options.labels.kind)).create()
        return train_proxy(assembler.context, options, random, assembler.networks, assembler.folder)


def planned(context: Context, options: SetOptions, teachers: Sequence[str], settings: Mapping[str, Any]) -> Assembler:
    """Return an assembler whose teachers are not trained yet, for :meth:`Assembler.require_possible` alone.

    The header of its set is no longer than that with the trained teachers, whose accuracies and files it names.
    """
    untrained = [Teacher(name, nn.Identity(), 0.0, 0.0, 0.0, None) for name in teachers]
    return Assembler(context, options, (), untrained, settings=settings)


def _unlabelled(assembler: Assembler, naturals: Compressed, per_round: int = 0) -> DistilledSet:
    """Return the set before its compensators and labels exist."""
    options, settings = assembler.options, assembler.settings or {}
    views = assembler._labeller.mixed_views(1) if options.labels.kind == "views" else None
    header = set_header(assembler.context.data, options, assembler.teachers, settings, per_round, views)
    none = torch.empty(0, *naturals.images.shape[1:], dtype=torch.int8)
    return DistilledSet(naturals.images, naturals.targets, none, None, header, naturals.sheets)


def _header_bytes(assembler: Assembler) -> int:
    """Return the bytes of the header, as that of a set of one image tells them."""
    one = Compressed(*assembler.context.data.train[torch.tensor([0])])
    return len(_unlabelled(assembler, one).to_bytes()) - one.nbytes + _SLACK


def _file_bytes(assembler: Assembler, naturals: Compressed, split: Split) -> int:
    """Return the exact size of the file, before its compensators and labels exist."""
    bare = _unlabelled(assembler, naturals, split.compensators_per_round)
    zeros = torch.zeros(split.compensators, *naturals.images.shape[1:], dtype=torch.int8)
    return assembler._labeller.file_bytes(replace(bare, compensators=zeros))


def _compensators(assembler: Assembler, naturals: Compressed, split: Split) -> Tensor:
    """Optimise the compensators of the split on the natural images as a reader gets them; int8 [U, ch, H, W]."""
    assert assembler.compensators is not None
    rounds = _rounds(naturals.targets, split)
    images, targets = naturals.images[rounds], naturals.targets[rounds]
    u = assembler.compensators.optimise(assembler.context, assembler.options.seed, assembler.folder, images, targets)
    return ufc.quantise(u.flatten(0, 1), assembler.context.data.moments[1])


def _rounds(targets: Tensor, split: Split) -> Tensor:
    """Return the positions int64 [K, C], among ``targets`` int64 [N], of the natural images of each round.

    The images of a class with fewer images than rounds are used again in later rounds; reading composes no image twice.
    """
    members = members_of_each(targets, split.classes)
    return torch.stack([own[torch.arange(split.rounds) % len(own)] for own in members], dim=1)
