"""The report's plots: SVG that takes the page's colours and names nothing, so that a plot suits every language."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde
from torch import Tensor

matplotlib.use("Agg")

PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99", "#999933", "#bbbbbb")
"""Ten colours that most readers can tell apart (after Paul Tol's bright and light schemes); more repeat them."""

SOURCES = {"real": "#888888", "distilled": "#ee6677", "random": "#4477aa"}
_GREY = "#808080"  # of lines: seen on white and on black
_CONTOURS = (0.3, 0.7)  # of the highest density of a class
_DENSE = 10  # points, from which on a density says something
_STYLE: Any = {
    "svg.fonttype": "none",
    "axes.edgecolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
}


def colour(number: int) -> str:
    """Of a class."""
    return PALETTE[number % len(PALETTE)]


def class_map(points: Tensor, of: Tensor, kind: Tensor, naturals: int, composed: int) -> str:
    """Contours of the test pictures (kind 0) of every class, and on them a set's naturals and composed images, by their
    numbers among the kinds."""

    def draw(axes: Axes) -> None:
        for number in of.unique().tolist():
            own = points[(of == number) & (kind == 0)].numpy()
            _contours(axes, own, colour(number))
            for which, marker, size in ((composed, "x", 10), (naturals, "o", 14)):
                some = points[(of == number) & (kind == which)]
                x, y = some.unbind(dim=1)
                axes.scatter(x, y, size, color=colour(number), linewidths=0.8, alpha=0.6, marker=marker)
        axes.set(xlim=_span(points[:, 0]), ylim=_span(points[:, 1]))
        axes.set_axis_off()

    return _drawn(draw, (4.2, 4.2), f"map{naturals}")


def margins(spread: Mapping[str, Tensor]) -> str:
    """By source, the share of decisions whose margin is at most what the axis says."""

    def draw(axes: Axes) -> None:
        for source, values in spread.items():
            ordered = np.sort(values.numpy())
            axes.plot(ordered, np.arange(1, len(ordered) + 1) / len(ordered), color=SOURCES[source], linewidth=1.6)
        axes.axvline(0, color=_GREY, linewidth=0.6)
        axes.set(xlim=(-1, 1), ylim=(0, 1))

    return _drawn(draw, (5.5, 2.8), "margins")


def choices(accuracies: Sequence[float]) -> str:
    """Accuracy in % of every choice, in the order of their table."""

    def draw(axes: Axes) -> None:
        numbers = range(1, len(accuracies) + 1)
        axes.plot(numbers, [100 * value for value in accuracies], "o-", color=SOURCES["distilled"], linewidth=1.4)
        axes.set(xticks=list(numbers))

    return _drawn(draw, (5.5, 2.4), "choices")


def cost(making: float, file: float, real: float, retrainings: int) -> str:
    """Hours spent after so many retrainings, on the whole set and on the file."""

    def draw(axes: Axes) -> None:
        numbers = np.arange(retrainings + 1)
        axes.plot(numbers, real * numbers / 3600, color=SOURCES["real"], linewidth=1.6)
        axes.plot(numbers, (making + file * numbers) / 3600, color=SOURCES["distilled"], linewidth=1.6)
        axes.set(xlim=(0, retrainings), ylim=(0, None))

    return _drawn(draw, (5.5, 2.6), "cost")


def _contours(axes: Axes, points: np.ndarray[Any, Any], line: str) -> None:
    """Where a class is dense; too few points, or points on a line, have no density and are drawn themselves."""
    try:
        density = gaussian_kde(points.T) if len(points) >= _DENSE else None
    except np.linalg.LinAlgError:
        density = None
    if density is None:
        axes.scatter(points[:, 0], points[:, 1], color=line, marker=".", s=6)
        return
    low, high = points.min(0), points.max(0)
    reach = 0.25 * (high - low)
    x, y = (np.linspace(low[i] - reach[i], high[i] + reach[i], 60) for i in range(2))
    height = density(np.stack([axis.ravel() for axis in np.meshgrid(x, y)])).reshape(60, 60)
    axes.contour(x, y, height, levels=[height.max() * share for share in _CONTOURS], colors=[line], linewidths=1)


def _span(values: Tensor) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _drawn(draw: Callable[[Axes], None], size: tuple[float, float], salt: str) -> str:
    """The <svg> element alone; its marks have names of their own (``salt``), for a page has several."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg[svg.index("<svg") :])  # the same in every plot, and never used
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
