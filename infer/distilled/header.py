"""The header of a distilled file: its fields and the rule that each field obeys.

A file may come from anywhere. Every field is therefore checked before any tensor is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from infer.core import ufc
from infer.core.errors import UserError
from infer.core.mixed_views import MOST_SMOOTH_NOISE

VERSION = 2
LARGEST_SIDE = 4096
"""Longest side of an image in pixels."""
_LARGEST_NUMBER = 3e38  # of float32
_ADDED_BY_VERSION_2: dict[str, Any] = {"sheets": [], "views": None}
_SHOWN = 60  # characters of a wrong value that a message shows


@dataclass(frozen=True)
class Header:
    """The meaning of the tensors of a distilled file.

    Args:
        classes: distinct class names; the position is the class number.
        mean: mean of each channel, for pixels in 0 to 1.
        std: standard deviation of each channel, for pixels in 0 to 1.
        labels: kind of labels: ``"static"`` (one per image), ``"views"`` (one per mixed view), ``"dynamic"`` (the
            teachers label during training) or ``"hard"`` (only the class).
        space: ``"logits"`` or ``"probabilities"``: the space in which labels are stored and mixed.
        temperature: softmax temperature at which the student matches the labels.
        compensators_per_round: compensators that each natural image of a round is composed with.
        label_bytes: bytes of the teachers that dynamic labels need.
        step: pixel levels of one unit of a stored compensator.
        sheets: bytes of each compressed sheet of natural images; empty where they are stored raw.
        views: entry of :attr:`infer.core.mixed_views.MixedViews.header`, or None.
        version: version of the file format.
        provenance: how the file was made; free text for people.
    """

    classes: list[str]
    mean: list[float]
    std: list[float]
    labels: str
    space: str
    temperature: float
    compensators_per_round: int
    label_bytes: int = 0
    step: int = ufc.STEP
    sheets: list[int] = field(default_factory=list)
    views: dict[str, Any] | None = None
    version: int = VERSION
    provenance: dict[str, Any] = field(default_factory=dict)


def read_header(path: Path, text: str | None) -> Header:
    """Parse and check the header of a file.

    Args:
        path: the file, for messages.
        text: JSON text of the header; None where the file has none.

    Returns:
        The header. One of version 1 becomes one of version 2.

    Raises:
        UserError: names the file, the field and the value that breaks a rule.
    """
    try:
        content = json.loads(text or "")
        version = content["version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: a safetensors file, but not a distilled set: it has no infer header") from error
    _check_field(path, "version", version, _whole(1))
    if version > VERSION:
        raise UserError(f"{path}: format version {version}, this infer reads 1 to {VERSION}; update infer to read it")
    if version == 1:
        content = {**_ADDED_BY_VERSION_2, **content, "version": VERSION}
    _check_names(path, "header", set(content), {known.name for known in fields(Header)})
    for name, rule in _RULES.items():
        _check_field(path, name, content[name], rule)
    _check_together(path, content)
    if content["views"] is not None:
        _check_views(path, content["views"])
    return Header(**content)


class _Rule(NamedTuple):
    """What a value must be, as a test and in words."""

    accepts: Callable[[Any], bool]
    expected: str


def _whole(low: int, high: float = math.inf) -> _Rule:
    limit = f"of at least {low}" if high == math.inf else f"from {low} to {high}"
    return _Rule(lambda v: type(v) is int and low <= v <= high, f"a whole number {limit}")


def _one_of(*names: str) -> _Rule:
    return _Rule(lambda v: isinstance(v, str) and v in names, f"one of {', '.join(names)}")


def _list_of(rule: _Rule, expected: str) -> _Rule:
    return _Rule(lambda v: isinstance(v, list) and all(rule.accepts(entry) for entry in v), expected)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST_NUMBER  # false for NaN


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(n, str) for n in value) and len(set(value)) == len(value) > 0


_NUMBER = _Rule(_is_number, "a finite number")
_POSITIVE = _Rule(lambda v: _is_number(v) and v > 0, "a finite number above 0")
_MAPPING = _Rule(lambda v: isinstance(v, dict), "a mapping")

_RULES = {
    "classes": _Rule(_are_names, "a list of distinct class names"),
    "mean": _list_of(_NUMBER, "a list of finite numbers, one per channel"),
    "std": _list_of(_POSITIVE, "a list of finite numbers above 0, one per channel"),
    "labels": _one_of("static", "views", "dynamic", "hard"),
    "space": _one_of("logits", "probabilities"),
    "temperature": _POSITIVE,
    "compensators_per_round": _whole(0),
    "label_bytes": _whole(0),
    "step": _whole(1, 255),
    "sheets": _list_of(_whole(1), "a list of whole numbers of at least 1"),
    "provenance": _MAPPING,
}

_VIEW_RULES = {
    "count": _whole(1),
    "pool": _whole(1),
    "seed": _whole(0, 2**64 - 1),
    "crop": _whole(0, LARGEST_SIDE),
    "flip": _Rule(lambda v: isinstance(v, bool), "true or false"),
    "resized_crop": _Rule(lambda v: v is None or (_is_number(v) and 0 < v <= 1), "null or a number above 0, at most 1"),
    "mixing": _one_of("mixup", "cutmix", "none"),
    "candidates": _whole(1, 256),
    "compensators": _whole(0, MOST_SMOOTH_NOISE),
}


def _check_names(path: Path, what: str, present: set[str], known: set[str]) -> None:
    """Refuse missing and unknown names."""
    if present != known:
        names = ", ".join(name if name.isidentifier() else repr(name) for name in sorted(known ^ present))
        raise UserError(f"{path}: its {what} is incomplete or foreign: {_short(names)}")


def _check_field(path: Path, name: str, value: Any, rule: _Rule) -> None:
    if not rule.accepts(value):
        raise UserError(f"{path}: header field {name}={_short(repr(value))}: expected {rule.expected}")


def _check_together(path: Path, content: dict[str, Any]) -> None:
    """Check the rules over two fields."""
    mean, views = content["mean"], content["views"]
    channels = _Rule(lambda v: len(v) == len(mean), f"as many numbers as mean={_short(repr(mean))} has")
    _check_field(path, "std", content["std"], channels)
    if content["labels"] == "views":
        _check_field(path, "views", views, _Rule(_MAPPING.accepts, "a mapping where labels=views"))
    else:
        _check_field(path, "views", views, _Rule(lambda v: v is None, f"null where labels={content['labels']}"))


def _check_views(path: Path, views: dict[str, Any]) -> None:
    """Check the arguments of the mixed views."""
    views = {"compensators": 0, **views}  # files without smooth noise lack the key
    _check_names(path, "header field views", set(views), set(_VIEW_RULES))
    for name, rule in _VIEW_RULES.items():
        _check_field(path, f"views.{name}", views[name], rule)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
