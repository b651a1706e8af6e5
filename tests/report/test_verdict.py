"""The verdict and its cost, by their rule."""

import pytest

from infer.core.checks import check
from infer.core.errors import UserError
from infer.report.options import ReportOptions
from infer.report.verdict import decide


def decision(points, half, file, real, size=10, teacher=0.88, taught=100, steps=400, more=None, **options) -> dict:
    """The decision on a result of those numbers; steps ``taught`` by the file, and ``steps`` by all images."""
    row = {"backbone": "net", "seeds": 2, "accuracy_mean": 0.9, "weights": ["seed0/student.safetensors"]}
    result = {
        "students": [
            {**row, "source": "distilled", "seconds": 2 * file, "steps": taught, "accuracy_mean": 0.88},
            {**row, "source": "real", "seconds": 2 * real, "steps": steps},
        ],
        "teachers": {"a": {"accuracy": teacher}, "b": {"accuracy": 0.5}},
        "seconds": {"teachers": 10, "distill": 5, "assemble": 5},
        "choices": [{"seconds": 20}],
        "bytes": {"file": size, "real": 400, "budget": size},
        "budget": {"by": "bytes"},
        "command": "python distill.py",
        "method": "infer_plus",
        "labels": "views",
        "data": {"folder_bytes": 200, "validation": None},
        "evidence": {
            "student": "net",
            "real_coded": 100,
            "privacy": {"naturals": 8},
            "loss": {"points": points, "low": points - half, "high": points + half, "balanced": False},
            "against_random": {"points": 0.02, "low": 0.01, "high": 0.03},
        },
    }
    result |= more or {}
    return decide(result, ReportOptions("en", 52, 100, None, 5, **options))


def test_the_verdict_follows_the_advice():
    adopt = decision(0.04, 0.005, file=1, real=4)
    assert (adopt["verdict"]["choice"], adopt["verdict"]["firm"]) == ("adopt", True)
    assert adopt["cost"]["making_seconds"] == 40
    assert (adopt["cost"]["times_smaller"], adopt["decision"]["storage"]["times_smaller_coded"]) == (40, 10)
    assert adopt["cost"]["break_even"] == 14  # 40 s, 3 saved each time
    open_ = decision(0.04, 0.02, 1, 4)["verdict"]
    assert (open_["choice"], open_["within"], open_["firm"]) == ("larger", True, False)
    assert decision(0.06, 0.005, 1, 4)["verdict"]["choice"] == "larger"
    assert decision(0.06, 0.005, 1, 4, size=60)["verdict"]["choice"] == "decline"
    assert decision(0.06, 0.005, 1, 4, size=100)["decision"]["advice"]["choice"] == "keep"
    assert decision(0.06, 0.005, 1, 4, size=100)["verdict"]["choice"] == "decline"
    slow = decision(0.01, 0.005, 4, 4)
    assert (slow["verdict"]["choice"], slow["verdict"]["cheaper"]) == ("adopt", False)  # time decides nothing
    assert slow["cost"]["break_even"] is None
    assert decision(0.01, 0.005, 3, 4, steps=100)["cost"]["break_even"] is None  # equal steps: the clock's noise
    assert adopt["verdict"]["teachers_behind"] is None
    assert decision(0.01, 0.005, 4, 4, teacher=0.8)["verdict"]["teachers_behind"] == pytest.approx(0.1)


def test_frozen_networks_take_no_steps_so_their_seconds_count():
    """As those of 680 steel pictures, 3.71 s, and of all 1,440, 6.475 s."""
    cost = decision(0.02, 0.005, file=3.71, real=6.475, taught=0, steps=0)["cost"]
    assert (cost["file_seconds"], cost["real_seconds"]) == (3.71, 6.475)
    assert cost["break_even"] == 15  # 40 s, 2.765 saved each time


def test_teachers_count_nothing_where_images_are_drawn_at_random():
    drawn = {"labels": "hard", "images": {"drawn": True, "compensators": 0}}
    assert decision(0.02, 0.005, 1, 4, more=drawn)["cost"]["making_seconds"] == 25  # the assembly, and what was tried
    for other in ({"labels": "views"}, {"images": {"drawn": True, "compensators": 3}}, {"images": {"compensators": 0}}):
        assert decision(0.02, 0.005, 1, 4, more=drawn | other)["cost"]["making_seconds"] == 40


def test_a_teacher_that_is_ahead_of_students_of_all_images_is_named():
    found = decision(0.02, 0.005, 1, 4, teacher=0.994)["verdict"]["ahead"]
    assert found == {"name": "a", "accuracy": 0.994, "points": pytest.approx(0.994 - 0.88), "on_file": None}
    assert decision(0.02, 0.005, 1, 4, teacher=0.905)["verdict"]["ahead"] is None
    row = {"backbone": "b", "seeds": 1, "seconds": 1, "steps": 100, "weights": ["w"]}
    taught = [{**row, "source": "distilled", "accuracy_mean": 0.7}, {**row, "source": "real", "accuracy_mean": 0.95}]
    own = [
        {**row, "backbone": "net", "source": "distilled", "accuracy_mean": 0.88},
        {**row, "backbone": "net", "source": "real", "accuracy_mean": 0.9},
    ]
    found = decision(0.02, 0.005, 1, 4, more={"students": own + taught})["verdict"]["ahead"]
    assert found == {"name": "b", "accuracy": 0.95, "points": pytest.approx(0.07), "on_file": 0.7}
    loss = {"points": 0.02, "low": 0.01, "high": 0.03, "balanced": True}  # of a teacher, the accuracy alone is known
    evidence = {"student": "net", "real_coded": 100, "privacy": {"naturals": 8}, "loss": loss, "against_random": loss}
    assert decision(0.02, 0.005, 1, 4, teacher=0.994, more={"evidence": evidence})["verdict"]["ahead"] is None


def test_the_yearly_cost_in_money_is_the_energy_times_its_price():
    cost = decision(0.04, 0.005, file=36, real=360, currency="EUR", price_per_kwh=0.5)["cost"]
    assert cost["money_real"] == pytest.approx(52 * 360 / 3600 * 0.1 * 0.5)  # 100 W
    assert cost["money_file"] == pytest.approx((40 + 52 * 36) / 3600 * 0.1 * 0.5)
    assert decision(0.04, 0.005, 1, 4)["cost"]["money_real"] is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (ReportOptions(language="de"), "report.language=de: unknown; choose one of en, ja"),
        (ReportOptions(retrainings=0), "report.retrainings=0: must lie between 1 and 1000000"),
        (ReportOptions(watts=0), "report.watts=0: must lie between 1 and"),
        (ReportOptions(tolerance=101), "report.tolerance=101: must lie between 0 and 100"),
        (ReportOptions(time_budget="soon"), "report.time_budget=soon: give a number and s, m or h, such as 30m"),
        (ReportOptions(currency="EUR"), "report.currency=EUR and report.price_per_kwh=null: give both, such as EUR"),
        (ReportOptions(price_per_kwh=0.3), "report.currency=null and report.price_per_kwh=0.3: give both, such as"),
        (ReportOptions(currency="EUR", price_per_kwh=-1), "report.price_per_kwh=-1: must lie between 0 and 1000000"),
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
