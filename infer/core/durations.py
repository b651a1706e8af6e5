"""Durations as a user writes them: a number and a unit, such as ``90s``, ``30m`` or ``2h``."""

from __future__ import annotations

import re

from infer.core.errors import UserError

_UNITS = {"s": 1, "m": 60, "h": 3600}


def check_duration(key: str, value: str | None) -> None:
    """Check that ``value`` is a duration or None.

    Args:
        key: The key of the setting, for the message.
        value: The duration as written.

    Raises:
        UserError: If ``value`` is not a number followed by s, m or h.
    """
    if value is not None and not re.fullmatch(r"\d+(\.\d+)?[smh]", value):
        raise UserError(f"{key}={value}: give a number and s, m or h, such as 30m")


def seconds(value: str | None) -> float | None:
    """Convert a checked duration to seconds.

    Args:
        value: A duration that :func:`check_duration` accepts.

    Returns:
        Its length in seconds, or None for None.

    >>> seconds("1.5m")
    90.0
    """
    return None if value is None else float(value[:-1]) * _UNITS[value[-1]]
