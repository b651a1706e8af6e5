"""Random selection: the baseline of every comparison."""

from __future__ import annotations

from infer.methods.options import NoOptions
from infer.methods.selection import Naturals, SelectionInputs, select_pictures


def select(inputs: SelectionInputs, options: NoOptions) -> Naturals:
    """Select the first train images of each class in the random order of the run's seed."""
    return select_pictures(inputs, inputs.order, "random")
