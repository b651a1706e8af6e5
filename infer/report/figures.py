"""The plots of report.html as SVG. Their axes have titles in the language of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from scipy.stats import gaussian_kde
from torch import Tensor

from infer.report.numbers import TimeUnit
from infer.report.plot_text import literal_text

matplotlib.use("Agg")

PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#999933", "#bbbbbb")
"""Colours of classes (after Paul Tol's bright and light schemes); the eleventh class has the first colour again."""

SOURCE_COLOURS = {"real": "#888888", "distilled": "#ee6677", "random": "#4477aa"}
"""Colours of the sources that a report compares."""

CURVE_COLOURS = {**SOURCE_COLOURS, "random_hard": "#228833"}
"""Colours of the sources of a learning curve."""

_GREY = "#808080"  # visible on white and on black
_CONTOURS = (0.3, 0.7)  # shares of the highest density of a class
_REACH = 1.6  # kernel widths beyond the outermost points that no contour at a 0.3 share crosses: sqrt(2 ln(1 / 0.3))
_FEWEST = 10  # points that a density is estimated from
_STYLE: Any = {
    "svg.fonttype": "none",
    "axes.edgecolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": _GREY,
    "font.size": 9,
}


def colour(number: int) -> str:
    """Return the colour of class ``number``."""
    return PALETTE[number % len(PALETTE)]


class Titles(NamedTuple):
    """The titles of a plot's axes, with their units."""

    x: str
    y: str


def class_map(points: Tensor, classes: Tensor, kind: Tensor, naturals: int, composed: int, titles: Titles) -> str:
    """Plot the class map: density contours of the test images of each class, and the images of one set as markers.

    Args:
        points: float32 [P, 2].
        classes: int64 [P].
        kind: Number of the kind of every point, int64 [P]; test images are kind 0.
        naturals: Kind of the set's stored images, drawn as dots.
        composed: Kind of the set's composed images, drawn as crosses.
        titles: The titles of the axes.

    Returns:
        The ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        axes.update_datalim(points.numpy())  # of both sets, so that their maps have the same limits
        for number in classes.unique().tolist():
            _contours(axes, points[(classes == number) & (kind == 0)].numpy(), colour(number))
            for which, marker, size in ((composed, "x", 10), (naturals, "o", 14)):
                some = points[(classes == number) & (kind == which)]
                x, y = some.unbind(dim=1)
                axes.scatter(x, y, size, color=colour(number), linewidths=0.8, alpha=0.6, marker=marker)
        axes.use_sticky_edges = False  # those of the contours leave no margin, and cut the dots beside them
        axes.margins(0.03)
        axes.autoscale_view(tight=True)
        axes.set(xticks=[], yticks=[])

    return _svg(draw, (4.2, 4.2), f"map{naturals}", titles)


def margins(spread: Mapping[str, Tensor], titles: Titles) -> str:
    """Plot the cumulative distribution, in per cent, of each source's margins (-1 to 1); returns the ``<svg>`` element.

    Args:
        spread: The margins by source, float32 [S * N] each.
        titles: The titles of the axes.
    """

    def draw(axes: Axes) -> None:
        for source, values in spread.items():
            ordered = np.sort(values.numpy())
            shares = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
            axes.plot(ordered, shares, color=SOURCE_COLOURS[source], linewidth=1.6)
        axes.axvline(0, color=_GREY, linewidth=0.6)
        axes.set(xlim=(-1, 1), ylim=(0, 101))  # the width of a line at 100

    return _svg(draw, (5.5, 2.8), "margins", titles)


def choices(accuracies: Sequence[float], titles: Titles) -> str:
    """Plot the accuracies of the settings that were tried, in per cent; returns the ``<svg>`` element.

    Args:
        accuracies: The accuracies, 0 to 1, in the order of the settings' numbers.
        titles: The titles of the axes.
    """

    def draw(axes: Axes) -> None:
        numbers = range(1, len(accuracies) + 1)
        axes.plot(numbers, [100 * value for value in accuracies], "o", color=SOURCE_COLOURS["distilled"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return _svg(draw, (5.5, 2.4), "choices", titles)


def learning_curve(
    points: Sequence[Mapping[str, Any]], size: str, formatted: Callable[[float], str], titles: Titles
) -> str:
    """Plot the accuracies of a learning curve, in per cent, against the sizes of its sets on a logarithmic axis.

    Args:
        points: The points of the curve, as result.json has them. All images, whose size is another one, are a line.
        size: The key of the size: ``pictures`` or ``bytes``.
        formatted: Returns a size as text.
        titles: The titles of the axes.

    Returns:
        The ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        for source, tint in CURVE_COLOURS.items():
            own = [point for point in points if point["source"] == source]
            accuracy, low, high = ([100 * point[key] for point in own] for key in ("accuracy", "low", "high"))
            if source == "real":
                axes.axhspan(low[0], high[0], color=tint, alpha=0.15, linewidth=0)
                axes.axhline(accuracy[0], color=tint, linewidth=1.6)
            elif own:
                bars = np.array([accuracy, high]) - np.array([low, accuracy])
                axes.errorbar([point[size] for point in own], accuracy, bars, color=tint, marker="o", capsize=3)
        axes.set_xscale("log")
        ticks = [point[size] for point in points if point["source"] == "distilled"]
        axes.set_xticks(ticks, [formatted(tick) for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.1)

    return _svg(draw, (4.2, 3.2), f"curve-{size}", titles)


def cost(creation: float, file: float, real: float, retrainings: int, unit: TimeUnit, titles: Titles) -> str:
    """Plot the time spent against the number of retrainings, on the full training set and on the file.

    Args:
        creation: Seconds to create the file.
        file: Seconds to train a student on the file.
        real: Seconds to train a student on the full training set.
        retrainings: The largest number of retrainings.
        unit: The unit of the vertical axis.
        titles: The titles of the axes.

    Returns:
        The ``<svg>`` element.
    """

    def draw(axes: Axes) -> None:
        numbers = np.arange(retrainings + 1)
        axes.plot(numbers, real * numbers / unit.seconds, color=SOURCE_COLOURS["real"], linewidth=1.6)
        axes.plot(numbers, (creation + file * numbers) / unit.seconds, color=SOURCE_COLOURS["distilled"], linewidth=1.6)
        axes.set(xlim=(0, retrainings), ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return _svg(draw, (5.5, 2.6), "cost", titles)


def _contours(axes: Axes, points: np.ndarray[Any, Any], line: str) -> None:
    """Draw the density contours of a class. Too few points, or points on a line, are drawn as dots instead."""
    try:
        density = gaussian_kde(points.T) if len(points) >= _FEWEST else None
    except np.linalg.LinAlgError:
        density = None
    if density is None:
        axes.scatter(points[:, 0], points[:, 1], color=line, marker=".", s=6)
        return
    low, high = points.min(0), points.max(0)
    reach = _REACH * np.sqrt(np.diag(density.covariance))
    x, y = (np.linspace(low[i] - reach[i], high[i] + reach[i], 60) for i in range(2))
    height = density(np.stack([axis.ravel() for axis in np.meshgrid(x, y)])).reshape(60, 60)
    axes.contour(x, y, height, levels=[height.max() * share for share in _CONTOURS], colors=[line], linewidths=1)


def _svg(draw: Callable[[Axes], None], size: tuple[float, float], salt: str, titles: Titles) -> str:
    """Return the <svg> element of a plot. ``salt`` keeps its ids distinct from those of the page's other plots."""
    with literal_text(), matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.set(xlabel=titles.x, ylabel=titles.y)
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg[svg.index("<svg") :])  # equal in all plots, and never referenced
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
