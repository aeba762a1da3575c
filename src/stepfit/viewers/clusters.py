"""Plane and Wall: the steps of k-means, of all rows or of mini-batches, on two features or as images."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from torch import Tensor

from stepfit.formats import counted, number
from stepfit.recording import Recording
from stepfit.steps import Step
from stepfit.viewers.drawable import Floats, array
from stepfit.viewers.palette import COLORS
from stepfit.viewers.picture import (
    FONT,
    INK,
    PAPER,
    RULE,
    SOFT,
    Curve,
    Picture,
    add_legend,
    dots,
    mixed,
    sample,
    set_box,
)
from stepfit.viewers.voronoi import corners, regions


class _Words(NamedTuple):
    """What the steps of a kind say; {} is a point or an image."""

    of: str
    facts: str
    move: str
    legend: str
    ends_with_labels: bool


_WORDS = {
    "kmeans": _Words(
        "",
        "{step.changed:,} of {step.labels.shape[0]:,} labels changed, inertia {loss}",
        "moves to the mean of its {}s",
        "move to the mean of its points",
        ends_with_labels=True,
    ),
    "mini_batches": _Words(
        " of the batch",
        "{count}, loss {loss}",
        "moves towards its {}s of the batch",
        "move towards its points of the batch",
        ends_with_labels=False,
    ),
}


class _Clusters(Picture):
    """What the plane and the wall share: two stages a step, the words, the curve."""

    seconds = 0.5
    item: str

    def __init__(self, step_or_run: Step | Recording[Any], height: int) -> None:
        super().__init__(step_or_run, height)
        self.k = len(self.steps[0].centers)
        if self.run:
            name = self.steps[0].loss_name
            axes = self.axes(890, 116, 280, 230, f"{name} at each step")
            self.curve = Curve(axes, [step.index for step in self.steps], {name: [step.loss for step in self.steps]})
        self.words = _WORDS[self.steps[0].kind]

    def frames(self) -> list[tuple[int, str]]:
        halves = [(position, stage) for position in self.thinned() for stage in ("assign", "update")]
        # The answer of k-means is the last step with its centers, so that its update is left out.
        return [(0, "start"), *(halves[:-1] if self.words.ends_with_labels else halves)]

    def show(self, position: int, stage: str = "") -> None:
        step = self.steps[position]
        self._draw(step, stage)
        reason = [step.stop.value] if step.stop else []
        if stage == "start":
            self.say(step, stage, f"{counted(self.k, 'first center')}; no {self.item} has a label yet")
        elif stage == "update":
            self.say(step, stage, f"Each center {self.words.move.format(self.item)}", *step.events[:2], *reason)
        else:
            facts = self.words.facts.format(
                step=step, count=counted(len(step.labels), self.item), loss=number(step.loss)
            )
            joined = f"Each {self.item}{self.words.of} joins its nearest center: {facts}"
            self.say(step, stage, *([facts, *reason] if step.stop else [joined]))
        if self.run:
            self.curve.show(-1 if stage == "start" else position)

    def _draw(self, step: Any, stage: str) -> None:
        raise NotImplementedError


class Plane(_Clusters):
    """k-means on two features: the points, the region of each center, the centers and how they move.

    Points that are not in a mini-batch have no label in it; they are pale.
    """

    item = "point"

    def __init__(self, step_or_run: Step | Recording[Any], x: Tensor) -> None:
        super().__init__(step_or_run, 700)
        self.x = x
        self.rows = sample(len(x))
        self.points = array(x[self.rows])
        axes = self.axes(54, 116, 720, 539)
        self.box = set_box(axes, self.points, array(self.steps[0].centers))

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
            Line2D([], [], color=INK, lw=1.6, ls="-", marker="", label=self.words.legend),
            *(dots(j, 7, label=str(j)) for j in self.named),
        ]
        if not self.named:
            handles.append(Line2D([], [], ls="", marker="", label=f"{self.k} clusters share 8 colors and shapes"))
        place = (834 / 1200, 1 - (400 if self.run else 116) / 700)
        self.counts = add_legend(self.figure, handles, place, loc="upper left")[2:]

    def _draw(self, step: Any, stage: str) -> None:
        labeled = stage != "start"
        everyone = len(step.labels) == len(self.x)
        shown = self.rows if everyone else sample(len(step.labels))
        points = self.points if everyone else array(self.x[step.rows[shown]])
        labels = step.labels[shown].cpu().numpy() % 8
        self.unlabeled.set_data(*self.points[: 0 if labeled and everyone else None].T)
        for j, group in enumerate(self.groups):
            group.set_data(*points[(labels == j) & labeled].T)

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


class Wall(_Clusters):
    """k-means on images: each center as the image it is, how many images it has, and what most of them show."""

    item = "image"

    def __init__(self, step_or_run: Step | Recording[Any], y: Tensor | None) -> None:
        first: Any = step_or_run if isinstance(step_or_run, Step) else step_or_run[0]
        k = len(first.centers)
        size, lines = (10, 1 if y is None else 2) if k <= 20 else (8, 1) if k <= 100 else (0, 0)  # of the captions
        self.y = None if y is None or lines < 2 else torch.unique(y.cpu().reshape(-1), return_inverse=True)
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

    def _draw(self, step: Any, stage: str) -> None:
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
            rows = step.rows.cpu() if isinstance(step.rows, Tensor) else step.rows
            cells = step.labels.cpu() * len(kinds) + y[rows]
            for text, row in zip(self.captions, cells.bincount(minlength=self.k * len(kinds)).reshape(self.k, -1)):
                most = f"mostly {kinds[row.argmax()]:g} ({row.max() / row.sum():.0%})" if row.any() else "empty"
                text.set_text(f"{text.get_text()}\n{most}")


def _unseen(center: Floats, box: Sequence[float]) -> str:
    if np.isnan(center).any():
        return ", center is NaN"
    left, right, bottom, top = box
    return "" if left <= center[0] <= right and bottom <= center[1] <= top else ", center is outside"
