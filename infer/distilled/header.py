"""The header of a distilled file: its fields and the types and ranges that they have.

A file may come from anywhere. Every field is therefore checked before any tensor is read.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

from pydantic import Field, InstanceOf, JsonValue, StrictFloat, StrictInt, TypeAdapter, ValidationError

from infer.core import ufc
from infer.core.errors import UserError
from infer.core.label_code import LabelCode
from infer.core.mixed_views import MixedViews

VERSION = 2
LARGEST_SIDE = 4096
"""Longest side of an image in pixels."""
MOST_CLASSES = 2**16
"""Class numbers take 16 bits at most."""
_LARGEST_COUNT = 2**63 - 1
_ADDED_BY_VERSION_2: dict[str, Any] = {"sheets": [], "views": None}

if TYPE_CHECKING:
    JsonObject = dict[str, Any]
else:
    JsonObject = dict[str, JsonValue]
Mean = Annotated[StrictFloat, Field(ge=-10, le=10, allow_inf_nan=False)]
Std = Annotated[StrictFloat, Field(ge=1e-6, le=10, allow_inf_nan=False)]


@dataclass(frozen=True)
class Header:
    """The meaning of the tensors of a distilled file.

    The annotations give the types and ranges that :func:`read_header` requires of a file.

    Args:
        classes: distinct class names, at most 65,536; the position is the class number.
        mean: mean of each channel, for pixels in 0 to 1.
        std: standard deviation of each channel, for pixels in 0 to 1.
        labels: kind of labels: ``"static"`` (one per image), ``"views"`` (one per mixed view), ``"dynamic"`` (the
            teachers label during training) or ``"hard"`` (only the class).
        space: ``"logits"`` or ``"probabilities"``: the space in which labels are stored and mixed.
        temperature: softmax temperature at which the student matches the labels.
        compensators_per_round: compensators that each natural image of a round is composed with.
        label_bytes: bytes of the teachers that dynamic labels need.
        step: pixel levels of one unit of a stored compensator; up to 255, composed images fit 16 bits.
        sheets: bytes of each compressed sheet of natural images; empty where they are stored raw.
        views: entry of :attr:`infer.core.mixed_views.MixedViews.header`, or None.
        version: version of the file format.
        provenance: how the file was made; any JSON object, for people.
    """

    classes: Annotated[list[InstanceOf[str]], Field(min_length=1, max_length=MOST_CLASSES)]
    mean: list[Mean]
    std: list[Std]
    labels: Annotated[str, Field(pattern="^(static|views|dynamic|hard)$")]
    space: Annotated[str, Field(pattern="^(logits|probabilities)$")]
    temperature: Annotated[StrictFloat, Field(ge=1e-3, le=1e4, allow_inf_nan=False)]
    compensators_per_round: Annotated[StrictInt, Field(ge=0, le=_LARGEST_COUNT)]
    label_bytes: Annotated[StrictInt, Field(ge=0, le=_LARGEST_COUNT)] = 0
    step: Annotated[StrictInt, Field(ge=1, le=255)] = ufc.STEP
    sheets: list[Annotated[StrictInt, Field(ge=1, le=_LARGEST_COUNT)]] = field(default_factory=list)
    views: JsonObject | None = None
    version: int = VERSION
    provenance: JsonObject = field(default_factory=dict)

    @cached_property
    def mixed_views(self) -> MixedViews | None:
        """How the mixed views of the set are drawn; None where its items are the images of the pool."""
        return None if self.views is None else MixedViews.from_header(self.views)

    @property
    def label_code(self) -> LabelCode:
        """How the labels of mixed views become bytes."""
        views = self.views or {}
        return LabelCode(len(self.classes), views.get("label_bits", 8), views.get("label_coding", "none"))

    @property
    def text(self) -> str:
        """The header as a file has it; :func:`read_header` reads it.

        Raises:
            UserError: for a value that JSON does not have.
        """
        try:
            return json.dumps({each.name: getattr(self, each.name) for each in fields(self)}, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"header: is no JSON ({error}); give texts, numbers, lists and mappings") from error


Parsed = TypeVar("Parsed")

_VERSION = TypeAdapter(Annotated[StrictInt, Field(ge=1)])
_HEADER = TypeAdapter(Header)


def read_header(path: Path, text: str | None) -> Header:
    """Parse and check the header of a file.

    Fields that this version does not know are ignored: a writer may add some without a new format version.

    Args:
        path: the file, for messages.
        text: JSON text of the header; None where the file has none.

    Returns:
        The header. One of version 1 becomes one of version 2.

    Raises:
        UserError: names the file, the field, the value and what was expected.
    """
    content = _parsed(path, text)
    version: int = _validated(path, lambda: _VERSION.validate_python(content["version"]), "version")
    if version > VERSION:
        raise UserError(f"{path}: format version {version}, this infer reads 1 to {VERSION}; update infer to read it")
    content = {**(_ADDED_BY_VERSION_2 if version == 1 else {}), **content, "version": VERSION}
    for known in fields(Header):
        if known.name not in content:
            raise UserError(f"{path}: its header lacks the field {known.name}; copy it again or distil again")
    header: Header = _validated(path, lambda: _HEADER.validate_python(content))
    _check_together(path, header)
    return header


def _parsed(path: Path, text: str | None) -> dict[str, Any]:
    """Parse the text into an object with a version."""
    reason = "no JSON object with a version"
    try:
        content = json.loads(text or "null")
        if isinstance(content, dict) and "version" in content:
            return content
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # an integer of more than 4300 digits, too
        reason = str(error).partition(";")[0]
    found = f" ({reason}: {reprlib.repr(text)})" if text else ""
    raise UserError(f"{path}: a safetensors file, but not a distilled set: it has no infer header{found}")


def _validated(path: Path, validate: Callable[[], Parsed], at: str = "") -> Parsed:
    """Return what ``validate`` returns, of a field ``at`` or of the whole header."""
    try:
        return validate()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = [*([at] if at else []), *first["loc"]]
        name = str(place[0]) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place[1:3])
        found = "" if first["type"] == "missing" else f"={reprlib.repr(first['input'])}"
        expected = first["msg"].replace("Input should", "must").replace("String should", "must")
        raise UserError(f"{path}: header field {_escaped(name)}{found}: {expected[:1].lower()}{expected[1:]}") from None


def _escaped(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _check_together(path: Path, header: Header) -> None:
    """Check the rules over several entries."""
    if len(set(header.classes)) < len(header.classes):
        _refuse(path, "classes", header.classes, "must be distinct names")
    if len(header.mean) not in (1, 3):
        _refuse(path, "mean", header.mean, "must have 1 or 3 numbers, one per channel")
    if len(header.std) != len(header.mean):
        _refuse(path, "std", header.std, f"must have as many numbers as mean={reprlib.repr(header.mean)}")
    if (header.labels == "views") != (header.views is not None):
        expected = "an object" if header.labels == "views" else "null"
        _refuse(path, "views", header.views, f"must be {expected} where labels={header.labels}")
    _validated(path, lambda: header.mixed_views, "views")


def _refuse(path: Path, name: str, value: Any, expected: str) -> NoReturn:
    raise UserError(f"{path}: header field {name}={reprlib.repr(value)}: {expected}")
