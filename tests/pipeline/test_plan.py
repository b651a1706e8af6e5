"""The plan is a function of the seconds that parts take and of the time: the right values, and monotone in the time."""

from dataclasses import replace

import pytest

import infer
from infer.pipeline.plan import (
    Costs,
    Extent,
    Plan,
    Point,
    Rung,
    extents,
    filled,
    fitting,
    largest,
    missing,
    side_by_side,
    too_short,
)

SMALL = Rung("small", {"size": 32}, Costs({"start": 5, "report": 5}, [10, 10, 10], 8, [Point(4, 6), Point(8, 6)], 2))
LARGE = Rung("large", {"size": 64}, Costs({"start": 5, "report": 15}, [100, 100, 100], 80, [Point(40, 60)], 2))
WANTED = Extent(seeds=2, tries=3, points=2)


def test_trainings_side_by_side_end_when_the_last_one_does():
    assert side_by_side([3, 3, 3], jobs=1) == 9
    assert side_by_side([3, 3, 3], jobs=2) == 6
    assert side_by_side([5, 1, 1, 1], jobs=2) == 5
    assert side_by_side([], jobs=2) == 0


def test_the_seconds_of_an_extent_are_those_of_its_parts():
    assert SMALL.costs.of(Extent(2, 3, 2)) == {"start": 5, "report": 5, "choices": 24, "students": 30, "curve": 24}
    assert SMALL.costs.total(Extent()) == 5 + 5 + 20  # three students on two cores; nothing is tried


def test_there_are_more_students_then_choices_then_points_then_still_more_students():
    found = extents(WANTED)
    assert found[:6] == [(1, 0, 0), (2, 0, 0), (2, 2, 0), (2, 3, 0), (2, 3, 1), (2, 3, 2)]
    assert found[6:] == [(seeds, 3, 2) for seeds in range(3, 11)]
    assert extents(Extent(3, tries=1))[2:4] == [(3, 0, 0), (4, 0, 0)]  # a single choice is taken, not tried


def test_a_time_that_is_just_enough_is_enough():
    """The margin is 15 %: 30 s fit into 30 / 0.85 s."""
    assert fitting([SMALL], WANTED, 30 / 0.85 - 0.01) is None
    assert fitting([SMALL], WANTED, 30 / 0.85 + 0.01).extent == Extent()


def test_the_largest_that_fits_is_planned_and_what_is_left_out_has_its_time():
    plan = fitting([LARGE, SMALL], WANTED, 100)
    assert (plan.rung, plan.extent) == (SMALL, Extent(2, 3, 1))  # 40 + 24 + 10 s of 85; both points would need 88
    assert plan.left_out == pytest.approx({"large": 220 / 0.85, "2 points of the curve": 88 / 0.85})
    plan = fitting([LARGE, SMALL], WANTED, 48)
    assert plan.extent == Extent(2)
    assert plan.left_out == pytest.approx(
        {"large": 220 / 0.85, "3 choices tried": 64 / 0.85, "2 points of the curve": 88 / 0.85}
    )


def test_nothing_is_left_out_of_a_long_time_and_more_of_it_ends():
    plan = fitting([LARGE, SMALL], WANTED, 1e6)
    assert plan == Plan(LARGE, Extent(10, 3, 2), {})


def test_a_longer_time_never_plans_less():
    rungs = [LARGE, SMALL]
    plans = [fitting(rungs, WANTED, seconds) for seconds in range(36, 3000, 7)]
    order = extents(WANTED)
    ranks = [(-rungs.index(plan.rung), order.index(plan.extent)) for plan in plans]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 10


def test_what_is_decided_late_stops_at_the_first_that_does_not_fit():
    order = extents(Extent(3, points=2))
    assert largest(SMALL.costs, order, 0) == Extent()
    assert largest(SMALL.costs, order, 40) == Extent(2)
    assert largest(SMALL.costs, order, 72) == Extent(3)  # 60 s; a point would take 4 + 9 more
    assert largest(SMALL.costs, order, 73) == Extent(3, points=1)


def test_time_that_nothing_larger_takes_is_filled_with_students():
    assert filled(SMALL.costs, Extent(2), 69) == Extent(3)  # 60 s; a fourth student of each row ends after 70
    assert filled(SMALL.costs, Extent(2), 70) == Extent(4)
    assert filled(SMALL.costs, Extent(2), 20) == Extent(2)
    assert filled(SMALL.costs, Extent(2, 3, 1), 1e6) == Extent(10, 3, 1)


def test_each_student_is_analysed_for_the_report():
    costs = replace(SMALL.costs, analysed=7.0)
    assert costs.of(Extent(3))["report"] == 5 + 3 * 7
    assert costs.total(Extent()) == SMALL.costs.total(Extent()) + 7


def test_what_is_left_out_late_costs_more_than_what_was_done():
    costs = Costs({"start": 3}, [50, 50], 60.0, [Point(5, 5), Point(5, 5)])
    for extent in (Extent(1, 4, 0), Extent(8, 0, 1), Extent(2, 2, 1)):
        found = missing(costs, extent, Extent(3, extent.tries, 2))
        assert found
        assert all(needs > costs.total(extent) for needs in found.values())


def test_too_short_a_time_is_told_with_one_that_would_do():
    error = too_short("20s", [LARGE, SMALL])
    assert isinstance(error, infer.UserError)
    assert str(error) == "time=20s: too short for the smallest plan (small: 35 s); give time=36s"
    assert fitting([LARGE, SMALL], WANTED, 36).rung == SMALL
    assert str(too_short("20s", [LARGE], ", or smaller pictures")).endswith("give time=5m, or smaller pictures")
