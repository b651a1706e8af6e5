"""Options of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from infer.core.checks import Choice, Range
from infer.core.durations import check_duration, seconds


@dataclass(frozen=True)
class ReportOptions:
    """Options of the report and of the verdict. None of them changes the distilled file.

    Attributes:
        language: Language of report.html. None writes no report.
        retrainings: Retrainings per year used in the cost estimate.
        watts: Power of the machine during training, used in the energy estimate.
        time_budget: Time limit for the search over ``budget.choices``, such as 90s, 30m or 2h. None tries all choices.
        tolerance: Loss of accuracy that is acceptable, in percentage points.
    """

    language: Annotated[str | None, Choice("en", "ja")] = None
    retrainings: Annotated[int, Range(1, 10**6)] = 52
    watts: Annotated[float, Range(1, 10**6)] = 100.0
    time_budget: str | None = None
    tolerance: Annotated[float, Range(0, 100)] = 5.0

    def check_together(self, at: str) -> None:
        """Check the time budget; ``at`` is the key prefix for the message."""
        check_duration(f"{at}time_budget", self.time_budget)

    @property
    def seconds(self) -> float | None:
        """The time budget in seconds, or None where there is none."""
        return seconds(self.time_budget)
