"""k-means by Lloyd's algorithm: lloyd(), assign() and KMeansStep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from stepfit import kernels
from stepfit.clustering.seeding import first_centers
from stepfit.groups import Group
from stepfit.kernels import fixed
from stepfit.kernels.arrays import rounded, squared_moves
from stepfit.kernels.double_double import Floats
from stepfit.kernels.points import Points, as_tensor
from stepfit.steps import Step, Steps, Stop, checked_seed, run

EMPTY_RULES = ("farthest", "keep", "nan")


@dataclass(frozen=True, eq=False, kw_only=True)
class KMeansStep(Step):
    """One pass over the data: the assignment to `centers`, and the update that gives `next_centers`.

    `labels`, `counts`, `mass`, `centers` and `inertia` belong together, so the last step of a run is the answer
    and nothing has to be computed again.

    Attributes
    ----------
    centers : Tensor of shape (k, d), float32 or float64
        The centers that the labels belong to.
    labels : Tensor of shape (n,), int32
        Index of each point's nearest center; on a tie, the lowest.
    counts : Tensor of shape (k,), int64
        Points per center.
    mass : Tensor of shape (k,), float64
        Sum of sample weights per center; equals `counts` without weights.
    changed : int
        Labels that differ from the step before; n in the first.
    next_centers : Tensor of shape (k, d)
        The means of the points of each center.
    shift : float
        Sum of squared moves of the centers.
    """

    kind: ClassVar[str] = "kmeans"
    loss_name: ClassVar[str] = "inertia"
    rows: ClassVar[slice] = slice(None)  # the labels are those of all rows

    centers: Tensor
    labels: Tensor
    counts: Tensor
    mass: Tensor
    changed: int
    next_centers: Tensor
    shift: float

    @property
    def inertia(self) -> float:
        """Sum of squared distances of the points to their centers: the loss of k-means."""
        return self.loss

    @property
    def facts(self) -> tuple[str, ...]:
        """How many labels changed."""
        return (f"{self.changed:,} changed",)

    def made_on(self, n: int, d: int) -> tuple[int, int]:
        """Return the shape of the x that the step was made from."""
        return len(self.labels), self.centers.shape[1]


def lloyd(
    x: Any,
    k: int,
    *,
    start: Any = "k-means++",
    seed: int | None = None,
    max_steps: int = 300,
    tol: float = 0.0,
    empty: str = "farthest",
    sample_weight: Any = None,
    kernel: str | None = None,
    group: Group | None = None,
    resume: KMeansStep | None = None,
) -> Steps[KMeansStep]:
    """Run k-means and yield each step as soon as it is known.

    Each step assigns every point to its nearest center and then moves each center (centroid, to some) to the mean of
    its points. Labels are exact in float64 and sums are exact integers, so the steps are the same, bit for bit, for
    every kernel and any number of threads.

    Parameters
    ----------
    x : array-like of shape (n, d), or path of a .npy file
        The points: numpy or torch, float16 to float64, bfloat16 or integers. A path is memory-mapped.
    k : int
        How many clusters, 1 to n.
    start : {"k-means++", "random", "farthest"}, array of shape (k, d), or callable, default "k-means++"
        The first centers. A callable gets (x, k, generator) and gives an array (k, d).
    seed : int, optional
        Of the start. None draws one; `.settings["seed"]` of the result says which.
    max_steps : int, default 300
        The most steps to yield.
    tol : float, default 0
        Relative to the mean variance of the features, as in scikit-learn: when the squared moves of the centers sum to
        at most tol times it, one more step is yielded, with stop TOLERANCE. 0 stops only when no label changes.
    empty : {"farthest", "keep", "nan"}, default "farthest"
        What becomes of the center of a cluster without points: it moves to the point farthest from its own center,
        or stays, or becomes NaN (what plain code that divides 0 by 0 does).
    sample_weight : array-like of shape (n,), optional
        How much each point counts.
    kernel : {"native", "chunked", "reference"}, optional
        Force a kernel; the answer is the same.
    group : Group, optional
        The processes that share the run.
    resume : KMeansStep, optional
        Go on after this step of an earlier run on the same x; `start` is not used then.

    Returns
    -------
    Steps of KMeansStep
        An iterator. The last step says in `stop` why it is the last.

    Raises
    ------
    TypeError, ValueError
        At the call, when x is no table of finite numbers, k is not from 1 to n, the start does not fit, or an option is
        out of range; when `resume` has another number of labels or centers.

    References
    ----------
    S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982.

    Examples
    --------
    >>> import stepfit
    >>> for step in stepfit.lloyd([[0.0], [1.0], [5.0], [7.0]], 2, start=[[0.0], [1.0]]):
    ...     print(step.index, step.inertia, step.labels.tolist(), step.next_centers.tolist())
    0 52.0 [0, 1, 1, 1] [[0.0], [4.333333333333333]]
    1 8.555555555555557 [0, 0, 1, 1] [[0.5], [6.0]]
    2 2.5 [0, 0, 1, 1] [[0.5], [6.0]]
    """
    points = Points(x, sample_weight, group)
    check_count(points, k)
    if max_steps < 1:
        raise ValueError(f"max_steps is {max_steps}; at least 1 step is needed")
    if not 0 <= tol < float("inf"):
        raise ValueError(f"tol is {tol}; it must be a finite number, 0 or more")
    if empty not in EMPTY_RULES:
        raise ValueError(f"empty={empty!r} is not known; choose one of {', '.join(EMPTY_RULES)}")
    if resume is not None and (resume.centers.shape != (k, points.d) or resume.labels.shape != (points.n,)):
        raise ValueError(
            f"resume has {len(resume.labels)} labels and centers {tuple(resume.centers.shape)}; "
            f"x and k need {points.n} labels and centers ({k}, {points.d})"
        )
    chosen = kernels.choose(kernel, points.device)
    seed = checked_seed(seed)
    settings = {
        "algorithm": "lloyd", "n": points.n, "d": points.d, "k": k,
        "start": start if isinstance(start, str) else "given", "seed": seed, "max_steps": max_steps, "tol": tol,
        "empty": empty, "kernel": chosen, "dtype": str(points.x.dtype).removeprefix("torch."),
    }  # fmt: skip
    if resume is None:
        generator = torch.Generator(device="cpu").manual_seed(seed)
        centers = first_centers(points, k, start, generator, chosen)
    else:
        centers = resume.next_centers.to(points.device, points.dtype)
    return Steps(_lloyd(points, centers, chosen, empty, tol, max_steps, resume), settings)


def assign(x: Any, centers: Any, *, kernel: str | None = None) -> Tensor:
    """Label new points with their nearest centers, as a step of `lloyd` does.

    Parameters
    ----------
    x : array-like of shape (n, d), or path of a .npy file
        The points.
    centers : array-like of shape (k, d)
        The centers; on a tie the lowest index wins.
    kernel : {"native", "chunked", "reference"}, optional
        Force a kernel; the answer is the same.

    Returns
    -------
    Tensor of shape (n,), int32
        On the device of x.

    Examples
    --------
    >>> import stepfit
    >>> stepfit.assign([[0.0], [2.0], [9.0]], [[1.0], [8.0]]).tolist()
    [0, 0, 1]
    """
    points = Points(x)
    given = as_tensor(centers, "centers").to(points.device)
    if given.ndim != 2 or given.shape[1] != points.d or not len(given):
        raise ValueError(
            f"centers has shape {tuple(given.shape)}; x has {points.d} features, so it must be (k, {points.d})"
        )
    labels: Tensor = kernels.KERNELS[kernels.choose(kernel, points.device)].assign(points, given)
    return labels


def check_count(points: Points, k: int) -> None:
    """Refuse a k that is no whole number, or more than the points that count."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k is {k!r}; it must be a whole number of clusters")
    usable = points.n if points.weight is None else int((points.weight > 0).sum())
    if not 1 <= k <= usable:
        which = "points" if usable == points.n else "points of positive weight"
        raise ValueError(f"k is {k}, but x has {usable} {which}; k must be from 1 to {usable}")


def _lloyd(
    points: Points, centers: Tensor, kernel: str, empty: str, tol: float, max_steps: int, resume: KMeansStep | None
) -> Iterator[KMeansStep]:
    module = kernels.KERNELS[kernel]
    workspace = module.Workspace(points, len(centers))  # of this process alone
    enough = tol * mean_variance(points, module.assign_and_sum) if tol else -1.0  # no shift is under -1

    def step_at(index: int, centers: Tensor, before: KMeansStep | None) -> KMeansStep:
        began = perf_counter()
        totals = module.assign_and_sum(points, centers, workspace)
        if before is not None and before is resume:
            totals = replace(totals, changed=int((totals.labels != before.labels).sum()))
        whole = totals.over(points.group)
        next_centers, mass, inertia, shift = whole.finish(centers, points.scale)
        events: tuple[str, ...] = ()
        relocated = False
        if np.count_nonzero(mass) < len(mass):
            # Where the inertia is 0 nothing can be gained, and rounding could move centers to and fro for ever.
            rule = "keep" if empty == "farthest" and inertia == 0 else empty
            next_centers, events, relocated = _without_mass(points, centers, whole, next_centers, mass, rule, module)
            shift = squared_moves(centers, next_centers)
        # A center may have moved to where it was, beside another that keeps its only point.
        if whole.changed == 0 and (not relocated or torch.equal(next_centers, centers)):
            stop = Stop.CONVERGED
        elif before is not None and before.shift <= enough:
            stop = Stop.TOLERANCE
        else:
            stop = None
        return KMeansStep(
            index=index, loss=inertia, centers=centers, labels=whole.labels, counts=whole.counts,
            mass=torch.from_numpy(mass).to(points.device), changed=whole.changed, next_centers=next_centers,
            shift=shift, events=events, stop=stop, seconds=perf_counter() - began,
        )  # fmt: skip

    return run(
        lambda: step_at(resume.index + 1 if resume else 0, centers, resume),
        lambda last: step_at(last.index + 1, last.next_centers, last),
        max_steps=max_steps,
    )


def _without_mass(
    points: Points,
    centers: Tensor,
    totals: fixed.Totals,
    following: Tensor,
    mass: Floats,
    empty: str,
    kernel: ModuleType,
) -> tuple[Tensor, tuple[str, ...], bool]:
    """Return the next centers by the rule for empty clusters, what happened in words, and whether a center moved."""
    empties = torch.from_numpy(np.flatnonzero(mass == 0)).to(points.device)
    if empty == "nan":
        return following, tuple(f"cluster {j} was empty; its center became NaN" for j in empties.tolist()), False
    rows = _farthest(points, centers, totals.labels, len(empties), kernel) if empty == "farthest" else empties[:0]
    if len(rows):
        weight = None if points.weight is None else points.weight[rows]
        donors = totals.labels[rows]
        totals = totals.copy(totals.labels)  # the step's own counts belong to its labels, before the move
        totals.add(points.x[rows], weight, points.scale, to=empties, out_of=donors)
        following = rounded(totals.means(points.scale), centers)
        what = [f"its center moved to point {row}" for row in rows.tolist()]
    else:
        what = ["its center stays"] * len(empties)
    events = tuple(f"cluster {j} was empty; {happened}" for j, happened in zip(empties.tolist(), what))
    # A donor may have given its only point: it keeps its center, as under "keep".
    return torch.where(following.isnan(), centers, following), events, bool(len(rows))


def _farthest(points: Points, centers: Tensor, labels: Tensor, count: int, kernel: ModuleType) -> Tensor:
    """Rows farthest from their own centers, on a tie the lowest first; none when all lie on their centers."""
    distances: Tensor = kernel.distances(points, centers, labels)
    if points.weight is not None:
        distances[points.weight == 0] = -1.0
    distances, rows = distances.sort(descending=True, stable=True)
    return rows[:count] if distances[0] > 0 else rows[:0]


def mean_variance(points: Points, assign_and_sum: Callable[..., fixed.Totals]) -> float:
    """Mean over the features of their variance, without weights: what scikit-learn's tol is relative to."""
    plain = Points(points.x, group=points.group)
    zero = torch.zeros(1, points.d, dtype=points.dtype, device=points.device)
    totals = assign_and_sum(plain, zero).over(points.group)
    mean = torch.from_numpy(totals.means(plain.scale))
    return totals.inertia(mean, plain.scale) / (int(totals.counts) * points.d)
