"""The yearly cost of retraining, on the full training set and on a distilled file."""

from __future__ import annotations

import math
from typing import NamedTuple


class Cost(NamedTuple):
    """The cost of a year of retrainings.

    Attributes:
        hours_real: Hours of training on the full training set.
        hours_file: Hours of creating the file once and of training on it.
        energy_real: Energy of ``hours_real`` in kWh.
        energy_file: Energy of ``hours_file`` in kWh.
        break_even: Number of retrainings from which on the file takes less time, or None if it never does.
    """

    hours_real: float
    hours_file: float
    energy_real: float
    energy_file: float
    break_even: int | None


def yearly_cost(creation: float, file: float, real: float, retrainings: int, watts: float) -> Cost:
    """Compute the cost of a year of retrainings.

    Args:
        creation: Seconds to create the distilled file, once.
        file: Seconds to train one student on the file.
        real: Seconds to train one student on the full training set.
        retrainings: Retrainings per year.
        watts: Power of the machine during training; an estimate of the user, not a measurement.

    Returns:
        Hours, energy and the break-even number of retrainings.
    """
    hours_real, hours_file = real * retrainings / 3600, (creation + file * retrainings) / 3600
    saved = real - file
    break_even = math.floor(creation / saved) + 1 if saved > 0 else None
    return Cost(hours_real, hours_file, hours_real * watts / 1000, hours_file * watts / 1000, break_even)
