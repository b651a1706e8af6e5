"""Option objects: frozen dataclasses whose fields declare their ranges and choices.

A field says what it may be where it is declared, once, as in ``steps: Annotated[int, Range(1, 10**7)] = 1000``.

>>> from infer.core.options import BudgetOptions
>>> check(BudgetOptions(quality=101), "budget.")
Traceback (most recent call last):
    ...
infer.core.errors.UserError: budget.quality=101: must lie between 0 and 100
>>> replaced(BudgetOptions(), {"quality": 40}).quality
40
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from infer.core.errors import UserError, choices

Options = TypeVar("Options")

_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
"""The plain types of fields, as messages call them."""


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

    ``at`` is the key prefix for messages, such as ``recipe.ufc.``. An option object with rules over several fields has
    a method ``check_together(at)``.

    Raises:
        UserError: for the first value out of its range or choices, or of another type than its field's.
    """
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            check(value, f"{at}{field.name}.")
            continue
        key, hint = f"{at}{field.name}", hints[field.name]
        for rule in getattr(hint, "__metadata__", ()) if value is not None else ():
            rule.check(key, value)
        _check_type(key, value, hint)
    if hasattr(options, "check_together"):
        options.check_together(at)


def _check_type(key: str, value: Any, hint: Any) -> None:
    """Raise :class:`UserError` where ``hint`` names plain types, as in ``int | None``, and ``value`` has another."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    kinds = set(get_args(plain) if get_origin(plain) in (Union, UnionType) else [plain])
    if not kinds <= {*_TYPES, type(None)}:
        return
    if isinstance(value, bool):  # an int to isinstance
        fits = bool in kinds
    else:
        fits = isinstance(value, tuple(kinds | {int} if float in kinds else kinds))
    if not fits:
        raise UserError(f"{key}={value}: must be {' or '.join(_TYPES[kind] for kind in _TYPES if kind in kinds)}")


def replaced(options: Options, values: Mapping[str, Any]) -> Options:
    """``options`` with ``values`` at dotted keys such as ``recipe.ufc.lr``; the original is not changed.

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
