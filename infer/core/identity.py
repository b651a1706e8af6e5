"""What makes a finished run the one that is asked for: its options, without those that came later."""

from __future__ import annotations

from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any


def as_identity(options: Any) -> dict[str, Any]:
    """Return the fields of an option object as plain values, by which a finished run is found again.

    A field that a later version added, whose metadata says ``added``, is left out at its default, so that runs and
    files of the versions before keep their identity.

    >>> from infer.core.options import BudgetOptions
    >>> "speed" in as_identity(BudgetOptions()), as_identity(BudgetOptions(speed=4))["speed"]
    (False, 4)
    """
    content = asdict(options)
    for field in fields(options):
        value = getattr(options, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if "added" in field.metadata and value == default:
            del content[field.name]
        elif is_dataclass(value):
            content[field.name] = as_identity(value)
    return content
