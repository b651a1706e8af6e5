"""The yearly cost of retraining."""

import pytest

from infer.metrics.cost import yearly_cost


def test_a_file_saves_time_from_its_break_even_on():
    cost = yearly_cost(creation=100, file=10, real=50, retrainings=52, watts=200)
    assert cost.break_even == 3
    assert 100 + 3 * 10 < 3 * 50
    assert 100 + 2 * 10 > 2 * 50
    assert (cost.hours_real, cost.hours_file) == (52 * 50 / 3600, (100 + 52 * 10) / 3600)
    assert cost.energy_real == pytest.approx(52 * 50 / 3600 * 0.2)
    assert yearly_cost(100, 50, 50, 52, 200).break_even is None
