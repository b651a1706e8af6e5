"""What retraining on a file saves, and from how many retrainings on it has paid for its making."""

from __future__ import annotations

import math
from typing import NamedTuple


class Cost(NamedTuple):
    """Of a year of retrainings: hours and kWh on the whole set and on the file, the file's making among the latter, and
    the number of retrainings from which on the file costs less; None where it never does."""

    hours_real: float
    hours_file: float
    energy_real: float
    energy_file: float
    break_even: int | None


def yearly(making: float, file: float, real: float, retrainings: int, watts: float) -> Cost:
    """From the seconds of the file's one ``making``, and of training one student on the ``file`` and on the ``real``
    set; ``watts`` of the machine while it trains (an estimate that the user gives, no measurement)."""
    hours_real, hours_file = real * retrainings / 3600, (making + file * retrainings) / 3600
    saved = real - file
    break_even = math.floor(making / saved) + 1 if saved > 0 else None
    return Cost(hours_real, hours_file, hours_real * watts / 1000, hours_file * watts / 1000, break_even)
