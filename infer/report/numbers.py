"""Numbers as text: rounding, units and signs, alike everywhere on a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_BYTES = ("B", "kB", "MB", "GB")
_SMALL = 0.001  # numbers below it have fixed decimals instead of an exponent


class TimeUnit(NamedTuple):
    """A unit of time: its key in the words of a language, and its length in seconds."""

    name: str
    seconds: int


def time_unit(seconds: float) -> TimeUnit:
    """Return the unit that a time is written in: seconds below two minutes, minutes below two hours, else hours.

    A time that is rounded to two minutes or two hours counts as such.

    Args:
        seconds: The time in seconds.

    Example:
        >>> time_unit(90).name, time_unit(119.7).name, time_unit(86400).name
        ('seconds', 'minutes', 'hours')
    """
    if round(abs(seconds)) < 120:
        return TimeUnit("seconds", 1)
    return TimeUnit("minutes", 60) if round(abs(seconds) / 60) < 120 else TimeUnit("hours", 3600)


def number_formats(words: Mapping[str, str]) -> dict[str, Callable[[Any], str]]:
    """Build the formats of numbers in one language, by unit.

    Args:
        words: The patterns ``percent``, ``seconds``, ``minutes`` and ``hours`` of the language, with ``{}`` for the
            number.

    Returns:
        A function from a number to its text for every unit.

    Example:
        >>> formats = number_formats({"percent": "{} %", "seconds": "{} s", "minutes": "{} min", "hours": "{} h"})
        >>> formats["percent"](0.954), formats["seconds"](150), formats["bytes"](5670)
        ('95.4 %', '2.5 min', '5.7 kB')
    """

    def time(seconds: float) -> str:
        unit = time_unit(seconds)
        value = seconds / unit.seconds
        return words[unit.name].format(_fixed(value, 1) if unit.name == "hours" else _tenths_below_ten(value))

    return {
        "percent": lambda value: words["percent"].format(_fixed(100 * value, 1)),
        "whole_percent": lambda value: words["percent"].format(_fixed(100 * value, 0)),
        "points": lambda value: _fixed(100 * value, 1),
        "count": lambda value: _fixed(value, 0),
        "bytes": _bytes,
        "seconds": time,
        "hours": lambda value: time(3600 * value),
        "kwh": lambda value: f"{_fixed(value, 2)} kWh" if round(value, 4) >= 0.1 else f"{_fixed(1000 * value, 1)} Wh",
        "money": lambda value: _fixed(value, 2) if value >= 1 or not value else _three_digits(value),
        "watts": lambda value: f"{_fixed(value, 0)} W",
        "tenth": lambda value: _fixed(value, 1),
        "times": _tenths_below_ten,
        "number": _three_digits,
        "hundredth": lambda value: _fixed(value, 2),
    }


def _fixed(value: float, decimals: int) -> str:
    """Round a number. It has a minus sign (U+2212) unless it rounds to zero, and commas between thousands."""
    text = f"{abs(value):,.{decimals}f}"
    return f"−{text}" if value < 0 and text.strip("0.") else text


def _tenths_below_ten(value: float) -> str:
    """Round a number to tenths, or to a whole number where that is ten or more."""
    return _fixed(value, 1 if round(abs(value), 1) < 10 else 0)


def _three_digits(value: float) -> str:
    """Format a number with three significant digits, never with an exponent."""
    if round(abs(value)) >= 1000:
        return _fixed(value, 0)
    return _fixed(value, 5) if abs(value) < _SMALL else f"{value:.3g}".replace("-", "−")


def _bytes(value: float) -> str:
    """Format a number of bytes in decimal units: 1 kB is 1000 bytes."""
    for unit in _BYTES[:-1]:
        decimals = 0 if unit == "B" else 1
        if round(value, decimals) < 1000:
            return f"{value:.{decimals}f} {unit}"
        value /= 1000
    return f"{value:.1f} {_BYTES[-1]}"
