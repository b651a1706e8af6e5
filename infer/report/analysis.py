"""What a report rests on: what a student of the file loses and where, and what the file keeps and gives away."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import save as to_safetensors
from scipy.special import stdtrit
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix

from infer.cli.schema import REPORTED, backbone
from infer.core import codec as coding
from infer.core import ufc
from infer.core.files import read_tensors, write_bytes
from infer.distilled.dataset import DistilledSet
from infer.metrics.boundary import Pair, confused_pairs, flips, margins
from infer.metrics.fidelity import kept
from infer.metrics.privacy import membership, memorised_fid, nearness
from infer.models.networks import features, frozen, load_weights
from infer.pipeline.assemble import Assembly
from infer.pipeline.compare import Sets

log = logging.getLogger("infer")

LEVEL = 0.95
"""Of every interval."""

_Z = 1.959964
_MOST = 2000  # pictures of a kind that are looked at: distances are taken between all pairs
_ON_MAP = 400  # points of a kind on the map: t-SNE of some thousand takes a quarter of a minute
_WIDTH = 64  # principal components that distances are taken in: with some hundred pictures more are noise
_MIXED_IN = 0.3  # of a picture of a similar class, for decisions that turn
_THUMBNAILS = 6
_BATCH = 500


class Exhibits(NamedTuple):
    """What the report draws, and result.json does not hold: ``points`` float32 [P, 2] on a map of a teacher's features,
    their class ``of`` and ``kind`` (:data:`KINDS`) int64 [P]; ``margins`` of the students' decisions by source; and
    ``mistakes`` uint8 [T, ch, H, W], real pictures that only the student of the file gets wrong, with their class and
    what it took them for, int64 [T, 2]."""

    points: Tensor
    of: Tensor
    kind: Tensor
    margins: dict[str, Tensor]
    mistakes: Tensor
    taken: Tensor

    def save(self, path: Path) -> None:
        """Write them, whole or not at all."""
        content = {f"margins.{source}": values for source, values in self.margins.items()}
        content |= {name: value for name, value in self._asdict().items() if name != "margins"}
        write_bytes(path, to_safetensors({name: value.contiguous() for name, value in content.items()}))

    @classmethod
    def load(cls, path: Path) -> Exhibits:
        """What :meth:`save` wrote."""
        content = read_tensors(path)
        found = {name.partition(".")[2]: content.pop(name) for name in list(content) if name.startswith("margins.")}
        return cls(margins=found, **content)


KINDS = ("test", "distilled naturals", "distilled composed", "random naturals", "random composed")


def usable(row: Mapping[str, Any]) -> bool:
    """Whether the students of a row of the comparison still lie where it says."""
    return "weights" in row and all(Path(file).is_file() for file in row["weights"])


def evidence(sets: Sets, rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], Exhibits]:
    """All of it for the first student of the table, from the ``rows`` of :data:`infer.cli.schema.REPORTED`."""
    student = sets.assembly.bench.config.students.backbones[0]
    inquiry = _Inquiry(sets, student, {row["source"]: row for row in rows if row["backbone"] == student})
    log.info("evidence for the report: what students of %s decide", ", ".join(REPORTED))
    found: dict[str, Any] = {"student": student, "level": LEVEL, "test_pictures": len(inquiry.targets)}
    found["seeds"] = inquiry.rows["distilled"]["seeds"]
    found["real_coded"] = sets.assembly.real_coded
    found["rarest"] = int(sets.assembly.bench.data.class_shares.argmin())
    found["loss"] = inquiry.loss()
    found["mixed_in"] = _MIXED_IN
    found["sources"] = {source: inquiry.decisions(source) for source in REPORTED}
    found["classes"], mistakes, taken = inquiry.mistakes()
    log.info("evidence for the report: what the file keeps and gives away")
    found["kept"] = inquiry.kept()
    found["components"] = inquiry.components
    found["privacy"] = inquiry.privacy()
    log.info("evidence for the report: a map of the classes")
    spread = {source: inquiry.margins(source) for source in REPORTED}
    return _plain(found), Exhibits(*inquiry.map(), spread, mistakes, taken)


@dataclass(frozen=True)
class _Inquiry:
    """The sets, the pictures and the students that the questions are put to."""

    sets: Sets
    student: str
    rows: Mapping[str, Mapping[str, Any]]

    @property
    def _assembly(self) -> Assembly:
        return self.sets.assembly

    @cached_property
    def _test(self) -> tuple[Tensor, Tensor]:
        return self._some(self._assembly.bench.data.test)

    @property
    def targets(self) -> Tensor:
        """Classes of the test pictures that are looked at: int64 [N]."""
        return self._test[1]

    def _some(self, part: Any, most: int = _MOST) -> tuple[Tensor, Tensor]:
        """Pictures of a part and their classes, drawn without a class in mind; the first of them are so too."""
        return part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:most]]

    def _inputs(self, images: Tensor) -> list[Tensor]:
        """Batches as networks take them."""
        device = self._assembly.bench.hardware.device
        mean, std = (moment.to(device) for moment in self._assembly.bench.data.moments)
        return [ufc.normalise(some.to(device), mean, std) for some in images.split(_BATCH)]

    @cached_property
    def _students(self) -> dict[str, list[nn.Module]]:
        bench, found = self._assembly.bench, {}
        for source in REPORTED:
            found[source] = [bench.network(backbone(self.student)) for _ in self.rows[source]["weights"]]
            for network, file in zip(found[source], self.rows[source]["weights"], strict=True):
                load_weights(network, Path(file))
                frozen(network.to(bench.hardware.device))
        return found

    @torch.no_grad()
    def _logits(self, source: str, images: Tensor) -> Tensor:
        """Of every student of a source: float32 [S, N, C], on the CPU."""
        batches = self._inputs(images)
        return torch.stack([torch.cat([net(some).float().cpu() for some in batches]) for net in self._students[source]])

    @cached_property
    def logits(self) -> dict[str, Tensor]:
        """Of the test pictures, by source: float32 [S, N, C]."""
        return {source: self._logits(source, self._test[0]) for source in REPORTED}

    def loss(self) -> dict[str, Any]:
        """What the student of the file lacks of that of the real set, in 0 to 1, and its interval.

        Each test picture is asked of both: the interval is that of the mean of their differences (of those over
        seeds), widened by that of the difference of the students' means (Student's t), and tells how far other test
        pictures and other students would have moved it; of one student it cannot say so. Classes count alike where
        training was.
        """
        right = {source: (logits.argmax(-1) == self.targets).float().mean(0) for source, logits in self.logits.items()}
        difference = right["real"] - right["distilled"]
        balanced = self._assembly.bench.balanced
        counts = self.targets.bincount().float()
        weight = 1 / counts[self.targets] / (counts > 0).sum() if balanced else torch.ones(()) / len(difference)
        mean = float((weight * difference).sum())
        half = _Z * math.sqrt(float((weight**2 * (difference - mean) ** 2).sum()))
        students = [
            (weight * (self.logits[source].argmax(-1) == self.targets)).sum(1) for source in ("real", "distilled")
        ]
        if (count := len(students[0])) > 1:
            error = math.sqrt(sum(float(each.var()) for each in students) / count)
            half = math.hypot(half, float(stdtrit(2 * count - 2, (1 + LEVEL) / 2)) * error)
        own = {source: float((weight * right[source]).sum()) for source in REPORTED}
        return {**own, "points": mean, "low": mean - half, "high": mean + half, "balanced": balanced}

    def _confused(self, source: str) -> Tensor:
        """Over all students of a source: int64 [C, C]."""
        logits = self.logits[source]
        classes = len(self._assembly.bench.data.classes)
        return multiclass_confusion_matrix(logits.argmax(-1).flatten(), self.targets.repeat(len(logits)), classes)

    @cached_property
    def _similar(self) -> list[Pair]:
        """Classes that students of the real set confuse, or where they never do, those of the file."""
        return confused_pairs(self._confused("real")) or confused_pairs(self._confused("distilled"))

    def margins(self, source: str) -> Tensor:
        """Of every decision of the students of a source: float32 [S * N]."""
        logits = self.logits[source]
        return margins(logits.flatten(0, 1), self.targets.repeat(len(logits)))

    def decisions(self, source: str) -> dict[str, Any]:
        """What the students of a source confuse, and how near their decisions are to falling otherwise."""
        names = self._assembly.bench.data.classes
        spread = self.margins(source)
        images = torch.cat(self._inputs(self._test[0])).cpu()
        device = self._assembly.bench.hardware.device
        network = self._students[source][0]
        turned = flips(lambda some: network(some.to(device)).cpu(), images, self.targets, self._similar, _MIXED_IN, 0)
        return {
            "confused": [
                {"one": names[pair.one], "other": names[pair.other], "share": pair.share}
                for pair in confused_pairs(self._confused(source))
            ],
            "margin_quarter": float(spread.quantile(0.25)),
            "margin_median": float(spread.median()),
            "turned": turned,
        }

    def mistakes(self) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
        """By class: how many test pictures most students of the real set get right and most of the file wrong, the
        other way round too; and the first few of the former, with what they were taken for."""
        answers = {source: logits.argmax(-1) for source, logits in self.logits.items()}
        right = {source: (answer == self.targets).float().mean(0) > 0.5 for source, answer in answers.items()}
        lost, won = right["real"] & ~right["distilled"], right["distilled"] & ~right["real"]
        taken_for = answers["distilled"].mode(dim=0).values
        classes, shown = [], []
        for number, name in enumerate(self._assembly.bench.data.classes):
            own = self.targets == number
            wrong = (lost & own & (taken_for != number)).nonzero().flatten()
            shown.append(wrong[:_THUMBNAILS])
            counts = {"pictures": int(own.sum()), "lost": int((lost & own).sum()), "won": int((won & own).sum())}
            recall = {
                source: float(right_or_not[:, own].float().mean()) if own.any() else float("nan")
                for source, right_or_not in ((s, a == self.targets) for s, a in answers.items())
            }
            classes.append({"name": name, **counts, "recall": recall, "shown": len(shown[-1])})
        positions = torch.cat(shown)
        return classes, self._test[0][positions], torch.stack([self.targets[positions], taken_for[positions]], dim=1)

    @cached_property
    def _teacher(self) -> nn.Module:
        return max(self._assembly.teachers, key=lambda teacher: teacher.balanced_accuracy).network

    @cached_property
    def _components(self) -> tuple[Tensor, Tensor]:
        """Mean [D] of the teacher's features of the test pictures and their first principal components [D, d]."""
        found = self._raw_features(self._test[0])
        mean = found.mean(0)
        _, _, directions = torch.linalg.svd(found - mean, full_matrices=False)
        return mean, directions[:_WIDTH].T

    @property
    def components(self) -> int:
        """How many principal components distances are taken in."""
        return self._components[1].shape[1]

    def _raw_features(self, images: Tensor) -> Tensor:
        return features(self._teacher.to(self._assembly.bench.hardware.device), self._inputs(images))

    def _features(self, images: Tensor) -> Tensor:
        """float32 [N, d]."""
        mean, directions = self._components
        return (self._raw_features(images) - mean) @ directions

    @cached_property
    def _train(self) -> tuple[Tensor, Tensor]:
        return self._some(self._assembly.bench.data.train)

    def kept(self) -> dict[str, Any]:
        """Of naturals, composed images or views, and of as many random train pictures as there are naturals: how they
        stand to the test pictures in the teacher's features, of all classes and (without distances) of each. What is
        composed may copy pictures that were trained on; the others are such pictures."""
        distilled = self.sets["distilled"]
        naturals = (distilled.naturals[:_MOST], distilled.targets[:_MOST])
        count = len(naturals[0])
        kinds = {"naturals": naturals, "composed": composed(distilled, _MOST)}
        kinds["random"] = self._train[0][:count], self._train[1][:count]
        real = self._features(self._test[0])
        train = torch.cat([self._features(part) for part in (naturals[0], self._train[0]) if len(part)])
        found: dict[str, Any] = {}
        for kind, (images, targets) in kinds.items():
            if not len(images):
                continue
            own = self._features(images)
            whole = kept(own, real)
            found[kind] = {
                **whole._asdict(),
                "memorised_fid": memorised_fid(whole.fid, own, train) if kind == "composed" else float("nan"),
                "images": len(images),
                "classes": [
                    _of_class(own[targets == number], real[self.targets == number])
                    for number in range(len(self._assembly.bench.data.classes))
                ],
            }
        return found

    def privacy(self) -> dict[str, Any]:
        """Of every student how well its losses tell what it was trained on; and whether images lie nearer to train
        pictures, those in the file first, than to test pictures."""
        distilled = self.sets["distilled"]
        naturals = (distilled.naturals[:_MOST], distilled.targets[:_MOST])
        attacked = {"real": (self._train, self._test), "distilled": (naturals, self._as_stored(distilled))}
        found: dict[str, Any] = {"naturals": len(distilled.naturals)}
        for source, (members, others) in attacked.items():
            losses = [self._losses(source, *part) for part in (members, others)]
            found[source] = {**membership(*losses)._asdict(), "members": len(losses[0]), "others": len(losses[1])}
        images = composed(distilled, _MOST)[0]
        if len(images):
            count = min(len(self._test[0]), len(self._train[0]))
            train = torch.cat([naturals[0], self._train[0]])[:count]
            own, near, far = (self._features(some) for some in (images, train, self._test[0][:count]))
            found["nearness"] = {**nearness(own, near, far)._asdict(), "pictures": count}
        return found

    def _losses(self, source: str, images: Tensor, targets: Tensor) -> Tensor:
        """Of the first student: float32 [N]."""
        return F.cross_entropy(self._logits(source, images)[0], targets, reduction="none")

    def _as_stored(self, distilled: DistilledSet) -> tuple[Tensor, Tensor]:
        """The test pictures through the file's codec, so that its traces do not tell members from others."""
        images, targets = self._test
        budget = self._assembly.bench.config.budget
        if not distilled.coded or budget.codec is None:
            return images, targets
        channels, height, width = images.shape[1:]
        sheets = coding.encode(images, budget.codec, budget.quality)
        return coding.decode(tuple(sheets), len(images), (channels, height, width)), targets

    def map(self) -> tuple[Tensor, Tensor, Tensor]:
        """Points [P, 2] of test pictures and of both sets by t-SNE of the teacher's features, their classes and kinds:
        one embedding of all, so that the two sets can be read side by side."""
        from sklearn.manifold import TSNE

        groups = [(self._test[0][:_ON_MAP], self._test[1][:_ON_MAP])]
        for source in ("distilled", "random"):
            chosen = self.sets[source]
            groups += [(chosen.naturals[:_ON_MAP], chosen.targets[:_ON_MAP]), composed(chosen, _ON_MAP)]
        own = torch.cat([self._features(images) for images, _ in groups if len(images)])
        spread = TSNE(perplexity=min(30, (len(own) - 1) / 3), init="pca", random_state=0).fit_transform(own.numpy())
        kind = torch.cat([torch.full((len(targets),), number) for number, (_, targets) in enumerate(groups)])
        return torch.from_numpy(spread).float(), torch.cat([targets for _, targets in groups]), kind


def composed(distilled: DistilledSet, most: int) -> tuple[Tensor, Tensor]:
    """Some of what a student sees beside naturals, views or composed images, and their classes; none where naturals are
    all there is."""
    if distilled.views:
        numbers = torch.arange(min(most, len(distilled)))
        return distilled.images(numbers), distilled.classes_of(numbers)
    numbers = torch.randperm(len(distilled.pairs), generator=torch.Generator().manual_seed(0))[:most]
    numbers = numbers.sort().values + len(distilled.naturals)
    return distilled.of_pool(numbers), distilled.classes_of(numbers)


def _of_class(images: Tensor, real: Tensor) -> dict[str, Any]:
    """Neighbours alone: a class has too few pictures for distances of distributions."""
    if not len(images):
        return {"images": 0, "coverage": 0.0, "density": float("nan")}
    found = kept(images, real)
    return {"images": len(images), "coverage": found.coverage, "density": found.density}


def _plain(content: Any) -> Any:
    """As JSON has it: no nan, which is null."""
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content
