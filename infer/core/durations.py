"""Durations: as a user writes them, such as ``90s``, ``30m`` or ``2h``, and as messages have them."""

from __future__ import annotations

import re

from infer.core.errors import UserError, shown

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
        raise UserError(f"{key}={shown(value)}: give a number and s, m or h, such as 30m")


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


def rough(seconds: float) -> str:
    """Return a duration for a message, with the one or two units that matter.

    >>> rough(80), rough(700), rough(12_300), rough(200_000)
    ('80 s', '12 min', '3 h 25 min', '2 d 8 h')
    """
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 24 * 60 else f"{hours // 24} d {hours % 24} h"
