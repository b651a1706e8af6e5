"""Runs that are killed at random moments end as unbroken ones; kill_runs.py is the long set, as a command."""

from kill_runs import kill_runs


def test_killed_runs_end_as_unbroken_ones():
    assert set(map(tuple, kill_runs(count=3, seed=1, names=["infer_plus"]).values())) == {()}
