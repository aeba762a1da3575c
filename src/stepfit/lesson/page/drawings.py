"""The pictures of the text that do not move, as SVG from the same runs that the text tells of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import log10
from typing import Any

import torch
from torch import Tensor

from stepfit import datasets
from stepfit.descent.regression import linear_regression
from stepfit.lesson.page import facts, runs
from stepfit.recording import record

SOME = 3  # every third point is drawn: enough to see the shape, and the page stays small


def six() -> str:
    """The run by hand, a panel a step."""
    run, x = facts.six_run(), torch.tensor(facts.SIX)
    panels = []
    for step in run:
        panel = Panel((-1, -1, 9, 11.5), 200)
        for point, j in zip(x, step.labels.tolist()):
            panel.line([point, step.centers[j]], f"dash s{j}")
        for point, j in zip(x, step.labels.tolist()):
            panel.points(point.unsqueeze(0), j, 9)
        for j, center in enumerate(step.centers):
            panel.cross(center, j)
        for point, name, right in zip(x, facts.NAMES, (-19, 10, -19, -19, 10, 10)):
            panel.text(point, name, right, 5)
        labels = " ".join(f"{name} {j}" for name, j in zip(facts.NAMES, step.labels.tolist()))
        panels.append(panel.svg(f"Step {step.index}: inertia {step.loss:g}. Labels: {labels}."))
    return _side_by_side(panels, [f"Step {step.index}, inertia {step.loss:g}" for step in run])


def stuck() -> str:
    """A good end and a bad one of k-means on the same points."""
    x, panels, titles = runs.clouds(), [], []
    for run in (runs.plane().run, facts.stuck_run()):
        panel = Panel(_box(x), 330)
        for j in range(4):
            panel.points(x[::SOME][run.last.labels[::SOME] == j], j, 5)
        for j, center in enumerate(run.last.centers):
            panel.cross(center, j)
        titles.append(f"Inertia {run.last.loss:,.0f}")
        counts = ", ".join(map(str, run.last.counts.tolist()))
        panels.append(panel.svg(f"{titles[-1]}; the four clusters have {counts} points."))
    return _side_by_side(panels, titles)


def moons_cut() -> str:
    """Two moons and what k-means makes of them."""
    x, moon, cluster = facts.moons_cut()
    panel = Panel(_box(x), 560)
    for j in range(2):
        for m in range(2):
            panel.points(x[::SOME][((cluster == j) & (moon == m))[::SOME]], j, 6, square=bool(m))
    alt = (
        "Two half moons that reach into each other. The border between the clusters cuts both of them straight across."
    )
    return panel.svg(alt)


def rates() -> str:
    """Loss curves of four learning rates, from zero weights."""
    data, limit = datasets.two_moons(), runs.moons().run[0].lr_limit
    panel = Panel((-4, -1.4, 47, 1.75), 560, 300)
    for height in (0.1, 1, 10):
        panel.line([(0, log10(height)), (40, log10(height))], "grid")
        panel.text((0, log10(height)), f"{height:g}", -8, 4, "end")
    for step in (0, 10, 20, 30, 40):
        panel.text((step, -1.4), f"{step}", 0, -4, "middle")
    ends = []
    for j, lr in enumerate((0.02, 0.1, 0.97 * limit, 1.03 * limit)):
        start = (torch.zeros(1, 2), torch.zeros(1))
        run = record(linear_regression(data.x_train, data.y_train, lr=lr, start=start, max_steps=41))
        panel.line([(step.index, log10(step.loss)) for step in run], f"curve s{j}")
        panel.text((40, log10(run.last.loss)), f"lr {lr:.2f}", 8, (4, 0, 12, 4)[j])
        ends.append(f"at lr {lr:.2f} it is {run.last.loss:.3g}")
    return panel.svg(f"The loss over 40 steps. At the end, {'; '.join(ends)}.")


def outliers() -> str:
    """Linear against logistic regression with far points."""
    data = facts.with_outliers()
    panel = Panel((-2.2, -6.6, 12.9, 3.2), 700)
    for j in range(2):
        panel.points(data.x_train[::SOME][data.y_train[::SOME, 0] == j], j, 5, square=bool(j))
    names = {"linear": "curve s3", "logistic": "curve dash text"}
    for name, border in facts.outlier_lines().items():
        # Where the border meets the left and the right of the picture: w1 x1 + w2 x2 = level.
        ends = [(x1, (border.level - border.weight[0].item() * x1) / border.weight[1].item()) for x1 in (-2.2, 12.9)]
        panel.line(ends, names[name])
    panel.text(facts.FAR, f"{facts.FAR_COUNT} points", -9, -10, "end")
    for name, border in facts.outlier_lines().items():
        at = (6, (border.level - border.weight[0].item() * 6) / border.weight[1].item())
        panel.text(at, f"{name} regression", 0, -8, "end" if name == "logistic" else "start")
    return panel.svg(
        "The line of linear regression leans towards the far points and cuts into both moons; "
        "that of logistic regression runs between the moons."
    )


def sigmoid() -> str:
    """The curve from 0 to 1."""
    panel = Panel((-7, -0.12, 7, 1.12), 560, 220)
    for height in (0.0, 0.5, 1.0):
        panel.line([(-6, height), (6, height)], "grid")
        panel.text((-6, height), f"{height:g}", -8, 4, "end")
    panel.line([(0, 0), (0, 1)], "grid")
    for z in (-6, -3, 0, 3, 6):
        panel.text((z, 0), f"{z}".replace("-", "−"), 0, 16, "middle")
    z = torch.linspace(-6, 6, 61)
    panel.line(torch.stack([z, z.sigmoid()], dim=1), "curve s0")
    return panel.svg("The sigmoid climbs from nearly 0 at a logit of −6 through one half at 0 to nearly 1 at 6.")


class Panel:
    """An SVG with a coordinate system of its own, y upwards; the colors of its classes are in page.css."""

    def __init__(self, box: Sequence[float], width: int, height: int | None = None) -> None:
        x0, y0, x1, y1 = box
        # Without a height both axes have the same unit, so that distances look as they are.
        self.box, self.width, self.height = box, width, height or round(width * (y1 - y0) / (x1 - x0))
        self.parts: list[str] = []

    def at(self, point: Any) -> tuple[float, float]:
        """Return the place of a point on the paper."""
        x, y = map(float, point)
        x0, y0, x1, y1 = self.box
        return (x - x0) / (x1 - x0) * self.width, (y1 - y) / (y1 - y0) * self.height

    def points(self, x: Tensor, group: int, size: int, square: bool = False) -> None:
        """Draw the points of a group as one path: short lines with butt ends are squares, of no length discs."""
        cap, width = ("butt", size) if square else ("round", 0)
        path, pen = "", (0, 0)
        for at in sorted((round(v), round(u)) for u, v in map(self.at, x)):  # neighbors have short ways
            path += f"m{at[1] - pen[1]} {at[0] - pen[0]}h{width}".replace(" -", "-")
            pen = (at[0], at[1] + width)
        self.parts.append(f'<path class="s{group}" stroke-width="{size}" stroke-linecap="{cap}" d="{path}"/>')

    def cross(self, point: Any, group: int) -> None:
        """Draw a center, with a rim that sets it off from the points."""
        x, y = self.at(point)
        path = f"M{x - 7:.1f} {y - 7:.1f}l14 14m0-14l-14 14"
        self.parts.append(f'<path class="halo" d="{path}"/><path class="cross s{group}" d="{path}"/>')

    def line(self, points: Iterable[Any], css: str) -> None:
        """Draw a line through points."""
        path = "L".join("{:.1f} {:.1f}".format(*self.at(point)) for point in points)
        self.parts.append(f'<path class="{css}" d="M{path}"/>')

    def text(self, point: Any, words: str, right: float, down: float, anchor: str = "start") -> None:
        """Write beside a point."""
        x, y = self.at(point)
        self.parts.append(f'<text x="{x + right:.1f}" y="{y + down:.1f}" text-anchor="{anchor}">{words}</text>')

    def svg(self, alt: str) -> str:
        """Return the picture; alt says in a sentence what is to be seen."""
        label = escape(alt, quote=True)
        size = f'viewBox="0 0 {self.width} {self.height}" style="max-width:{self.width}px"'
        return f'<svg {size} role="img" aria-label="{label}">{"".join(self.parts)}</svg>'


def _box(x: Tensor, margin: float = 0.3) -> list[float]:
    low, high = x.amin(dim=0) - margin, x.amax(dim=0) + margin
    return [*low.tolist(), *high.tolist()]


def _side_by_side(panels: Iterable[str], titles: Iterable[str]) -> str:
    cells = (f"<div>{panel}<p>{title}</p></div>" for panel, title in zip(panels, titles))
    return f'<div class="panels">{"".join(cells)}</div>'
