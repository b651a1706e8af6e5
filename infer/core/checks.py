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
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from infer.core.errors import UserError, choices, shown
from infer.core.folder_names import folder_name

Options = TypeVar("Options")

_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", os.PathLike: "a path"}
"""The plain types of fields, as messages call them."""

_LISTS = {int: ("whole numbers", "1,2"), float: ("numbers", "0.1,0.2"), str: ("texts", "a,b")}
"""What the entries of lists are, likewise, and an example."""

_MAPPINGS = (dict, Mapping)


@dataclass(frozen=True)
class Range:
    """A number of a field lies between ``low`` and ``high``, both included; so does each number of a list."""

    low: float
    high: float

    def check(self, key: str, value: Any) -> None:
        """Raise :class:`UserError` unless ``value`` is a finite number within the range."""
        for number in value if isinstance(value, list | tuple) else [value]:
            if not _is_finite(number):
                raise UserError(f"{key}={shown(value)}: must be a number between {self.low} and {self.high}")
            if not self.low <= number <= self.high:
                raise UserError(f"{key}={shown(value)}: must lie between {self.low} and {self.high}")


@dataclass(frozen=True)
class RangeOrAuto(Range):
    """A number of a field lies in a range, or the field is ``auto``."""

    def check(self, key: str, value: Any) -> None:
        """Raise :class:`UserError` unless ``value`` is a number within the range, or ``auto``."""
        if isinstance(value, str) and value != "auto":
            raise UserError(f"{key}={shown(value)}: must be auto, or a number between {self.low} and {self.high}")
        if value != "auto":
            super().check(key, value)


def _is_finite(value: Any) -> bool:
    # A whole number may be too large for isfinite, which takes it for a float.
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


class Choice:
    """A field, or each entry of a list, is one of ``values``."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def check(self, key: str, value: Any) -> None:
        """Raise :class:`UserError` that names the choices unless ``value`` is one of them."""
        for each in value if isinstance(value, list | tuple) else [value]:
            if each not in self.values:
                raise choices(key, each, [str(known) for known in self.values])


class Name:
    """A text, or each text of a list, that :func:`infer.core.folder_names.folder_name` takes for a folder."""

    def check(self, key: str, value: Any) -> None:
        """Raise :class:`UserError` unless ``value`` can be the name of a folder on every file system."""
        for name in value if isinstance(value, list | tuple) else [value]:
            folder_name(key, name)


def check(options: Any, at: str = "") -> None:
    """Check every field of ``options`` and of the option objects in it.

    ``at`` is the key prefix for messages, such as ``recipe.ufc.``. An option object with rules over several fields has
    a method ``check_together(at)``. Numbers of NumPy in its fields become equal ones of Python, which JSON
    files can hold.

    Raises:
        UserError: for the first value out of its range or choices, or of another type than its field's.
    """
    for name, hint in hints(options.__class__).items():
        given = getattr(options, name)
        if (value := check_value(f"{at}{name}", given, hint)) is not given:
            object.__setattr__(options, name, value)  # of a frozen object
    if hasattr(options, "check_together"):
        options.check_together(at)


def check_value(key: str, value: Any, hint: Any) -> Any:
    """Check the type of a ``value``, the rules that ``hint`` declares for it, and each value of a mapping.

    Returns:
        The value, with Python's numbers for those of NumPy.

    >>> check_value("batch_size", 0, Annotated[int, Range(1, 65536)])
    Traceback (most recent call last):
        ...
    infer.core.errors.UserError: batch_size=0: must lie between 1 and 65536
    """
    value = _with_python_numbers(value)
    entries = next((get_args(kind)[1] for kind in _kinds(hint) if get_origin(kind) in _MAPPINGS), None)
    if isinstance(value, Mapping) and entries is not None:
        for name, each in value.items():
            check_value(f"{key}.{name}", each, entries)
    if not fits(value, hint):
        raise UserError(f"{key}={shown(value)}: must be {expected(hint)}")
    if is_dataclass(value):
        check(value, f"{key}.")
        return value
    for rule in getattr(hint, "__metadata__", ()) if value is not None else ():
        rule.check(key, value)
    return value


def _with_python_numbers(value: Any) -> Any:
    """Return ``value``, or an equal one in which each number is an int or a float of Python."""
    if isinstance(value, list | tuple):
        entries = [_with_python_numbers(each) for each in value]
        return value if all(map(operator.is_, entries, value)) else entries
    if isinstance(value, Mapping):
        fields = {name: _with_python_numbers(each) for name, each in value.items()}
        return value if all(map(operator.is_, fields.values(), value.values())) else fields
    if isinstance(value, Real) and type(value) not in (int, float, bool):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def argument(key: str, given: Options | None, kind: type[Options]) -> Options:
    """Return the options that a caller gives, or the defaults of ``kind`` where it gives none; they are not checked.

    >>> from infer.core.options import BudgetOptions
    >>> argument("options", {"ipc": 3}, BudgetOptions)
    Traceback (most recent call last):
        ...
    infer.core.errors.UserError: options={ipc: 3}: must be a value of BudgetOptions
    """
    if given is None:
        return kind()
    if not isinstance(given, kind):
        raise UserError(f"{key}={shown(given)}: must be {expected(kind)}")
    return given


@cache
def hints(options: type) -> dict[str, Any]:
    """Return the declared type of every field of an option class, with its rules."""
    found = get_type_hints(options, include_extras=True)
    return {field.name: found[field.name] for field in fields(options)}


def hint_at(options: type, key: str) -> Any:
    """Return the declared type at a dotted key of an option class; None where there is no such key.

    >>> from infer.core.options import MixingOptions
    >>> hint_at(MixingOptions, "alpha").__origin__
    <class 'float'>
    """
    hint: Any = options
    for part in key.split(".") if key else ():
        kind = _kind(hint)
        if get_origin(kind) in _MAPPINGS:
            hint = get_args(kind)[1]
        elif kind is not Any:
            hint = fields_of(hint).get(part)
        if hint is None:
            return None
    return hint


def fields_of(hint: Any) -> dict[str, Any]:
    """Return the fields of the option class ``hint``, and their types; none for other types."""
    kind = _kind(hint)
    return hints(kind) if isinstance(kind, type) and is_dataclass(kind) else {}


def _kind(hint: Any) -> Any:
    """Return the type of a value of ``hint`` that is not None."""
    return next(kind for kind in _kinds(hint) if kind is not NoneType)


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types of which a value of ``hint`` has one."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_args(plain) if get_origin(plain) in (Union, UnionType) else (plain,)


def fits(value: Any, hint: Any) -> bool:
    """Return whether ``value`` has the type ``hint``; a whole number is taken for a float, a tuple for a list."""
    return any(_is(value, kind) for kind in _kinds(hint))


def _is(value: Any, kind: Any) -> bool:
    origin, entries = get_origin(kind), get_args(kind)
    if origin is list:
        return isinstance(value, list | tuple) and all(fits(each, entries[0]) for each in value)
    if origin in _MAPPINGS:
        return isinstance(value, Mapping) and all(fits(each, entries[1]) for each in value.values())
    if kind is Any or not isinstance(kind, type):  # a type that isinstance does not know
        return True
    if isinstance(value, bool):  # an int to isinstance
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def entry_type(hint: Any) -> Any:
    """Return the type of the entries where values of ``hint`` are lists, and None where they are not."""
    return next((get_args(kind)[0] for kind in _kinds(hint) if get_origin(kind) is list), None)


def is_text(hint: Any) -> bool:
    """Return whether values of ``hint`` are texts, and not numbers too."""
    return str in _kinds(hint) and int not in _kinds(hint)


def is_optional(hint: Any) -> bool:
    """Return whether a value of ``hint`` may be None."""
    return NoneType in _kinds(hint)


def expected(hint: Any) -> str:
    """Return what a value of ``hint`` is, for messages.

    >>> expected(Annotated[int | None, Range(1, 5)])
    'a whole number between 1 and 5'
    """
    rules = getattr(hint, "__metadata__", ())
    chosen = [str(value) for rule in rules if isinstance(rule, Choice) for value in rule.values]
    limits = "".join(f" between {rule.low} and {rule.high}" for rule in rules if isinstance(rule, Range))
    if entry := entry_type(hint):
        entries, example = _LISTS.get(entry, ("values", ""))
        example = ",".join(chosen[:2]) or example
        return f"a list of {entries}{limits}, such as [{example}]"
    if chosen:
        return f"one of {', '.join(chosen)}"
    kinds = [kind for kind in _kinds(hint) if kind is not NoneType]
    if isinstance(kinds[0], type) and is_dataclass(kinds[0]):
        return f"a value of {kinds[0].__name__}"
    return " or ".join(_TYPES.get(kind, "a mapping such as {key: value}") for kind in kinds) + limits


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
    value = _with_python_numbers(value)
    if isinstance(present, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if present is not None and value is not None and type(value) is not type(present):
        raise UserError(f"{key}={shown(value)}: must be {expected(type(present))}, as {shown(present)} is")
    return value
