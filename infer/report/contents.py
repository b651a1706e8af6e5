"""The contents of the distilled file: its fidelity to the real images, and what it reveals about them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from infer.metrics.fidelity import fidelity
from infer.metrics.privacy import membership_attack, memorised_fid, nearest_distances
from infer.report.feature_space import FeatureSpace
from infer.report.file_facts import origin
from infer.report.inputs import AnalysisInputs, Samples, composed_samples, stored_samples


def fidelity_by_kind(inputs: AnalysisInputs, space: FeatureSpace) -> dict[str, Any]:
    """Compare the file's images with the test images, and as many random training images with them.

    The random ones are encoded as those of the file, so that the difference is that of the selection.

    Only images that are no training images can be copies of them, so only these have a memorisation-informed FID:
    composed images, and the stored images of a method that creates them.

    Args:
        inputs: The inputs of the analysis.
        space: The space that features are compared in.

    Returns:
        For each kind of images (``naturals``, ``composed`` if the file composes any, ``random``): the metrics of
        :class:`infer.metrics.fidelity.Fidelity`, ``memorised_fid``, the number of ``images``, and for each class its
        ``coverage`` and ``density``; and whether those of ``random`` are ``coded`` as the file's.
    """
    naturals = stored_samples(inputs.distilled)
    count = len(naturals.images)
    random = inputs.compressed(inputs.train.first(count))
    kinds = {"naturals": naturals, "composed": composed_samples(inputs.distilled), "random": random}
    training = space.embed(_training(inputs))
    real = {"random"} if origin(inputs.distilled) != "real" else {"random", "naturals"}
    found = {
        kind: _fidelity(inputs, space, samples, None if kind in real else training)
        for kind, samples in kinds.items()
        if len(samples.images)
    }
    found["random"]["coded"] = bool(inputs.distilled.coded) and inputs.compression.codec is not None
    return found


def _training(inputs: AnalysisInputs) -> Tensor:
    """Return training images, uint8 [N, ch, H, W]: those in the file first, then a random sample."""
    stored = [stored_samples(inputs.distilled).images] if origin(inputs.distilled) == "real" else []
    return torch.cat([*stored, inputs.train.images])


def _fidelity(inputs: AnalysisInputs, space: FeatureSpace, samples: Samples, training: Tensor | None) -> dict[str, Any]:
    """Return the entry of one kind; with the features of ``training`` images, its memorisation-informed FID too."""
    points = space.embed(samples.images)
    overall = fidelity(points, space.test)
    return {
        **overall._asdict(),
        "memorised_fid": float("nan") if training is None else memorised_fid(overall.fid, points, training),
        "images": len(samples.images),
        "classes": [
            _class_fidelity(points[samples.targets == number], space.test[inputs.test.targets == number])
            for number in range(len(inputs.data.classes))
        ],
    }


def _class_fidelity(points: Tensor, real: Tensor) -> dict[str, Any]:
    """Return neighbour metrics only, because a class has too few images for distances of distributions."""
    if not len(points):
        return {"images": 0, "coverage": 0.0, "density": float("nan")}
    found = fidelity(points, real)
    return {"images": len(points), "coverage": found.coverage, "density": found.density}


def privacy(inputs: AnalysisInputs, space: FeatureSpace) -> dict[str, Any]:
    """Measure what the students and the composed images reveal about the training images.

    Args:
        inputs: The inputs of the analysis.
        space: The space that distances are computed in.

    Returns:
        ``naturals``, the number of stored images; for "real" and "distilled", the membership attack on the
        first student and the number of its ``members`` and ``others``; and, if the file composes images,
        ``nearness``: the distances of :class:`infer.metrics.privacy.NearestDistances` and the number of ``pictures``.
    """
    distilled = inputs.distilled
    found: dict[str, Any] = {"naturals": len(distilled.naturals)}
    # The members of the file have the artefacts of its codec. The other images get them too, so that the attack cannot
    # distinguish the two by them.
    attacked = {
        "real": (inputs.train, inputs.test),
        "distilled": (stored_samples(distilled), inputs.compressed(inputs.test)),
    }
    for source, (members, others) in attacked.items():
        attack = membership_attack(_losses(inputs, source, members), _losses(inputs, source, others))
        found[source] = {**attack._asdict(), "members": len(members.images), "others": len(others.images)}
    composed = composed_samples(distilled).images
    if len(composed):
        count = min(len(inputs.test.images), len(inputs.train.images))
        points = (space.embed(images) for images in (composed, _training(inputs)[:count], inputs.test.images[:count]))
        found["nearness"] = {**nearest_distances(*points)._asdict(), "pictures": count}
    return found


def _losses(inputs: AnalysisInputs, source: str, samples: Samples) -> Tensor:
    """Compute the losses of the first student of a source: float32 [N]."""
    return F.cross_entropy(inputs.logits(source, samples.images, count=1)[0], samples.targets, reduction="none")
