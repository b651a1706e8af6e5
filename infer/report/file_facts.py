"""What a distilled file holds: read from the set itself, not from the options of its run."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from infer.core.images import picture_format
from infer.distilled import DistilledSet

_MADE = {"rded": "crops", "sre2l": "synthetic"}
"""The methods that create the images they store, and what these images are."""


class FileFacts(NamedTuple):
    """The facts of a file that are no numbers of result.json.

    Attributes:
        origin: What the stored images are: ``"real"``, ``"crops"`` of real images, or ``"synthetic"``.
        whole: Whether the file stores every training image, so that nothing was selected.
        drawn: Whether it is nothing but images drawn at random, with their classes.
        fewest: The class with the fewest stored images, by its number.
        most: The class with the most stored images, by its number.
        settings: The settings of the run. Those that a search chose have the chosen values.
        chosen: The values that a search chose, by key such as ``budget.quality``; empty if nothing was searched.
    """

    origin: str
    whole: bool
    drawn: bool
    fewest: int
    most: int
    settings: dict[str, Any]
    chosen: dict[str, Any]


def origin(distilled: DistilledSet) -> str:
    """Return what the stored images of a set are: ``"real"``, ``"crops"`` of real images, or ``"synthetic"``."""
    return origin_by(_group(_group(distilled.header.provenance, "settings"), "method").get("name"))


def origin_by(method: Any) -> str:
    """Return what the images are that a method stores: ``"real"``, ``"crops"`` of real images, or ``"synthetic"``.

    Images of an unknown ``method``, such as that of a foreign file, count as real.
    """
    return _MADE.get(method, "real") if isinstance(method, str) else "real"


def is_random_draw(result: Mapping[str, Any]) -> bool:
    """Return whether the file is nothing but images drawn at random, with their classes: no network took part in it."""
    images = result.get("images", {})
    return bool(images.get("drawn")) and result["labels"] == "hard" and not images["compensators"]


def file_facts(result: Mapping[str, Any], distilled: DistilledSet) -> FileFacts:
    """Describe the set in a file.

    Args:
        result: The content of result.json.
        distilled: The set in the file.

    Returns:
        The facts of the file that are no numbers of result.json.
    """
    counts = _per_class(distilled)
    chosen = _chosen(result["choices"])
    settings = copy.deepcopy(_group(distilled.header.provenance, "settings"))
    for key, value in chosen.items():
        group, _, name = key.rpartition(".")
        settings[group] = {**_group(settings, group), name: value}
    made = origin(distilled)
    whole = made == "real" and counts == result.get("train_pictures")
    fewest, most = counts.index(min(counts)), counts.index(max(counts))
    return FileFacts(made, whole, is_random_draw(result), fewest, most, settings, chosen)


def with_file_numbers(result: Mapping[str, Any], distilled: DistilledSet) -> dict[str, Any]:
    """Replace the numbers that a result states about its file by those of the file.

    Args:
        result: The content of result.json.
        distilled: The set in the file.

    Returns:
        The result with the numbers of the file under their keys, and with ``searched``: how many choices were ``tried``
        ``of`` how many.
    """
    facts = file_facts(result, distilled)
    budget = _group(facts.settings, "budget")
    images = {
        "naturals": _per_class(distilled),
        "compensators": len(distilled.compensators),
        "views": distilled.mixed_views.count if distilled.mixed_views else 0,
    }
    privacy = {**result["evidence"]["privacy"], "naturals": len(distilled.naturals)}
    quality = budget.get("quality")
    if not isinstance(quality, int) or isinstance(quality, bool):
        quality = result["budget"].get("quality")
    codec = (picture_format(distilled.coded[0]) or "").lower() if distilled.coded else None
    tried = len(result["choices"])
    of = math.prod(len(values) for values in _to_choose(_group(budget, "choices")))
    return {
        **result,
        "classes": len(distilled.classes),
        "labels": distilled.header.labels,
        "bytes": {**result["bytes"], "file": len(distilled.to_bytes())},
        "images": {**result.get("images", {}), **images},
        "budget": {"by": None, **result["budget"], "codec": codec, "quality": quality},
        "evidence": {**result["evidence"], "privacy": privacy},
        "searched": {"tried": tried, "of": max(tried, of)},
    }


def _per_class(distilled: DistilledSet) -> list[int]:
    """Count the stored images of each class."""
    counts: list[int] = distilled.natural_targets.bincount(minlength=len(distilled.classes)).tolist()
    return counts


def _chosen(choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings of the choice that did best; of equal ones, the first."""
    best = max(choices, key=lambda choice: choice["accuracy"], default={})
    return {key: value for key, value in best.items() if "." in key}


def _to_choose(choices: Mapping[str, Any]) -> list[Sequence[Any]]:
    """List the values to try of each setting in ``budget.choices``."""
    groups = (_group(choices, name) for name in choices)
    return [values for group in groups for values in group.values() if isinstance(values, list)]


def _group(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the mapping at ``name``; empty where there is none, as in a file that another program wrote."""
    found = content.get(name)
    return found if isinstance(found, dict) else {}
