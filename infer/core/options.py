"""Option objects: frozen dataclasses whose fields tell their own ranges and choices.

A field says what it may be where it is declared, once:

>>> @dataclass(frozen=True)
... class CropOptions:
...     pixels: Annotated[int, Range(0, 64)] = 4
...     border: Annotated[str, Choice("black", "edge")] = "black"
>>> check(CropOptions(pixels=99), "crop.")
Traceback (most recent call last):
infer.core.errors.UserError: crop.pixels=99: must lie between 0 and 64
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

from infer.core.errors import UserError, choices

Options = TypeVar("Options")


@dataclass(frozen=True)
class Range:
    """A number of a field lies between ``low`` and ``high``, both included; so does each number of a list."""

    low: float
    high: float

    def check(self, key: str, value: Any) -> None:
        """Raise :class:`UserError` unless ``value`` is a finite number within the range."""
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise UserError(f"{key}={value}: must be a number between {self.low} and {self.high}")
            if not self.low <= number <= self.high:
                raise UserError(f"{key}={value}: must lie between {self.low} and {self.high}")


class Choice:
    """A field, or each entry of a list, is one of ``values``."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def check(self, key: str, value: Any) -> None:
        """Raise :class:`UserError` that names the choices unless ``value`` is one of them."""
        for each in value if isinstance(value, list | tuple) else [value]:
            if each not in self.values:
                raise choices(key, each, [str(known) for known in self.values])


def check(options: Any, at: str = "") -> None:
    """Check every field of ``options`` and of the option objects in it.

    ``at`` is the key prefix for messages, such as ``recipe.ufc.``. A field of None is not checked. An option object
    with rules over several fields has a method ``check_together(at)``.

    Raises:
        UserError: for the first value out of its range or choices.
    """
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            check(value, f"{at}{field.name}.")
        elif value is not None:
            for rule in getattr(hints[field.name], "__metadata__", ()):
                rule.check(f"{at}{field.name}", value)
    if hasattr(options, "check_together"):
        options.check_together(at)


def replaced(options: Options, values: Mapping[str, Any]) -> Options:
    """``options`` with ``values`` at dotted keys such as ``recipe.ufc.lr``; the original stays as it is.

    A whole number is taken for a float field. Keys of a mapping field may be new ones.

    Raises:
        UserError: where a key names no field, or a value is of another type than the field's present one.
    """
    for key, value in values.items():
        options = _replaced(options, key.split("."), value, key)
    return options


def _replaced(node: Any, path: list[str], value: Any, key: str) -> Any:
    first, rest = path[0], path[1:]
    if isinstance(node, Mapping):
        if rest or first not in node:
            raise choices(key, value, map(str, node), given=first)
        return {**node, first: _same_type(node[first], value, key)}
    if not is_dataclass(node) or first not in {field.name for field in fields(node)}:
        known = [field.name for field in fields(node)] if is_dataclass(node) else []
        raise choices(key, value, known, given=first)
    present = getattr(node, first)
    return replace(node, **{first: _replaced(present, rest, value, key) if rest else _same_type(present, value, key)})  # type: ignore[type-var]


def _same_type(present: Any, value: Any, key: str) -> Any:
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if present is not None and value is not None and type(value) is not type(present):
        raise UserError(f"{key}={value}: must be {type(present).__name__}, as {present} is")
    return value
