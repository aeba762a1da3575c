"""explain(): what happened in a run, in words and rows. It reads the steps that were kept, and x when it is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch

from stepfit import kernels
from stepfit.clustering.choose import table, verdict
from stepfit.formats import counted, number
from stepfit.kernels.points import Points
from stepfit.steps import Step, Stop

Row = dict[str, Any]
Part = Iterator[tuple[str, list[Row]]]  # a sentence, and the rows that it was made from

NEAR = 0.01  # a point is nearly tied when its two distances differ by less than this part of the larger one
OUT_OF_SCALE = 10.0  # a feature is, when its standard deviation is this many times the median of the others'
_BLOCK_VALUES = 2**20  # values and distances in a block of rows
_MAX_NAMED = 10  # clusters or points named in a sentence; the rows have them all


@dataclass(frozen=True)
class Explanation:
    """What happened in a run; it prints as sentences.

    Attributes
    ----------
    sentences : tuple of str
        In words.
    rows : list of dict
        The same as data, plain values only: `step` (its index), `what`, and what belongs to it, such as `cluster`.
        `pandas.DataFrame(rows)` makes a table of them.
    table : str
        The table of a run of `choose_k`; otherwise empty.
    """

    sentences: tuple[str, ...]
    rows: list[Row]
    table: str = ""

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.table, *self.sentences)))

    def _repr_markdown_(self) -> str:
        shown = f"```text\n{self.table}\n```\n\n" if self.table else ""
        return shown + "\n".join(f"- {sentence}" for sentence in self.sentences)


def explain(run: Sequence[Step], x: Any = None) -> Explanation:
    """Say what happened in a run of any algorithm.

    Every explanation says why the run stopped and what to do about that, how far the loss fell and whether it rose.
    k-means adds clusters that were empty and where their centers went, and centers that coincide. Gradient descent adds
    the learning rate against its limit, and whether the classes are separable. `choose_k` says which k, and why.

    Parameters
    ----------
    run : Recording, or other sequence of steps
        The steps that were kept; when every fifth was, the others are not seen.
    x : array-like of shape (n, d), or path of a .npy file, optional
        The points of the run, which are read in blocks. With them the explanation also names too few distinct points,
        points nearly as near to a second center (within 1% of its distance), and a feature out of scale (it has over
        half of the total variance, and a standard deviation over 10 times the median of the others').

    Returns
    -------
    Explanation
        It prints as sentences; `.rows` has the same as data.

    Raises
    ------
    TypeError
        When run is not a sequence of steps.
    ValueError
        When run is empty, or x is not what it was made from.

    Examples
    --------
    >>> import stepfit
    >>> x = [[0.0], [1.0], [5.0], [7.0]]
    >>> run = stepfit.record(stepfit.lloyd(x, 3, start=[[0.0], [0.0], [6.0]]))
    >>> print(stepfit.explain(run, x))
    The run ended at step 2: nothing changes any more: the run is complete.
    In 3 steps the inertia fell from 3 to 2, by 33.3%.
    Cluster 1 was empty: its center moved to point 1 (at step 0).
    """
    if not isinstance(run, Sequence) or not all(isinstance(step, Step) for step in run):
        raise TypeError(f"run is a {type(run).__name__}; keep the steps first: run = stepfit.record(steps)")
    if not run:
        raise ValueError("run is empty; there is nothing to explain without a step")
    last, points = run[-1], None
    if x is not None:
        points = Points(x)
        check_points(run, points.n, points.d)
    if last.kind == "choice":
        return _choice(run)
    of_steps, of_points = _PARTS.get(last.kind, ((_events,), ()))
    parts = [part(run) for part in (_stopped, _loss, *of_steps)]
    if points is not None:
        parts += [part(run, points) for part in of_points]
    found = [pair for part in parts for pair in part]
    return Explanation(tuple(sentence for sentence, _ in found), [row for _, rows in found for row in rows])


def check_points(run: Step | Sequence[Step], n: int, d: int) -> None:
    """Raise ValueError when x of shape (n, d) is not what a run, or one of its steps, was made from."""
    last: Any = run if isinstance(run, Step) else run[-1]
    settings = getattr(run, "settings", {})
    made_on = last.made_on(settings.get("n", n), settings.get("d", d))
    if (n, d) != made_on:
        raise ValueError(f"x has shape ({n}, {d}), but the run was made from {made_on}; give that x")


def _choice(run: Sequence[Any]) -> Explanation:
    found = verdict(run)
    rows = [
        {
            "step": step.index, "what": "choice", "k": step.k, "inertia": step.inertia, "silhouette": step.silhouette,
            "stability": step.stability, "chosen by": found.criteria(step.k),
        }
        for step in run
    ]  # fmt: skip
    return Explanation(found.sentences, rows, table(run))


def _stopped(run: Sequence[Any]) -> Part:
    last = run[-1]
    reason = last.stop.value if last.stop else "no reason is kept with it: the run went on after it, or was cut"
    sentence = f"The run ended at step {last.index}: {reason}."
    row = {"step": last.index, "what": "stop", "reason": last.stop.name if last.stop else None, "kept": len(run)}
    if last.kind == "kmeans":
        row["changed"] = last.changed
        if last.changed and last.stop is not Stop.CONVERGED:
            sentence += f" In that step {last.changed:,} of {len(last.labels):,} labels still changed."
    yield sentence, [row]


def _loss(run: Sequence[Any]) -> Part:
    name, first, last = run[-1].loss_name, run[0].loss, run[-1].loss
    # Sums that are rounded once may differ in their last bit; a loss that is not a number has risen too.
    rises = [after.index for before, after in pairwise(run) if not after.loss <= before.loss * (1 + 1e-12)]
    kept = counted(len(run), "step")
    if len(run) == 1:
        sentence = f"One step was kept; its {name} is {number(first)}."
    elif last < first:
        sentence = f"In {kept} the {name} fell from {number(first)} to {number(last)}"
        sentence += f", by {(first - last) / first:.1%}." if first > 0 else "."
    else:
        sentence = f"In {kept} the {name} went from {number(first)} to {number(last)}; it did not fall."
    if rises:
        sentence += f" It rose {counted(len(rises), 'time')}, first at step {rises[0]}."
    yield sentence, [{"step": run[-1].index, "what": "loss", "first": first, "last": last, "rises": rises}]


def _events(run: Sequence[Any]) -> Part:
    for step in run:
        for event in step.events:
            yield f"Step {step.index}: {event}.", [{"step": step.index, "what": "event", "event": event}]


# k-means


def _empty(run: Sequence[Any]) -> Part:
    """Which clusters were empty and where their centers went: a step says this in its events."""
    rows: list[Row] = []
    for step in run:
        for event in step.events:
            said = re.fullmatch(r"cluster (\d+) was empty; (.*)", event)
            if said:
                moved = re.search(r"moved to point (\d+)", said[2])
                row = {"step": step.index, "what": "empty cluster", "cluster": int(said[1]), "happened": said[2]}
                rows.append(row | {"point": int(moved[1]) if moved else None})
    clusters = sorted({row["cluster"] for row in rows})
    for j in clusters[:_MAX_NAMED]:
        own = [row for row in rows if row["cluster"] == j]
        times = [(happened, list(same)) for happened, same in groupby(own, key=lambda row: row["happened"])]
        words = [f"{happened} (at {_span([row['step'] for row in same])})" for happened, same in times[:_MAX_NAMED]]
        words += ["and so on"] * (len(times) > _MAX_NAMED)
        yield f"Cluster {j} was empty: {', then '.join(words)}.", own
    if len(clusters) > _MAX_NAMED:
        more = [row for row in rows if row["cluster"] in clusters[_MAX_NAMED:]]
        yield f"{counted(len(clusters) - _MAX_NAMED, 'more cluster')} were empty at some step.", more
    last = run[-1]
    left = (last.mass == 0).nonzero()[:, 0].tolist()
    if left:
        row = {"step": last.index, "what": "empty at the end", "clusters": left}
        yield f"At the end {_numbered('cluster', left)} had no points.", [row]


def _coinciding(run: Sequence[Any]) -> Part:
    last = run[-1]
    lost = last.centers.isnan().any(1)
    if lost.any():
        which = lost.nonzero()[:, 0].tolist()
        row = {"step": last.index, "what": "NaN center", "clusters": which}
        yield (
            f"At the end {_numbered('center', which)} had become NaN, which counts as nearest to all; "
            'run again with empty="farthest".',
            [row],
        )
    known = (~lost).nonzero()[:, 0]
    _, place, counts = torch.unique(last.centers[known], dim=0, return_inverse=True, return_counts=True)
    for group in (counts > 1).nonzero()[:, 0].tolist()[:_MAX_NAMED]:
        which = known[place == group].tolist()
        row = {"step": last.index, "what": "duplicate centers", "clusters": which}
        yield (
            f"At the end {_numbered('center', which)} coincided: on a tie the lowest wins, and the others are empty.",
            [row],
        )


def _too_few(run: Sequence[Any], points: Points) -> Part:
    k = len(run[-1].centers)
    seen = points.x[:0].double()
    for _, block in points.blocks():
        seen = torch.unique(torch.cat([seen, block.double()]), dim=0)
        if len(seen) >= k:
            return
    row = {"step": run[-1].index, "what": "too few distinct points", "distinct": len(seen), "k": k}
    yield (
        f"x has only {counted(len(seen), 'distinct point')}, fewer than k = {k}: the rest are repeats, and "
        f"{counted(k - len(seen), 'cluster')} must stay empty.",
        [row],
    )


def _near_ties(run: Sequence[Any], points: Points) -> Part:
    last = run[-1]
    # Of centers that coincide one is enough: to the others every point is tied.
    centers = torch.unique(last.centers[~last.centers.isnan().any(1)], dim=0)
    if len(centers) < 2:
        return
    all_distances = kernels.KERNELS[kernels.choose(None, points.device)].all_distances
    rows, gaps, exact = [], [], 0
    for here, block in points.blocks(max(1, _BLOCK_VALUES // (points.d + len(centers)))):
        nearest = all_distances(block, centers).topk(2, dim=1, largest=False).values
        exact += int((nearest[:, 0] == nearest[:, 1]).sum())
        near, second = nearest.sqrt().T
        gap = ((second - near) / second).nan_to_num()  # both may be 0: their squares were too small for float64
        tied = (gap <= NEAR).nonzero()[:, 0]
        rows.append(here.start + tied)
        gaps.append(gap[tied])
    tied = torch.cat(rows)[torch.cat(gaps).argsort(stable=True)].tolist()
    if tied:
        row = {"step": last.index, "what": "near ties", "points": tied, "exact": exact}
        sentence = (
            f"{counted(len(tied), 'point')} of {points.n:,} lay nearly as near to a second center (within "
            f"{NEAR:.0%} of its distance), the nearest first: {_some(tied)}."
        )
        yield sentence + (f" Of these {exact:,} exactly, and have the lower label." if exact else ""), [row]


def _out_of_scale(run: Sequence[Any], points: Points) -> Part:
    mean = sum(block.double().sum(0) for _, block in points.blocks()) / points.n
    variance = sum((block.double() - mean).square().sum(0) for _, block in points.blocks()) / points.n
    assert isinstance(variance, torch.Tensor)
    feature = int(variance.argmax())
    others = variance[variance > 0].sort().values[:-1]
    if not len(others):
        return
    share = float(variance[feature] / variance.sum())
    times = float((variance[feature] / others.median()).sqrt())
    if share > 0.5 and times > OUT_OF_SCALE:
        therefore = "it alone decides which center is nearest"
        if run[-1].kind == "descent":
            therefore = "it alone sets the limit of lr, and the others learn slowly"
            if run[-1].lr is None:
                therefore = "the penalty hardly touches its weight, and steps are many"
        deviation = float(variance[feature].sqrt())
        row = {"step": run[-1].index, "what": "out of scale", "feature": feature, "share": share}
        yield (
            f"Feature {feature} is out of scale: its standard deviation, {deviation:.4g}, is {times:.3g} times the "
            f"median of the others', and its variance {share:.1%} of the total, so {therefore}. "
            "Divide each feature by its standard deviation first.",
            [row | {"deviation": deviation, "times": times}],
        )


# Gradient descent


def _learning_rate(run: Sequence[Any]) -> Part:
    last = run[-1]
    row: Row = {"step": last.index, "what": "learning rate", "lr": last.lr, "limit": last.lr_limit}
    if last.lr is None:
        return
    if last.lr_limit is None:
        yield f"lr was {last.lr:.4g}; its limit is not known for this model, loss or optimizer.", [row]
        return
    times = last.lr / last.lr_limit
    if times > 1:
        words = "above it each step overshoots by more than the last, and the loss grows in the end"
    elif times > 0.5:
        words = "in the steepest direction each step overshoots, by less than the last"
    elif times > 0.05:
        words = "no step overshoots"
    else:
        words = "no step overshoots, and a larger one would be faster"
    yield f"lr was {last.lr:.4g}, {times:.3g} times lr_limit = {last.lr_limit:.4g}: {words}.", [row | {"times": times}]


def _gradient(run: Sequence[Any]) -> Part:
    """How large the gradient still was, and whether the classes are separable."""
    last = run[-1]
    if last.gradient is None:
        return
    row = {"step": last.index, "what": "gradient", "gradient": last.gradient, "margin": last.margin}
    yield f"At the end no partial derivative was over {last.gradient:.3g}.", [row]
    if last.margin is not None and last.margin > 0:
        first = next(step.index for step in run if step.margin is not None and step.margin > 0)
        yield (
            f"The classes are separable: since step {first} every row is right, so larger weights always give a lower "
            "loss and there is no optimum; set a penalty (a finite C).",
            [{"step": first, "what": "separable", "margin": last.margin}],
        )


# By the kind of step: what is said of the steps alone, and what with the points.
_PARTS: dict[str, tuple[tuple[Callable[..., Part], ...], tuple[Callable[..., Part], ...]]] = {
    "kmeans": ((_empty, _coinciding), (_too_few, _near_ties, _out_of_scale)),
    "mini_batches": ((_events,), (_out_of_scale,)),
    "descent": ((_events, _learning_rate, _gradient), (_out_of_scale,)),
}


# Words


def _some(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_MAX_NAMED]))
    return shown + (f" and {len(numbers) - _MAX_NAMED:,} more" if len(numbers) > _MAX_NAMED else "")


def _numbered(item: str, numbers: Sequence[int]) -> str:
    return f"{item}{'' if len(numbers) == 1 else 's'} {_some(numbers)}"


def _span(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]}"
    whole = steps[-1] - steps[0] == len(steps) - 1
    return f"steps {steps[0]} to {steps[-1]}" if whole else f"steps {_some(steps)}"
