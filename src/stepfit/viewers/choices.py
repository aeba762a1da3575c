"""Choices: how many clusters, as three curves over k side by side, with a ring where each criterion points."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from stepfit.clustering.choose import ChoiceStep, verdict
from stepfit.formats import counted, number
from stepfit.recording import Recording
from stepfit.viewers.picture import FONT, INK, SOFT, Curve, Picture, plain

_POINTS = {"elbow": "elbow at k =", "silhouette": "highest at k =", "stability": "still high at k ="}
_LEFTS, _TOP, _WIDTH, _HEIGHT = (96, 486, 876), 150, 280, 290


class Choices(Picture):
    """The inertia of each k with the line that its elbow is measured from, the silhouette, the stability."""

    seconds = 0.7

    def __init__(self, run: Recording[ChoiceStep]) -> None:
        super().__init__(run, 520)
        self.verdict = verdict(run)
        ks = [step.k for step in run]
        series = {
            "elbow": ("inertia", [step.inertia for step in run]),
            "silhouette": ("silhouette", [step.silhouette for step in run]),
            "stability": ("stability", [step.stability for step in run]),
        }
        self.curves: list[Curve] = []
        self.rings: list[Line2D] = []
        for left, (criterion, (title, values)) in zip(_LEFTS, series.items()):
            chosen = getattr(self.verdict, criterion)
            axes = self.axes(
                left, _TOP, _WIDTH, _HEIGHT, title + (f": {_POINTS[criterion]} {chosen}" if chosen else "")
            )
            known = np.array(values, dtype=float)  # None becomes NaN
            self.curves.append(Curve(axes, ks, {criterion: known.tolist()}))
            if criterion == "elbow":
                axes.set_yscale("linear")  # where Curve took logarithms the straight line would not be one
                axes.yaxis.set_major_formatter(plain)
                axes.add_line(Line2D([ks[0], ks[-1]], known[[0, -1]], ls=":", marker="", color=SOFT, lw=1.2))
            elif np.isfinite(known).any():  # a small difference must not look like a large one
                axes.set_ylim(min(0.0, 1.1 * np.nanmin(known)), 1.1 * max(0.1, np.nanmax(known)))
            else:
                axes.set_yticks([])
                axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", size=11, color=SOFT, **FONT)
            if chosen:
                look: dict[str, Any] = {"marker": "o", "ms": 16, "mfc": "none", "mec": INK, "mew": 1.8, "zorder": 5}
                ring = axes.add_line(Line2D([chosen], [known[ks.index(chosen)]], ls="", **look))
                self.rings.append(ring)
            below = "k; dotted: the same fall at one rate" if criterion == "elbow" else "k"
            self.text(left + _WIDTH / 2, _TOP + _HEIGHT + 36, below, size=9, color=SOFT, ha="center")

    def frames(self) -> list[tuple[int, str]]:
        """One for each k."""
        return [(position, "") for position in self.thinned()]

    def show(self, position: int, stage: str = "") -> None:
        """Draw the curves up to a k; at the last one, what the criteria say."""
        step: ChoiceStep = self.steps[position]
        done = position == len(self.steps) - 1
        if done:
            self.head(self.verdict.sentences[0], " ".join(self.verdict.sentences[1:2]))
        else:
            runs = f"the best of {counted(len(step.inertias), 'run')} has the inertia {number(step.inertia)}"
            self.head(f"k = {step.k}", f"{position + 1} of {len(self.steps)}: {runs}.")
        for curve in self.curves:
            curve.show(position)
            for _, _, dot in curve.drawn:
                dot.set_visible(not done)
        for ring in self.rings:
            ring.set_visible(done)
