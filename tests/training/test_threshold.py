"""The threshold below which a class is unsure."""

import pytest
import torch
from torch import nn

from infer.data import Pictures
from infer.training.threshold import held_out_threshold, unsure_below

RIGHT, WRONG = True, False


@pytest.mark.parametrize(
    ("confidences", "correct", "wanted", "expected"),
    [
        ([0.25, 0.5, 0.75], [RIGHT, RIGHT, RIGHT], 0.95, 0.25),  # all are right: the lowest
        ([0.25, 0.5, 0.75], [WRONG, RIGHT, RIGHT], 0.95, 0.5),
        ([0.75, 0.25, 0.5], [RIGHT, WRONG, RIGHT], 0.6, 0.25),  # two of three; the order does not matter
        ([0.25, 0.5, 0.75], [RIGHT, WRONG, RIGHT], 0.6, 0.25),  # a mistake in the middle is made up for below
        ([0.5, 0.5, 0.75], [RIGHT, WRONG, RIGHT], 0.95, 0.75),  # of two equal ones, both or none
        ([0.5, 0.75, 0.75], [RIGHT, RIGHT, WRONG], 0.95, None),
        ([0.5, 0.75], [WRONG, WRONG], 0.95, None),
    ],
)
def test_it_is_the_lowest_confidence_above_which_enough_are_right(confidences, correct, wanted, expected):
    assert unsure_below(torch.tensor(confidences), torch.tensor(correct), wanted) == expected


class Level(nn.Module):
    """Takes the first pixel for the logit of class 1, in twentieths; that of class 0 is zero."""

    def forward(self, images):
        logit = images[:, 0, 0, 0].float() / 20
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def test_of_many_pictures_two_thousand_are_looked_at_evenly():
    levels = torch.arange(100, dtype=torch.uint8).repeat_interleave(50)
    images, targets = levels.view(-1, 1, 1, 1), (levels >= 40).long()
    seen = []

    class Counting(Level):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    found = held_out_threshold(Counting(), Pictures(images, targets), torch.device("cpu"))
    assert sum(seen) == 2000
    # Class 1 is predicted from level 1 on, and is right from 40 on: 3 of the 63 levels above 36 are wrong.
    assert found == pytest.approx(torch.sigmoid(torch.tensor(37 / 20)).item())
