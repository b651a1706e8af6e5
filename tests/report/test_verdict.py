"""The verdict and its cost, by their rule."""

import pytest

from infer.core.checks import check
from infer.core.errors import UserError
from infer.report.options import ReportOptions
from infer.report.verdict import decide


def decision(points, half, file, real, size=10, teacher=0.88, steps=400) -> dict:
    """The decision on a result of those numbers; ``steps`` of the real set's students, those of the file have 100."""
    row = {"backbone": "net", "seeds": 2, "accuracy_mean": 0.9}
    result = {
        "students": [
            {**row, "source": "distilled", "seconds": 2 * file, "steps": 100},
            {**row, "source": "real", "seconds": 2 * real, "steps": steps},
        ],
        "teachers": {"a": {"accuracy": teacher}, "b": {"accuracy": 0.5}},
        "seconds": {"teachers": 10, "distill": 5, "assemble": 5},
        "choices": [{"seconds": 20}],
        "bytes": {"file": size, "real": 400},
        "evidence": {
            "student": "net",
            "real_coded": 100,
            "loss": {"points": points, "low": points - half, "high": points + half},
        },
    }
    return decide(result, ReportOptions("en", 52, 100, None, 5))


def test_the_verdict_follows_its_rule():
    adopt = decision(0.04, 0.005, file=1, real=4)
    assert (adopt["verdict"]["choice"], adopt["verdict"]["firm"]) == ("adopt", True)
    assert adopt["cost"]["making_seconds"] == 40
    assert (adopt["cost"]["times_smaller"], adopt["cost"]["times_smaller_coded"]) == (40, 10)
    assert adopt["cost"]["break_even"] == 14  # 40 s, 3 saved each time
    assert decision(0.04, 0.02, 1, 4)["verdict"]["firm"] is False
    assert decision(0.06, 0.005, 1, 4)["verdict"]["choice"] == "larger"
    assert decision(0.06, 0.005, 1, 4, size=60)["verdict"]["choice"] == "decline"
    assert decision(0.01, 0.005, 4, 4)["verdict"]["choice"] == "decline"
    assert decision(0.01, 0.005, 4, 4)["cost"]["break_even"] is None
    assert decision(0.01, 0.005, 3, 4, steps=100)["cost"]["break_even"] is None  # equal steps: the clock's noise
    assert decision(0.01, 0.005, 3, 4, steps=100)["verdict"]["choice"] == "decline"
    assert adopt["verdict"]["teachers_behind"] is None
    assert decision(0.01, 0.005, 4, 4, teacher=0.8)["verdict"]["teachers_behind"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ReportOptions(language="de"), "report.language=de: unknown; choose one of en, ja"),
        (ReportOptions(retrainings=0), "report.retrainings=0: must lie between 1 and 1000000"),
        (ReportOptions(watts=0), "report.watts=0: must lie between 1 and"),
        (ReportOptions(tolerance=101), "report.tolerance=101: must lie between 0 and 100"),
        (ReportOptions(time_budget="soon"), "report.time_budget=soon: give a number and s, m or h, such as 30m"),
        (ReportOptions(time_budget="5"), "report.time_budget=5: give a number"),
    ],
)
def test_options_out_of_range_are_one_line(options, says):
    with pytest.raises(UserError) as error:
        check(options, "report.")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("written", "seconds"), [(None, None), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_the_time_budget_is_in_seconds(written, seconds):
    options = ReportOptions(time_budget=written)
    check(options)
    assert options.seconds == seconds
