"""INFER+: this project's method, which spends the bytes of a file where a student learns most from them.

It has four parts. Each can be switched off, and all but the first can be combined with any other method.

1. Selection (here): a proxy model, a student of random images, shows which images a file of such images already
   explains. The images with the lowest reducible loss (:func:`infer.methods.proxy.reducible_loss`, after Mindermann et
   al. 2022) are left out; the seed selects among the others.
2. A codec stores the naturals (``budget.codec``), so that a file holds many more of them.
3. Labels belong to mixed views (``labels.kind=views``): pairs of images, cropped, flipped and mixed as a seed says.
4. Of several candidates for each mixed view, the file names the one with the highest reducible loss
   (``labels.candidates``).

It stores no compensators.
"""

from __future__ import annotations

import torch

from infer.methods.options import InferPlusOptions
from infer.methods.selection import Naturals, SelectionInputs, select_pictures


def select(inputs: SelectionInputs, options: InferPlusOptions) -> Naturals:
    """Select the first train images of each class in the seed's order, without the easiest ones.

    A class leaves out fewer images where too few would remain for its share of the naturals.
    """
    orders, reasons = [], {}
    for members, needed in zip(inputs.order, inputs.per_class, strict=True):
        left_out = min(int(options.easiest * len(members)), len(members) - needed)
        kept = torch.ones(len(members), dtype=torch.bool)
        if left_out:
            known = inputs.reducible_loss(members)
            kept[known.argsort(stable=True)[:left_out]] = False
            for index, loss in zip(members.tolist(), known.tolist(), strict=True):
                reasons[index] = f"random among the harder ones: reducible loss {loss:.2f}"
        orders.append(members[kept])
    return select_pictures(inputs, orders, "random", reasons)
