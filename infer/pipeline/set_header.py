"""The header of a set: what its tensors mean, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infer.core.files import digest
from infer.core.identity import as_identity
from infer.core.mixed_views import MixedViews
from infer.core.version import __version__
from infer.data import Splits
from infer.distilled import Header
from infer.pipeline.set_options import SetOptions
from infer.training.teachers import Teacher


def set_header(
    data: Splits,
    options: SetOptions,
    teachers: Sequence[Teacher],
    settings: Mapping[str, Any],
    per_round: int,
    views: MixedViews | None,
) -> Header:
    """Describe a set of ``options`` with ``per_round`` compensators per round and, where it has them, mixed views."""
    kind = options.labels.kind
    provenance: dict[str, Any] = {
        "dataset": data.name,
        "settings": _as_chosen(settings, options),
        "teachers": {teacher.name: round(teacher.accuracy, 4) for teacher in teachers},
        "code": f"infer {__version__}",
    }
    if kind == "dynamic":  # a consumer needs the teachers themselves
        files = {teacher.name: teacher.file for teacher in teachers if teacher.file}
        provenance["files"] = {name: [str(file), digest(file.read_bytes())] for name, file in files.items()}
    weights = (tensor for teacher in teachers for tensor in teacher.network.state_dict().values())
    return Header(
        classes=data.classes,
        mean=data.moments[0].tolist(),
        std=data.moments[1].tolist(),
        labels=kind,
        space=options.labels.space if kind in ("static", "dynamic") else "probabilities",
        temperature=1.0 if kind == "hard" else options.student.temperature,
        compensators_per_round=per_round,
        label_bytes=sum(tensor.nbytes for tensor in weights) if kind == "dynamic" else 0,
        views=views.header if views else None,
        provenance=provenance,
    )


def _as_chosen(settings: Mapping[str, Any], options: SetOptions) -> dict[str, Any]:
    """Return ``settings`` with the values that a search chose, where those that were given stood."""
    chosen = {group: as_identity(getattr(options, group)) for group in ("budget", "labels", "mixing")}
    return {
        group: {key: chosen[group].get(key, value) for key, value in given.items()} if group in chosen else given
        for group, given in settings.items()
    }
