"""figure(): a step of a run as a matplotlib picture; one class for each kind: plane, wall of images, line."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from stepfit.clustering.choose import ChoiceStep
from stepfit.clustering.lloyd import KMeansStep
from stepfit.descent.engine import DescentStep
from stepfit.kernels.points import as_tensor
from stepfit.recording import Recording
from stepfit.steps import Step
from stepfit.viewers.choices import Choices
from stepfit.viewers.palette import COLORS
from stepfit.viewers.picture import (
    FONT,
    INK,
    PAPER,
    RULE,
    SOFT,
    Curve,
    Floats,
    Picture,
    add_legend,
    array,
    counted,
    dots,
    mixed,
    number,
    plain,
)
from stepfit.viewers.surface import LOSSES, THRESHOLDS, loss_surface
from stepfit.viewers.voronoi import clipped, corners, regions

MOST_POINTS = 5_000  # more would be drawn over each other


def figure(step_or_run: Step | Recording[Any], x: Any = None, y: Any = None) -> Figure:
    """Draw a step, or the last step of a recording with the curves of the whole run beside it.

    Parameters
    ----------
    step_or_run : KMeansStep, DescentStep or Recording
        What to draw. `run[3]` is one step alone. Of `choose_k` the whole recording is drawn, over k.
    x : array-like of shape (n, d), or path of a .npy file
        The points of the run; a recording of `choose_k` needs none. k-means: d = 2 (a plane with the region of each
        center), or a square number above 4 such as 784 (the centers as images). Gradient descent: d = 2.
    y : array-like of shape (n,) or (n, 1), optional
        k-means on images: what each image shows, to say what most of a center's do. Gradient descent needs it: the
        class of each point, 0 or 1.

    Returns
    -------
    matplotlib.figure.Figure
        1200 pixels wide; `.savefig("picture.png")` writes it.

    Raises
    ------
    TypeError, ValueError
        When the step cannot be drawn: what came, and what can be.

    Examples
    --------
    >>> import stepfit
    >>> x = [[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [5.0, 1.0]]
    >>> run = stepfit.record(stepfit.lloyd(x, 2, seed=0))
    >>> print(stepfit.figure(run, x))
    Figure(1200x700)
    """
    picture = picture_of(step_or_run, x, y)
    picture.show(len(picture.steps) - 1)
    return picture.figure


def picture_of(step_or_run: Step | Recording[Any], x: Any, y: Any = None) -> Picture:
    """Choose the picture that fits the run and its points; refuse what has none."""
    if not isinstance(step_or_run, (Step, Recording)):
        raise TypeError(
            f"a {type(step_or_run).__name__} cannot be drawn; give a step, or keep the run first: record(lloyd(...))"
        )
    last = step_or_run.last if isinstance(step_or_run, Recording) else step_or_run
    if isinstance(last, ChoiceStep):
        if isinstance(step_or_run, Step):
            raise TypeError(
                "one k is no curve; give the recording of choose_k, or draw the clusters: figure(step.best, x)"
            )
        return Choices(step_or_run)
    if x is None:
        raise TypeError("x is missing; give the points that the run was made from")
    x = as_tensor(x, "x")
    if x.ndim != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}; it must be (n, d), the points that the run was made from")
    n, d = x.shape
    y = None if y is None else array(as_tensor(y, "y").reshape(-1))
    if y is not None and len(y) != n:
        raise ValueError(f"y has {counted(len(y), 'value')} and x {counted(n, 'row')}; each row needs one")
    if isinstance(last, DescentStep):
        return _Line(step_or_run, x, y)
    if not isinstance(last, KMeansStep):
        raise TypeError(f"a {type(last).__name__} cannot be drawn; a KMeansStep or a DescentStep can")
    if (len(last.labels), last.centers.shape[1]) != (n, d):
        raise ValueError(
            f"x has shape ({n}, {d}), but the step has {len(last.labels)} labels and centers of "
            f"{counted(last.centers.shape[1], 'feature')}; give the x that the run was made from"
        )
    if d == 2:
        return _Plane(step_or_run, x)
    if d > 4 and isqrt(d) ** 2 == d:
        return _Wall(step_or_run, y)
    raise ValueError(
        f"x has {counted(d, 'feature')}; k-means can be drawn for 2 (a plane), "
        "or for a square number above 4, such as 784 (images)"
    )


class _KMeans(Picture):
    """What the plane and the wall share: two stages a step, the words, the curve."""

    seconds = 0.5
    item: str

    def __init__(self, step_or_run: Step | Recording[Any], height: int) -> None:
        super().__init__(step_or_run, height)
        self.k = len(self.steps[0].centers)
        if self.run:
            axes = self.axes(890, 116, 280, 230, "inertia at each step")
            self.curve = Curve(
                axes, [step.index for step in self.steps], {"inertia": [step.inertia for step in self.steps]}
            )

    def frames(self) -> list[tuple[int, str]]:
        halves = [(position, stage) for position in self.thinned() for stage in ("assign", "update")]
        # The labels of the last step belong to its centers: that is the answer, so its update is left out.
        return [(0, "start"), *halves[:-1]]

    def show(self, position: int, stage: str = "") -> None:
        step: KMeansStep = self.steps[position]
        self._draw(step, stage)
        if stage == "start":
            self.say(step, stage, f"{counted(self.k, 'first center')}; no {self.item} has a label yet")
        elif stage == "update":
            self.say(step, stage, f"Each center moves to the mean of its {self.item}s", *step.events[:2])
        else:
            changed = f"{step.changed:,} of {len(step.labels):,} labels changed, inertia {number(step.inertia)}"
            joined = f"Each {self.item} joins its nearest center: {changed}"
            self.say(step, stage, *([changed, step.stop.value] if step.stop else [joined]))
        if self.run:
            self.curve.show(-1 if stage == "start" else position)

    def _draw(self, step: KMeansStep, stage: str) -> None:
        raise NotImplementedError


class _Plane(_KMeans):
    """k-means on two features: the points, the region of each center, the centers and how they move."""

    item = "point"

    def __init__(self, step_or_run: Step | Recording[Any], x: Tensor) -> None:
        super().__init__(step_or_run, 700)
        self.rows = _thinned(len(x))
        self.points = array(x[self.rows])
        axes = self.axes(54, 116, 720, 539)
        self.box = _set_box(axes, self.points, array(self.steps[0].centers))

        self.regions = PolyCollection([], edgecolors=RULE, linewidths=1, zorder=1)
        self.regions.set_facecolor([mixed(COLORS[j % 8], 0.16) for j in range(self.k)])
        axes.add_collection(self.regions, autolim=False)
        size = float(np.clip(150 / np.sqrt(len(self.rows)), 3, 7))
        self.unlabeled = dots(0, size, color=mixed(SOFT, 0.7), mec=SOFT)
        self.groups = [dots(j, size) for j in range(8)]
        self.moves = Line2D([], [], color=INK, lw=1.6, ls="-", marker="", zorder=3)
        self.ends = Line2D([], [], color=INK, ls="", marker="o", ms=5, mew=0, zorder=3)
        for line in (self.unlabeled, *self.groups, self.moves, self.ends):
            axes.add_line(line)
        size = 10 if self.k <= 20 else 7 if self.k <= 100 else 0  # of the numbers; more have no room
        self.marks = axes.scatter(
            np.zeros(self.k), np.zeros(self.k), s=(2 * size) ** 2 or 24, marker="o", facecolors=PAPER, zorder=4,
            linewidths=2.4 if size else 1, edgecolors=[mixed(COLORS[j % 8], 0.8, INK) for j in range(self.k)],
        )  # fmt: skip
        look = {"size": size, "color": INK, "weight": "bold", "ha": "center", "va": "center_baseline", **FONT}
        self.numbers = [axes.text(0, 0, str(j), zorder=5, clip_on=True, **look) for j in range(self.k if size else 0)]

        self.named = range(self.k if self.k <= 8 else 0)
        what = "center, with the number of its cluster" if size else "center"
        handles = [
            Line2D([], [], ls="", marker="o", ms=10, mfc=PAPER, mec=INK, mew=1.8, label=what),
            Line2D([], [], color=INK, lw=1.6, ls="-", marker="", label="move to the mean of its points"),
            *(dots(j, 7, label=str(j)) for j in self.named),
        ]
        if not self.named:
            handles.append(Line2D([], [], ls="", marker="", label=f"{self.k} clusters share 8 colors and shapes"))
        place = (834 / 1200, 1 - (400 if self.run else 116) / 700)
        self.counts = add_legend(self.figure, handles, place, loc="upper left")[2:]

    def _draw(self, step: KMeansStep, stage: str) -> None:
        labeled = stage != "start"
        labels = step.labels[self.rows].cpu().numpy() % 8
        self.unlabeled.set_data(*self.points[: 0 if labeled else None].T)
        for j, group in enumerate(self.groups):
            group.set_data(*self.points[(labels == j) & labeled].T)

        before, after = array(step.centers), array(step.next_centers)
        at, end = (after, before) if stage == "update" else (before, after)
        self.regions.set_verts(regions(before, self.box) if labeled else [])
        moved = None if stage in ("update", "") else 0
        moves = np.stack([before, after, np.full_like(after, np.nan)], axis=1)  # NaN parts one move from the next
        self.moves.set_data(*moves[:moved].reshape(-1, 2).T)
        self.ends.set_data(*end[:moved].T)
        self.marks.set_offsets(np.ma.masked_invalid(at))
        for text, place in zip(self.numbers, at):
            text.set(position=place, visible=bool(np.isfinite(place).all()))
        for j in self.named:
            count = f": {counted(int(step.counts[j]), 'point')}" if labeled else ""
            self.counts[j].set_text(f"{j}{count}{_unseen(at[j], self.box)}")


class _Wall(_KMeans):
    """k-means on images: each center as the image it is, how many images it has, and what most of them show."""

    item = "image"

    def __init__(self, step_or_run: Step | Recording[Any], y: NDArray[Any] | None) -> None:
        first: Any = step_or_run if isinstance(step_or_run, Step) else step_or_run[0]
        k = len(first.centers)
        size, lines = (10, 1 if y is None else 2) if k <= 20 else (8, 1) if k <= 100 else (0, 0)  # of the captions
        self.y = None if y is None or lines < 2 else np.unique(y, return_inverse=True)
        width, below = 768, 8 + 17 * lines

        def side(columns: int) -> float:
            return min(width / columns - 8, 552 / -(-k // columns) - below)

        # Large images, and few empty places in the last row.
        columns = max(range(1, k + 1), key=lambda columns: side(columns) / (-(-k // columns) * columns))
        tile, rows = side(columns), -(-k // columns)
        height = round(rows * (tile + below))
        super().__init__(step_or_run, max(520, 116 + height + 24) // 2 * 2)  # a video needs even numbers
        axes = self.axes(54, 116, width, height)
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        known = torch.cat([self.steps[0].centers, self.steps[-1].centers])
        known = known[known.isfinite()]
        look: dict[str, Any] = {
            "cmap": colormaps["gray_r"].with_extremes(bad=mixed(COLORS[3], 0.3)), "interpolation": "nearest",
            "vmin": float(known.min()), "vmax": float(known.max()), "aspect": "auto", "origin": "upper",
        }  # fmt: skip
        places = [(j % columns * width / columns, j // columns * (tile + below)) for j in range(k)]
        extents = [(left, left + tile, top + tile, top) for left, top in places]
        self.images = [axes.imshow(np.zeros((1, 1)), extent=extent, **look) for extent in extents]
        edges = [corners(extent) for extent in extents]
        axes.add_collection(PolyCollection(edges, facecolors="none", edgecolors=RULE, linewidths=1), autolim=False)
        self.captions = [
            axes.text(left + tile / 2, top + tile + 4, "", size=size, color=INK, ha="center", va="top", **FONT)
            for left, top in places[: k * bool(lines)]
        ]
        legend = "Each picture is a center: the mean of its images."
        if lines:
            rest = (
                " and how many images it has."
                if self.y is None
                else ", how many images it has\nand what most of them show."
            )
            legend += f"\nBelow: its number{rest}"
        self.text(834, 400 if self.run else 130, legend, size=10, va="top", linespacing=1.6)

    def _draw(self, step: KMeansStep, stage: str) -> None:
        centers = array(step.next_centers if stage == "update" else step.centers)
        side = isqrt(centers.shape[1])
        for image, center in zip(self.images, centers):
            image.set_data(np.ma.masked_invalid(center.reshape(side, side)))
        labeled = stage != "start"
        for j, text in enumerate(self.captions):
            lost = ", NaN" if np.isnan(centers[j]).any() else ""
            text.set_text(f"{j}: {counted(int(step.counts[j]), 'image')}{lost}" if labeled else str(j))
        if self.y and labeled:
            kinds, y = self.y
            cells = step.labels.cpu().numpy() * len(kinds) + y
            for text, row in zip(self.captions, np.bincount(cells, minlength=self.k * len(kinds)).reshape(self.k, -1)):
                most = f"mostly {kinds[row.argmax()]:g} ({row.max() / row.sum():.0%})" if row.any() else "empty"
                text.set_text(f"{text.get_text()}\n{most}")


class _Line(Picture):
    """Gradient descent on two features: the decision line between the points, the loss surface, the curves."""

    seconds = 0.1

    def __init__(self, step_or_run: Step | Recording[Any], x: Tensor, y: NDArray[Any] | None) -> None:
        super().__init__(step_or_run, 800)
        shapes = {name: tuple(value.shape) for name, value in self.steps[-1].params.items()}
        if x.shape[1] != 2 or shapes != {"weight": (1, 2), "bias": (1,)}:
            raise ValueError(
                f"x has {counted(x.shape[1], 'feature')} and the step the parameters {shapes}; gradient descent can "
                "be drawn for 2 features and one line: weight (1, 2) and bias (1,)"
            )
        if y is None:
            raise ValueError("y is missing; gradient descent is drawn with the class of each point, 0 or 1")
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"y has values from {y.min():g} to {y.max():g}; each must be a class, 0 or 1")
        rows = _thinned(len(x))
        points, classes = array(x[rows]), y[rows.numpy()]
        self.threshold = self._threshold(points, classes)

        axes = self.axes(54, 140, 720, 616)
        self.box = _set_box(axes, points, points[:0])
        self.halves = PolyCollection([], linewidths=0, zorder=1)
        self.halves.set_facecolor([mixed(color, 0.16) for color in COLORS[:2]])
        axes.add_collection(self.halves, autolim=False)
        size = float(np.clip(150 / np.sqrt(len(rows)), 3, 7))
        both = [dots(j, size, label=f"class {j}") for j in range(2)]
        for j in range(2):
            both[j].set_data(*points[classes == j].T)
        self.line = Line2D([], [], color=INK, lw=2.4, ls="-", marker="", zorder=4, label="decision line")
        for line in (*both, self.line):
            axes.add_line(line)
        self.equation = add_legend(axes, [*both, self.line], (0, 1.012), loc="lower left", ncols=3)[-1]
        self.curves: list[Curve] = []
        if self.run:
            self._add_surface(self.run, points, classes)
            self._add_curves()

    def _threshold(self, points: Floats, classes: NDArray[Any]) -> float:
        if self.run:
            name = self.run.settings["loss"]
        else:  # a step does not name its loss: it is the one that gives the step's own number here
            step = self.steps[0]
            output = points @ array(step.params["weight"])[0] + array(step.params["bias"])
            with np.errstate(over="ignore", invalid="ignore"):  # in a run that diverged
                name = min(THRESHOLDS, key=lambda name: abs(LOSSES[name](output, classes) - step.loss))
        if name not in THRESHOLDS:
            raise ValueError(f"the loss is {name}; a decision line is known for {' and '.join(THRESHOLDS)}")
        return THRESHOLDS[name]

    def _add_surface(self, run: Recording[DescentStep], points: Floats, classes: NDArray[Any]) -> None:
        axes = self.axes(890, 140, 268, 268, "loss over weights 1 (across), 2 (up)")
        w1, w2, loss = loss_surface(run, points, classes)
        axes.set(xlim=(w1[0], w1[-1]), ylim=(w2[0], w2[-1]), aspect="equal")
        axes.locator_params(nbins=5)
        axes.xaxis.set_major_formatter(plain)
        axes.yaxis.set_major_formatter(plain)
        low, high = loss.min(), loss.max()
        if np.isfinite(high) and low < high:
            greys = LinearSegmentedColormap.from_list("greys", ["#f6f7f9", "#66707c"])
            axes.contourf(w1, w2, loss, levels=low + (high - low) * np.linspace(0, 1, 13) ** 2, cmap=greys, zorder=0)
        self.path = np.concatenate([array(step.params["weight"]) for step in run])
        self.path[~np.isfinite(self.path).all(1)] = np.nan
        color, look = COLORS[3], dict[str, Any](ls="", marker="o")
        axes.add_line(Line2D(*self.path[:1].T, ms=7, mfc=PAPER, mec=color, mew=2, zorder=3, **look))
        self.trail = axes.add_line(Line2D([], [], ls="-", lw=2, marker="", color=color, zorder=2))
        self.here = axes.add_line(Line2D([], [], ms=9, color=color, mec=PAPER, mew=1.5, zorder=4, **look))

    def _add_curves(self) -> None:
        def measured(name: str) -> list[float]:
            return [step.metrics.get(name, np.nan) for step in self.steps]

        losses = {"train": [step.loss for step in self.steps], "test": measured("test_loss")}
        accuracies = {"train": measured("train_accuracy"), "test": measured("test_accuracy")}
        for title, top, series in (("loss", 478, losses), ("accuracy", 644, accuracies)):
            known = {name: values for name, values in series.items() if not np.isnan(values).all()}
            if known:
                places = [step.index for step in self.steps]
                self.curves.append(Curve(self.axes(890, top, 280, 112, title), places, known))

    def frames(self) -> list[tuple[int, str]]:
        return [(position, "") for position in self.thinned()]

    def show(self, position: int, stage: str = "") -> None:
        step: DescentStep = self.steps[position]
        weight, bias = array(step.params["weight"])[0], float(step.params["bias"])
        self._draw_line(weight, bias)
        terms = f"{weight[0]:.3g} x₁ {_signed(weight[1])} x₂ {_signed(bias)}".replace("-", "−")
        self.equation.set_text(f"decision line: {terms} = {self.threshold:g}")
        shares = [f"{name.replace('_', ' ')} {step.metrics[name]:.1%}" for name in step.metrics if "accuracy" in name]
        reason = [step.stop.value] if step.stop else []
        self.say(step, stage, ", ".join([f"Loss {number(step.loss)}", *shares]), *reason)
        for curve in self.curves:
            curve.show(position)
        if self.run:
            self.trail.set_data(*self.path[: position + 1].T)
            self.here.set_data(*self.path[position : position + 1].T)

    def _draw_line(self, weight: Floats, bias: float) -> None:
        whole, length = corners(self.box), float(np.hypot(*weight))
        halves, line = [whole[:0], whole[:0]], whole[:0]
        if length == 0 and np.isfinite(bias):  # no line: every point is of one class
            halves[bias > self.threshold] = whole
        elif np.isfinite(length) and np.isfinite(bias):
            direction, reach, origin = weight / length, (self.threshold - bias) / length, np.zeros(2)
            halves = [clipped(whole, origin, direction, reach), clipped(whole, origin, -direction, -reach)]
            if all(map(len, halves)):
                middle = whole.mean(0)
                foot = middle + (reach - middle @ direction) * direction
                along = direction[::-1] * (-1, 1) * np.ptp(whole, axis=0).sum()
                line = np.stack([foot - along, foot + along])
        self.halves.set_verts(halves)
        self.line.set_data(*line.T)


def _set_box(axes: Axes, points: Floats, others: Floats) -> Sequence[float]:
    """Hold all points and, where they are not far out, the others; one unit is equally long both ways."""
    low, high = points.min(0), points.max(0)
    near = (abs(others - (low + high) / 2) <= 1.5 * (high - low)).all(1)
    low, high = np.min([low, *others[near]], axis=0), np.max([high, *others[near]], axis=0)
    size = np.array(axes.get_window_extent().size)
    unit = 1.06 * max((high - low) / size) or 2 / size.max()  # the second where all points are one
    left, bottom = (low + high - unit * size) / 2
    right, top = (low + high + unit * size) / 2
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    return left, right, bottom, top


def _unseen(center: Floats, box: Sequence[float]) -> str:
    if np.isnan(center).any():
        return ", center is NaN"
    left, right, bottom, top = box
    return "" if left <= center[0] <= right and bottom <= center[1] <= top else ", center is outside"


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'} {abs(value):.3g}"


def _thinned(n: int) -> Tensor:
    """Choose which rows are drawn: always the same ones, by a generator of their own."""
    if n <= MOST_POINTS:
        return torch.arange(n)
    return torch.from_numpy(np.sort(np.random.default_rng(0).choice(n, MOST_POINTS, replace=False)))
