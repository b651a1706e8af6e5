"""From a method's naturals to a labelled set that keeps to its budget: counted in images, or in bytes of the file."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infer import __version__
from infer.cli.schema import BaseConfig, MethodConfig, backbone
from infer.core import codec as coding
from infer.core import ufc
from infer.core.budget import Split, infer_split, natural_split
from infer.core.errors import UserError
from infer.core.files import digest
from infer.core.labels import Ensemble
from infer.core.mixed_views import Views, bits, quantise
from infer.core.progress import shown
from infer.distilled.dataset import DistilledSet, Header
from infer.methods import METHODS, Given, Naturals, check, infer_plus
from infer.training.context import Bench
from infer.training.fit import forget
from infer.training.students import StudentData, teach
from infer.training.teachers import Teacher

log = logging.getLogger("infer")

_SAMPLE = 256
_ATTEMPTS = 16
_SPARE = 1.1  # naturals that are made for each one that is expected to fit
_BATCH = 500
RANDOM = MethodConfig("random", False, {})
_SCOUT = 10**6  # seeds of scouts start here
_POWER = {"uniform": 0.0, "sqrt": 0.5, "proportional": 1.0}  # of a class's pictures: its weight among the naturals
_SLACK = 192  # bytes by which a whole set's header may be longer than that of one image


def split_by_images(config: BaseConfig, method: MethodConfig, classes: int) -> Split:
    """The split of a budget that counts images."""
    if method.compensators:
        return infer_split(config.ipc, classes, len(config.teachers.backbones), config.budget.fill)
    return natural_split(config.ipc * classes, classes)


def _rounds(targets: Tensor, split: Split) -> Tensor:
    """Positions of the naturals that meet a round's compensators, int64 [K, C], among ``targets`` int64 [N].

    A class with fewer naturals than rounds lends them again to the later ones; reading composes no image twice.
    """
    members = [(targets == number).nonzero().flatten() for number in range(split.classes)]
    return torch.stack([some[torch.arange(split.rounds) % len(some)] for some in members], dim=1)


@dataclass(frozen=True)
class Assembly:
    """What all sets of a run have in common.

    ``compensate(bench, folder, naturals uint8 [K, C, ch, H, W], targets int64 [K, C])`` optimises the compensators of K
    rounds against every teacher: float32 [K, M, ch, H, W], normalised units. ``folder`` is the run's; ``settings`` go
    into the headers, as where they come from.
    """

    bench: Bench
    picks: Sequence[Tensor]
    teachers: Sequence[Teacher]
    compensate: Callable[[Bench, Path, Tensor, Tensor], Tensor] | None
    folder: Path
    settings: Mapping[str, Any]

    @property
    def _config(self) -> BaseConfig:
        return self.bench.config

    @property
    def _image(self) -> int:
        return math.prod(self.bench.data.train.shape)

    def of(self, method: MethodConfig) -> DistilledSet:
        """The set of ``method`` within the configured budget, with the configured labels."""
        config, classes = self._config, len(self.bench.data.classes)
        if config.budget.by == "images":
            split = split_by_images(config, method, classes)
            check(self.bench.data, split.naturals)
            naturals = self._naturals(method, split.naturals)
            return self._labelled(self._compensated(*self._coded(naturals), split))
        one = self._unlabelled(Naturals(*self.bench.data.train[self.picks[0][:1]]))
        header = len(one.to_bytes()) - self._image + _SLACK
        return self._within(method, config.ipc * classes * self._image - header, least=classes)

    def rival(self, kind: str, room: int) -> DistilledSet:
        """Random naturals with labels of ``kind``, of no chosen views, and the configured coding, in ``room`` bytes
        beside the header."""
        return self._plainly(kind)._within(RANDOM, room)

    def lookalike(self, kind: str, images: int) -> DistilledSet:
        """So many random naturals with labels of ``kind``, of no chosen views, and the configured coding."""
        plain = self._plainly(kind)
        drawn = plain._naturals(RANDOM, min(images, len(self.bench.data.train)))
        coded, targets, sheets = plain._coded(drawn)
        return plain._labelled(plain._unlabelled(Naturals(coded, targets), sheets))

    def _plainly(self, kind: str) -> Assembly:
        config = replace(self._config, labels=replace(self._config.labels, kind=kind, candidates=1))
        return replace(self, bench=replace(self.bench, config=config))

    def _within(self, method: MethodConfig, room: int, least: int = 1) -> DistilledSet:
        """As many naturals, with their compensators and labels, as ``room`` bytes hold; :class:`UserError` where they
        are fewer than the ``least``. A codec's size is found by trying."""
        data, classes = self.bench.data, len(self.bench.data.classes)
        per_round = len(self._config.teachers.backbones) if method.compensators else 0
        if self._config.labels.kind == "views":
            room -= self._view_count * classes + math.ceil(self._view_count * bits(self._config.labels.candidates) / 8)

        def beside(count: int) -> int:
            """Bytes of what comes with so many naturals: compensators, targets and the labels of images."""
            rounds = count // classes * per_round
            soft = 2 * classes * (count + rounds * classes) if self._config.labels.kind == "static" else 0
            return rounds * self._image + (2 if classes > 256 else 1) * count + soft

        expected = self._bytes_an_image()
        counts = range(1, len(data.train) + 1)
        most = max(1, bisect_right(counts, room, key=lambda count: beside(count) + math.ceil(expected * count)))
        naturals = self._naturals(method, min(len(data.train), math.ceil(_SPARE * most)))
        count, best = most, None
        fits, fails = 0, len(data.train) + 1  # a codec's size jumps: a guess outside what is known gives way to halving
        for _ in range(_ATTEMPTS):
            images, targets, sheets = self._coded(Naturals(naturals.images[:count], naturals.targets[:count]))
            size = beside(count) + (sum(map(len, sheets)) or images.numel())
            if size <= room:
                best, fits = (images, targets, sheets), count
                if size > 0.99 * room or not sheets:
                    break
            else:
                fails = count
            guess = min(len(data.train), int(count * room / size * (0.998 if size > room else 1)))
            count = guess if fits < guess < fails else (fits + fails) // 2
            if count <= fits:
                break
            if count > len(naturals.targets):  # this method's images are cheaper than random ones
                naturals = self._naturals(method, min(len(data.train), math.ceil(_SPARE * count)))
        if best is None or fits < least:
            smaller = " or a smaller labels.share" if self._config.labels.kind == "views" else ""
            raise UserError(
                f"ipc={self._config.ipc}: {fits} naturals fit beside the labels, fewer than the {classes} classes; "
                f"choose a larger ipc{smaller}"
            )
        rounds = len(best[1]) // classes if per_round else 0
        split = Split(classes, rounds, per_round, len(best[1]) - rounds * classes)
        return self._labelled(self._compensated(*best, split))

    @property
    def real_coded(self) -> int:
        """About the bytes of all train pictures under the configured coding."""
        return round(self._bytes_an_image() * len(self.bench.data.train))

    def _bytes_an_image(self) -> float:
        """About what a natural takes under the configured coding, from the seed's first picks."""
        count = min(_SAMPLE, len(self.bench.data.train))
        images, _, sheets = self._coded(self._naturals(RANDOM, count))
        return sum(map(len, sheets)) / count if sheets else images[0].numel()

    def _naturals(self, method: MethodConfig, count: int) -> Naturals:
        bench, networks = self.bench, [teacher.network for teacher in self.teachers]
        weights = torch.tensor([float(len(members)) for members in self.picks]) ** _POWER[self._config.budget.per_class]
        given = Given(
            bench.data, self.picks, count, weights, networks, bench.config.seed, bench.hardware.device, self._telling
        )
        return METHODS[method.name](given, **method.options)

    def _coded(self, naturals: Naturals) -> tuple[Tensor, Tensor, tuple[bytes, ...]]:
        """Images as they will be read back, their targets, and the files they are in; none where they are raw."""
        budget = self._config.budget
        if budget.codec is None or not len(naturals.images):
            return naturals.images, naturals.targets, ()
        sheets = tuple(coding.encode(naturals.images, budget.codec, budget.quality))
        channels, height, width = naturals.images.shape[1:]
        return coding.decode(sheets, len(naturals.targets), (channels, height, width)), naturals.targets, sheets

    def _compensated(self, images: Tensor, targets: Tensor, sheets: tuple[bytes, ...], split: Split) -> DistilledSet:
        """With the compensators of the split, optimised on the naturals as a reader sees them."""
        unmet = self._unlabelled(Naturals(images, targets), sheets, split.compensators_per_round)
        if not split.compensators:
            return unmet
        assert self.compensate is not None
        met = _rounds(targets, split)
        u = self.compensate(self.bench, self.folder, images[met], targets[met])
        return replace(unmet, compensators=ufc.quantise(u.flatten(0, 1), self.bench.data.moments[1]))

    def _unlabelled(self, naturals: Naturals, sheets: tuple[bytes, ...] = (), per_round: int = 0) -> DistilledSet:
        config, data = self._config, self.bench.data
        kind = config.labels.kind
        provenance = {
            "dataset": data.name,
            "settings": dict(self.settings),
            "teachers": {teacher.name: round(teacher.accuracy, 4) for teacher in self.teachers},
            "code": f"infer {__version__}",
        }
        if kind == "dynamic":  # the consumer needs the teachers themselves
            provenance["files"] = {t.name: [str(t.file), digest(t.file.read_bytes())] for t in self.teachers}
        sizes = (t.numel() * t.element_size() for x in self.teachers for t in x.network.state_dict().values())
        header = Header(
            classes=data.classes,
            mean=data.moments[0].tolist(),
            std=data.moments[1].tolist(),
            labels=kind,
            space=config.labels.space if kind in ("static", "dynamic") else "probabilities",
            temperature=1.0 if kind == "hard" else config.recipe.student.temperature,
            compensators_per_round=per_round,
            label_bytes=sum(sizes) if kind == "dynamic" else 0,
            views=self._views(1).header if kind == "views" else None,
            provenance=provenance,
        )
        none = torch.empty(0, *naturals.images.shape[1:], dtype=torch.int8)
        return DistilledSet(naturals.images, naturals.targets, none, None, header, sheets)

    @property
    def _view_count(self) -> int:
        config = self._config
        return max(1, round(config.labels.share * config.ipc * self._image))

    def _views(self, pool: int) -> Views:
        """How the configuration has views drawn from a pool of so many images."""
        config = self._config
        return Views(
            self._view_count,
            pool,
            config.seed,
            mixing=config.labels.mixing,
            candidates=config.labels.candidates,
            compensators=config.labels.compensators,
            **self.bench.augmentation,
        )

    def _labelled(self, bare: DistilledSet) -> DistilledSet:
        """With its labels: of every image, or of every view."""
        header = bare.header
        if header.labels in ("hard", "dynamic"):
            return bare
        if header.views is None:
            return replace(bare, labels=self._labels(bare).half())
        views = self._views(bare.pool)
        viewed = replace(bare, header=replace(header, views=views.header))
        if views.candidates > 1:
            viewed = replace(viewed, choices=self._most_telling(viewed))
        return replace(viewed, labels=quantise(self._labels(viewed)))

    def _most_telling(self, viewed: DistilledSet) -> Tensor:
        """Of every view the candidate that tells the scout most: int64 [V]."""
        views = viewed.views
        assert views is not None
        told = []
        for number in range(views.candidates):
            log.info("what views tell: candidate %d of %d of %d views", number + 1, views.candidates, views.count)
            candidates = replace(viewed, choices=torch.full((views.count,), number))
            batches = shown(torch.arange(views.count).split(_BATCH), "what views tell")
            told.append(torch.cat([self._telling(candidates.images(some)) for some in batches]))
        return torch.stack(told).argmax(dim=0)

    def _labels(self, bare: DistilledSet) -> Tensor:
        """The teachers' labels of every item of ``bare``: float32 [len, C]."""
        header = bare.header
        ensemble = self._ensemble(header.space, header.temperature)
        log.info("labels of %d %s by %d teachers", len(bare), "views" if bare.views else "images", len(self.teachers))
        batches = shown(torch.arange(len(bare)).split(_BATCH), "labels")
        return torch.cat([ensemble(self._inputs(bare.images(some))).cpu() for some in batches])

    def _ensemble(self, space: str, temperature: float) -> Ensemble:
        networks = [teacher.network for teacher in self.teachers]
        return Ensemble(networks, space, temperature).to(self.bench.hardware.device)

    def _inputs(self, images: Tensor) -> Tensor:
        """Pixel levels [B, ch, H, W] as networks take them."""
        device = self.bench.hardware.device
        mean, std = (moment.to(device) for moment in self.bench.data.moments)
        return ufc.normalise(images.to(device), mean, std)

    @torch.no_grad()
    def _telling(self, images: Tensor) -> Tensor:
        """How much ``images`` uint8 [B, ch, H, W] would tell the scout: float32 [B]."""
        temperature = self._config.recipe.student.temperature
        logits = self._ensemble("probabilities", temperature).logits(self._inputs(images))
        return infer_plus.telling(self._scout(images.to(logits.device)), logits, temperature).cpu()

    @cached_property
    def _scout(self) -> nn.Module:
        """A student of random naturals in the same budget, with the same kind of labels: it shows what these leave out.

        Students that a table compares have other seeds.
        """
        bench, config = self.bench, self._config
        plain = replace(config, labels=replace(config.labels, candidates=1))
        lessons = replace(self, bench=replace(bench, config=plain)).of(RANDOM)
        bench = replace(bench, report=None)  # of students of the set itself
        name, seed, folder = config.students.backbones[0], _SCOUT + config.seed, self.folder / "scout"
        data = StudentData.of_set(lessons, [teacher.network for teacher in self.teachers])
        with torch.enable_grad():
            scout, _ = teach(bench, f"{name}-scout", backbone(name), data, config.labels.scout, seed, folder)
        forget(folder, "student")  # the next set of this folder has a scout of its own
        return scout.to(bench.hardware.device).eval()
