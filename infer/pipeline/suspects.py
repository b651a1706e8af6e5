"""suspects.csv: train pictures whose label looks wrong, found with the features of a network."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infer.core.files import write_bytes
from infer.core.progress import stage, track
from infer.data import Splits
from infer.data.splits import known_duplicates
from infer.distilled.tables import cell, rounded, table
from infer.metrics.suspects import FEWEST, TIMES, judged_classes, out_of_fold, suspects
from infer.models.options import NETWORKS
from infer.models.pretrained import PACKAGES, packaged_weights
from infer.models.weights import features, frozen, normalised
from infer.pipeline.options import DistillOptions
from infer.pipeline.records import SUSPECTS, suspects_digest
from infer.pipeline.run_folder import Run
from infer.pipeline.selected import picture_name
from infer.pipeline.teachers import trained_teachers
from infer.training.context import Context
from infer.training.teachers import Teacher

log = logging.getLogger("infer")

FEATURES = "features"
"""The title of computing the features."""

CHECKED = 50_000
"""Pictures that are checked at most, drawn at random."""

_FEW, _SIDE, _SMALLER_SIDE = 10_000, 128, 64
"""An ImageNet network of the extra ``weights`` gets up to 10,000 pictures at 128 pixels, and more at 64: the time is
bounded, and 32 pixels are too few for it."""

_WIDEST = 2048
"""Features of a picture; more are averaged to as many, each over its neighbours."""

LISTED = 0.05
"""Share of the checked pictures that is listed at most."""

_SHOWN = 24
"""Pictures that the report shows."""

_BATCH = 64

_COLUMNS = ("path", "class", "looks_like", "probability_of_class", "probability_of_other", "rank")


def side_of(pictures: int) -> int:
    """Return the side, in pixels, at which an ImageNet network of the extra ``weights`` gets so many pictures."""
    return _SIDE if pictures <= _FEW else _SMALLER_SIDE


class Extractor(NamedTuple):
    """A network whose features pictures are compared by.

    Args:
        name: of the network.
        network: takes normalised images.
        side: height and width of its images in pixels.
        pretrained: whether it has not seen the labels.
    """

    name: str
    network: nn.Module
    side: int
    pretrained: bool

    @classmethod
    def of_teacher(cls, context: Context, teachers: Sequence[Teacher]) -> Self:
        """Return the best teacher, which has seen the labels."""
        best = max(teachers, key=lambda teacher: teacher.balanced_accuracy)
        return cls(best.name, best.network, context.data.side, pretrained=False)

    @classmethod
    def with_weights(cls, context: Context, names: Sequence[str]) -> Self | None:
        """Return the first of ``names`` with published weights, or a network whose weights are installed, else None.

        It has its pretrained weights and has not seen the labels, though the run may fine-tune it. A user's own weights
        may be of a training with these very labels, wrong ones included, and are passed over.
        """
        own = [*map(context.backbone, names)]
        for name in dict.fromkeys(each.name for each in own if each.is_pretrained and not each.is_published):
            log.info("report.suspects: the weights of %s may come from these labels; its features are not used", name)
        installed = (each for each in NETWORKS.values() if packaged_weights(each.model))
        chosen = next((network for network in (*own, *installed) if network.is_published), None)
        if chosen is None:
            return None
        side = context.data.side
        if chosen.model in PACKAGES:  # which take any size
            side = side_of(len(context.data.train))
        return cls(chosen.model, frozen(context.network(chosen)), side, pretrained=True)

    def features(self, context: Context, positions: Tensor) -> Tensor:
        """Return the features of the train pictures at ``positions``, float32 [N, D] on the CPU."""
        device, size = context.trainer.device, (self.side, self.side)
        mean, std = (moment.to(device) for moment in context.data.moments)
        network, parts = self.network.to(device), []
        for part in track(positions.split(_BATCH), FEATURES):
            images = normalised(context.data.train[part][0].to(device), mean, std)
            if images.shape[2:] != size:
                images = F.interpolate(images, size, mode="bilinear", antialias=True)
            found = features(network, [images])
            parts.append(F.adaptive_avg_pool1d(found, _WIDEST) if found.shape[1] > _WIDEST else found)
        return torch.cat(parts)


def lacks_suspects(options: DistillOptions, result: Mapping[str, Any] | None) -> bool:
    """Return whether ``options`` ask for labels that look wrong, and ``result`` says nothing of them."""
    return options.report.suspects and "suspects" not in (result or {})


def with_suspects(
    run: Run, folder: Path, result: Mapping[str, Any], teachers: Sequence[Teacher] | None = None
) -> dict[str, Any]:
    """Return ``result`` with the labels that look wrong, where they are asked for and it has none; list them in a file.

    Args:
        run: of the pictures.
        folder: its own, for suspects.csv.
        result: the content of its result.json.
        teachers: of the run; None loads them where they are needed.
    """
    if not lacks_suspects(run.options, result):
        return dict(result)
    context, options = run.context, run.options
    names = [*options.teachers.backbones, *options.students.backbones]
    extractor = Extractor.with_weights(context, names) or Extractor.of_teacher(
        context, teachers or trained_teachers(context, options)
    )
    stage("Looking for labels that look wrong (features of %s)", extractor.name)
    path, root = folder / SUSPECTS, options.dataset.root
    return {**result, "suspects": context.from_first("the suspects", lambda: _found(context, extractor, path, root))}


def thumbnails(data: Splits, result: Mapping[str, Any]) -> Tensor | None:
    """Return the suspects that a report shows, uint8 [N, ch, H, W]; None where none was looked for."""
    if "suspects" not in result:
        return None
    shown = [each["index"] for each in result["suspects"]["pictures"]]
    return data.train[torch.tensor(shown, dtype=torch.int64)][0]


def _found(context: Context, extractor: Extractor, path: Path, root: str | None) -> dict[str, Any]:
    """Find the suspects, list them in the file ``path``, and return what result.json and the report say of them."""
    data = context.data
    positions = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:CHECKED].sort().values
    part = data.train.part(positions)
    groups = known_duplicates(part)
    separate = torch.arange(len(part)) if groups is None else groups
    judged = judged_classes(part.targets, separate, len(data.classes))
    inputs = extractor.features(context, positions)
    probabilities = out_of_fold(inputs, part.targets, separate, len(data.classes))
    checked = probabilities.isfinite().all(dim=1)
    agree = probabilities[checked].argmax(dim=1) == part.targets[checked]
    order, looks_like = suspects(probabilities, part.targets)
    listed = order[: math.ceil(LISTED * int(checked.sum()))].tolist()
    entries = []
    for at, other in zip(listed, looks_like.tolist(), strict=False):
        index, own = int(positions[at]), int(part.targets[at])
        entries.append(
            {
                "index": index,
                "path": picture_name(data, index, root),
                "class": data.classes[own],
                "looks_like": data.classes[other],
                "probability_of_class": rounded(float(probabilities[at, own])),
                "probability_of_other": rounded(float(probabilities[at, other])),
            }
        )
    write_bytes(path, _table(entries))
    found = {
        "network": extractor.name,
        "pretrained": extractor.pretrained,
        "side": extractor.side,
        "train": len(data.train),
        "checked": int(checked.sum()),
        "fewest": FEWEST,
        "left_out": [name for name, enough in zip(data.classes, judged.tolist(), strict=True) if not enough],
        "duplicates_together": groups is not None,
        "agreement": float(agree.float().mean()) if len(agree) else None,
        "times": TIMES,
        "found": len(order),
        "share": LISTED,
        "listed": len(listed),
        "shown": min(len(listed), _SHOWN),
        "pictures": entries[:_SHOWN],
    }
    return {**found, "digest": suspects_digest(path.parent, found)}


def _table(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of suspects.csv."""
    rows = []
    for rank, entry in enumerate(entries, 1):
        names = entry["path"], cell(entry["class"]), cell(entry["looks_like"])
        rows.append([*names, entry["probability_of_class"], entry["probability_of_other"], rank])
    return table(_COLUMNS, rows)
