"""Options of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from infer.core.checks import Choice, Range
from infer.core.durations import check_duration, seconds
from infer.core.errors import UserError, shown


@dataclass(frozen=True)
class ReportOptions:
    """Options of the report and of the verdict. None of them changes the distilled file.

    Attributes:
        language: Language of report.html. None writes no report.
        retrainings: Retrainings per year used in the cost estimate.
        watts: Power of the machine during training, used in the energy estimate.
        time_budget: Time limit for the search over ``budget.choices``, such as 90s, 30m or 2h. None tries all choices.
        tolerance: Loss of accuracy that is acceptable, in percentage points.
        curve: Multiples of the run's budget at which a learning curve has points, beside the budget itself. None
            measures no curve.
        suspects: Look for labels of training pictures that look wrong.
        currency: Currency of the yearly cost, such as EUR. It is given together with ``price_per_kwh``.
        price_per_kwh: Price of a kWh in the currency. None estimates no cost in money.
    """

    language: Annotated[str | None, Choice("en", "ja")] = None
    retrainings: Annotated[int, Range(1, 10**6)] = 52
    watts: Annotated[float, Range(1, 10**6)] = 100.0
    time_budget: str | None = None
    tolerance: Annotated[float, Range(0, 100)] = 5.0
    curve: Annotated[list[float] | None, Range(0.001, 1000)] = None
    suspects: bool = False
    currency: str | None = None
    price_per_kwh: Annotated[float | None, Range(0, 10**6)] = None

    def check_together(self, at: str) -> None:
        """Check the time budget, the curve and the price; ``at`` is the key prefix for the message."""
        check_duration(f"{at}time_budget", self.time_budget)
        if self.curve == []:
            raise UserError(f"{at}curve=[]: give one multiple of the budget or more, such as [0.25,0.5,1], or null")
        if bool(self.currency) == (self.price_per_kwh is None):
            raise UserError(
                f"{at}currency={shown(self.currency)} and {at}price_per_kwh={shown(self.price_per_kwh)}: give both, "
                "such as EUR and 0.30, or neither"
            )

    @property
    def seconds(self) -> float | None:
        """The time budget in seconds, or None where there is none."""
        return seconds(self.time_budget)
