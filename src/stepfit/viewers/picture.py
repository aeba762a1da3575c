"""Picture and Curve: the paper, the ink and the layout that every figure and every frame of an animation shares.

A picture draws its fixed parts once; show() then moves the rest to a step. Only matplotlib's objects are used and every
color and font is given, so that no global setting of the caller changes a picture or is changed by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from torch import Tensor

from stepfit.formats import number
from stepfit.recording import Recording
from stepfit.steps import Step
from stepfit.viewers.drawable import Floats
from stepfit.viewers.palette import COLORS, MARKERS

WIDTH = 1200  # pixels, of every picture; places are (left, top, width, height) in pixels from the upper left corner
INK, SOFT, RULE, PAPER = "#1b1f24", "#545c66", "#c3c9d1", "#ffffff"
FONT: dict[str, Any] = {"family": "DejaVu Sans", "usetex": False}  # comes with matplotlib: the same letters everywhere
MOST_STEPS = 60  # in an animation
MOST_POINTS = 5_000  # more would be drawn over each other

_SHAPES = {
    "circle": "o", "square": "s", "triangle": "^", "diamond": "D",
    "cross": "X", "star": "*", "down": "v", "hexagon": "h",
}  # fmt: skip


class Picture:
    """A figure whose fixed parts are drawn once; `show` moves the rest to a step.

    Attributes
    ----------
    figure : Figure
        What `show` changes.
    steps : sequence of Step
        What can be shown.
    run : Recording or None
        None when a step came alone: there are no curves then.
    seconds : float
        How long a frame of an animation stays.
    """

    seconds: float

    def __init__(self, step_or_run: Step | Recording[Any], height: int) -> None:
        self.run = step_or_run if isinstance(step_or_run, Recording) else None
        self.steps: Sequence[Any] = [step_or_run] if isinstance(step_or_run, Step) else step_or_run
        self.height = height
        size = (WIDTH / 100, height / 100)
        self.figure = Figure(figsize=size, dpi=100, facecolor=PAPER, edgecolor=PAPER, frameon=True)
        self._headline = self.text(54, 42, size=15, weight="bold")
        self._detail = self.text(54, 76, size=11, color=SOFT)

    def frames(self) -> list[tuple[int, str]]:
        """List the frames of an animation: (position in `steps`, stage), the first and the last step among them."""
        raise NotImplementedError

    def show(self, position: int, stage: str = "") -> None:
        """Bring the figure to a step; a stage shows one half of it."""
        raise NotImplementedError

    def thinned(self) -> list[int]:
        """Choose evenly which steps an animation shows."""
        count = len(self.steps)
        return [round(position) for position in np.linspace(0, count - 1, min(count, MOST_STEPS))]

    def say(self, step: Step, stage: str, *facts: str) -> None:
        """Write the two lines at the top."""
        total = f" of {self.steps[-1].index}" if self.run else ""
        self.head(f"Step {step.index}{total}" + f": {stage}" * bool(stage), "; ".join(facts) + ".")

    def head(self, headline: str, detail: str) -> None:
        """Write the two lines at the top, whatever they say."""
        self._headline.set_text(headline)
        self._detail.set_text(detail)

    def text(self, left: float, top: float, words: str = "", **look: Any) -> Text:
        """Write on the figure."""
        look = {"color": INK, "ha": "left", "va": "center", **FONT, **look}
        return self.figure.text(left / WIDTH, 1 - top / self.height, words, **look)

    def axes(self, left: float, top: float, width: float, height: float, title: str = "") -> Axes:
        """Add a frame with an axis on its left and below it."""
        place = (left / WIDTH, 1 - (top + height) / self.height, width / WIDTH, height / self.height)
        axes = self.figure.add_axes(place, facecolor=PAPER)
        axes.grid(visible=False)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set(visible=True, color=RULE, linewidth=1)
        axes.tick_params(
            direction="out", length=4, width=1, color=RULE, labelcolor=SOFT, labelsize=9,
            labelfontfamily=FONT["family"], bottom=True, left=True, top=False, right=False,
            labelbottom=True, labelleft=True, labeltop=False, labelright=False,
        )  # fmt: skip
        axes.yaxis.get_offset_text().set(x=-0.06, size=9, color=SOFT, **FONT)  # such as 1e6; not over a legend
        axes.xaxis.get_offset_text().set(size=9, color=SOFT, **FONT)
        axes.set_title(title, loc="left", size=11, color=INK, weight="normal", pad=7, y=1, **FONT)
        return axes


class Curve:
    """Numbers along a run, each at its place: pale for all of it, strong up to the step shown, and a dot there."""

    def __init__(self, axes: Axes, places: Sequence[int], series: Mapping[str, Sequence[float]]) -> None:
        self.indices = np.array(places)
        self.drawn: list[tuple[Floats, Line2D, Line2D]] = []
        marker: dict[str, Any] = {"marker": "o" if len(places) <= 30 else "", "ms": 3}
        looks = ((COLORS[0], "-", 10), (COLORS[3], "--", 7))  # the dot of the second lies on that of the first
        for (name, numbers), (color, style, size) in zip(series.items(), looks):
            values = np.array(numbers, dtype=float)
            values[~np.isfinite(values)] = np.nan  # a gap in the line
            axes.plot(self.indices, values, style, color=mixed(color, 0.35), lw=1.5, **marker)
            (strong,) = axes.plot([], [], style, color=color, lw=2, label=name, **marker)
            (dot,) = axes.plot([], [], ls="", color=color, marker="o", ms=size, mec=PAPER, mew=1.5, zorder=4)
            self.drawn.append((values, strong, dot))
        first, last = self.indices[[0, -1]]
        margin = 0.05 * (last - first) or 0.5
        axes.set_xlim(first - margin, last + margin)
        axes.margins(y=0.1)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.grid(visible=True, axis="y", color=RULE, lw=0.6, ls="-", alpha=0.7)
        known = np.concatenate([values[np.isfinite(values)] for values, _, _ in self.drawn])
        if len(known) and 0 < 1000 * known.min() < known.max():  # a run that diverged
            axes.set_yscale("log")
            axes.minorticks_off()
        else:
            axes.locator_params(axis="y", nbins=6)
            axes.yaxis.set_major_formatter(plain)
        if len(series) > 1:
            add_legend(axes, [strong for _, strong, _ in self.drawn], (1, 1.05), loc="lower right", ncols=2)

    def show(self, position: int) -> None:
        """Go to a position in the steps; -1 shows none."""
        for values, strong, dot in self.drawn:
            strong.set_data(self.indices[: position + 1], values[: position + 1])
            dot.set_data(self.indices[position : position + 1], values[position : position + 1])


def add_legend(owner: Figure | Axes, handles: Sequence[Any], place: tuple[float, float], **options: Any) -> list[Text]:
    """Add a legend and return its texts."""
    legend = owner.legend(
        handles=handles, bbox_to_anchor=place, prop={"family": FONT["family"], "size": 10}, labelcolor=INK,
        frameon=False, borderaxespad=0, borderpad=0, handlelength=1.6, labelspacing=0.5, numpoints=1, **options,
    )  # fmt: skip
    return list(legend.get_texts())


def dots(group: int, size: float, **look: Any) -> Line2D:
    """Make the points of a cluster or class, in its color and shape; their places come later."""
    color, shape = COLORS[group % len(COLORS)], _SHAPES[MARKERS[group % len(MARKERS)]]
    # Without a darker edge yellow would be lost on white.
    look = {"color": color, "mec": mixed(color, 0.7, INK), "mew": 0.5, "zorder": 2, **look}
    return Line2D([], [], ls="", marker=shape, ms=size * (1.4 if shape == "*" else 1), **look)


def mixed(color: str, share: float, other: str = PAPER) -> str:
    """Mix two colors."""
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(to_rgb(color), to_rgb(other)))
    return to_hex((red, green, blue))


def plain(value: float, _position: float) -> str:
    """Write the number at a tick in full, with no power of ten set apart at the end of the axis."""
    return number(value).replace("-", "−")


def set_box(axes: Axes, points: Floats, others: Floats) -> Sequence[float]:
    """Make axes hold all points, and those of the others that are near; one unit is equally long both ways.

    Return left, right, bottom, top.
    """
    low, high = points.min(0), points.max(0)
    near = (abs(others - (low + high) / 2) <= 1.5 * (high - low)).all(1)
    low, high = np.min([low, *others[near]], axis=0), np.max([high, *others[near]], axis=0)
    size = np.array(axes.get_window_extent().size)
    unit = 1.06 * max((high - low) / size) or 2 / size.max()  # the second where all points are one
    left, bottom = (low + high - unit * size) / 2
    right, top = (low + high + unit * size) / 2
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    return left, right, bottom, top


def sample(n: int) -> Tensor:
    """Return the rows to draw, in order, (at most MOST_POINTS,); a generator of its own always draws the same ones."""
    if n <= MOST_POINTS:
        return torch.arange(n)
    return torch.from_numpy(np.sort(np.random.default_rng(0).choice(n, MOST_POINTS, replace=False)))
