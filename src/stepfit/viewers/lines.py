"""ClassRegions and Curves: the steps of gradient descent on two features, and of any algorithm as curves."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from stepfit.formats import number
from stepfit.recording import Recording
from stepfit.steps import Step
from stepfit.viewers.drawable import Floats, array, class_scores
from stepfit.viewers.palette import COLORS
from stepfit.viewers.picture import INK, PAPER, Curve, Picture, add_legend, dots, mixed, plain, sample, set_box
from stepfit.viewers.surface import SURFACES, loss_surface
from stepfit.viewers.voronoi import class_regions, corners


class Curves(Picture):
    """Steps that are no picture of their own: their loss, and up to two more measures, over the run."""

    seconds = 0.1

    def __init__(self, step_or_run: Step | Recording[Any], height: int = 520) -> None:
        super().__init__(step_or_run, height)
        self.curves: list[Curve] = []
        self._lay_out()

    def _lay_out(self) -> None:
        panels = self._measures()[:3]
        width = 1100 // len(panels)
        self._add_curves(panels, [(96 + width * i, 150, width - 110, 310) for i in range(len(panels))])

    def _measures(self) -> list[tuple[str, dict[str, list[float]]]]:
        """List what the steps measure: (title, {name: a number for each step, NaN where it is not known})."""
        measures = {self.steps[0].loss_name: {"train": [step.loss for step in self.steps]}}
        metrics = [getattr(step, "metrics", {}) for step in self.steps]
        for name in sorted({name for named in metrics for name in named} - {"train_loss"}, reverse=True):
            part, _, measured = name.partition("_")
            measures.setdefault(measured or part, {})[part] = [named.get(name, np.nan) for named in metrics]
        gradients = [getattr(step, "gradient", None) for step in self.steps]
        measures["largest partial derivative"] = {"train": [np.nan if g is None else g for g in gradients]}
        known = {
            title: {name: values for name, values in series.items() if not np.isnan(values).all()}
            for title, series in measures.items()
        }
        return [(title, series) for title, series in known.items() if series] or [*measures.items()][:1]

    def _add_curves(self, panels: Any, places: Any) -> None:
        for (title, series), (left, top, width, height) in zip(panels, places):
            axes = self.axes(left, top, width, height, title)
            self.curves.append(Curve(axes, [step.index for step in self.steps], series))

    def frames(self) -> list[tuple[int, str]]:
        """One for each step."""
        return [(position, "") for position in self.thinned()]

    def show(self, position: int, stage: str = "") -> None:
        """Draw the curves up to a step."""
        step = self.steps[position]
        metrics = getattr(step, "metrics", {})
        shares = [f"{name.replace('_', ' ')} {metrics[name]:.1%}" for name in metrics if "accuracy" in name]
        reason = [step.stop.value] if step.stop else []
        self.say(step, stage, ", ".join([f"{step.loss_name.capitalize()} {number(step.loss)}", *shares]), *reason)
        for curve in self.curves:
            curve.show(position)


class ClassRegions(Curves):
    """Gradient descent on two features: the region of each class behind the points, the loss surface, the curves."""

    def __init__(self, step_or_run: Step | Recording[Any], x: Tensor, classes: NDArray[np.int64]) -> None:
        last: Any = step_or_run.last if isinstance(step_or_run, Recording) else step_or_run
        rows = sample(len(x))
        self.points, self.classes = array(x[rows]), classes[rows.numpy()]
        self.count = len(self._scores(last)[0])
        self.threshold: float | None = last.threshold if self.count == 2 and len(last.params["weight"]) == 1 else None
        super().__init__(step_or_run, 800)

    @staticmethod
    def _scores(step: Any) -> tuple[Floats, Floats]:
        scores = class_scores(step, 2)
        assert scores is not None  # or else there would be curves alone
        return scores

    def _lay_out(self) -> None:
        axes = self.axes(54, 140, 720, 616)
        self.box = set_box(axes, self.points, self.points[:0])
        self.halves = PolyCollection([], edgecolors=INK, linewidths=0 if self.threshold is not None else 1.6, zorder=1)
        self.halves.set_facecolor([mixed(COLORS[j % 8], 0.16) for j in range(self.count)])
        axes.add_collection(self.halves, autolim=False)
        size = float(np.clip(150 / np.sqrt(len(self.points)), 3, 7))
        groups = [dots(j, size, label=f"class {j}") for j in range(min(self.count, 8))]
        for j, group in enumerate(groups):
            group.set_data(*self.points[self.classes % 8 == j].T)
            axes.add_line(group)
        self.line = axes.add_line(Line2D([], [], color=INK, lw=2.4, ls="-", marker="", zorder=4, label="decision line"))
        if self.count > 8:
            named = [Line2D([], [], ls="", marker="", label=f"{self.count} classes share 8 colors and shapes")]
        else:
            named = [*groups, self.line] if self.threshold is not None else groups
        self.equation = add_legend(axes, named, (0, 1.012), loc="lower left", ncols=len(named))[-1]
        if not self.run:
            return
        surface = self.threshold is not None and self.run.settings.get("loss") in SURFACES
        if surface:
            self._add_surface(self.run)
        places = [(478, 112), (644, 112)] if surface else [(140, 268), (478, 278)]
        self._add_curves(self._measures()[:2], [(890, top, 280, height) for top, height in places])

    def _add_surface(self, run: Recording[Any]) -> None:
        axes = self.axes(890, 140, 268, 268, "loss over weights 1 (across), 2 (up)")
        w1, w2, loss = loss_surface(run, self.points, self.classes)
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

    def show(self, position: int, stage: str = "") -> None:
        """Draw the regions and the curves of a step."""
        super().show(position, stage)
        step = self.steps[position]
        weight, bias = self._scores(step)
        parts = class_regions(weight, bias, self.box)
        self.halves.set_verts(parts)
        if self.threshold is None:
            return
        line, lengths = parts[0][:0], float(np.hypot(*weight[1]))
        if all(map(len, parts)):  # through the point of the line nearest to the middle, both ways beyond the box
            direction, middle, size = weight[1] / lengths, corners(self.box).mean(0), np.ptp(corners(self.box), axis=0)
            foot = middle + ((self.threshold - bias[1]) / lengths - middle @ direction) * direction
            along = direction[::-1] * (-1, 1) * size.sum()
            line = np.stack([foot - along, foot + along])
        self.line.set_data(*line.T)
        terms = f"{weight[1, 0]:.3g} x₁ {_signed(weight[1, 1])} x₂ {_signed(bias[1])}".replace("-", "−")
        self.equation.set_text(f"decision line: {terms} = {self.threshold:g}")
        if hasattr(self, "trail"):
            self.trail.set_data(*self.path[: position + 1].T)
            self.here.set_data(*self.path[position : position + 1].T)


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'} {abs(value):.3g}"
