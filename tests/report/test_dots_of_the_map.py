"""The class map: dots beside the contours of a class are not cut at the edge of the plot."""

import re

import torch
from scipy.stats import gaussian_kde

from infer.report.figures import _REACH, Titles, class_map


def test_a_dot_at_the_end_of_the_contours_lies_within_the_plot():
    """Contours are drawn on a grid, at whose end matplotlib leaves no margin: a dot there was half outside."""
    test = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    edge = float(test[:, 0].max()) + _REACH * gaussian_kde(test.numpy().T).covariance[0, 0] ** 0.5
    points = torch.cat([test, torch.tensor([[edge, 0.0]])])
    kinds = torch.tensor([0] * 40 + [1])
    svg = class_map(points, torch.zeros(41, dtype=torch.int64), kinds, 1, 2, Titles("x", "y"))
    (dot,) = (float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)" y="[\d.]+"', svg))
    left, width = map(float, re.search(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg).groups())
    assert left + width - dot > 0.02 * width
