"""The baseline that decides, and the naturals of INFER as published: pictures picked at random."""

from __future__ import annotations

from infer.methods.selection import Given, Naturals, pictures


def naturals(given: Given) -> Naturals:
    """The first of each class in the order of the run's seed."""
    return pictures(given, given.picks)
