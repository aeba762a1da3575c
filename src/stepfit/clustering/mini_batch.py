"""k-means by mini-batches: mini_batches(), learn() and MiniBatchStep. A step looks at a few rows, drawn at random.

D. Sculley, "Web-scale k-means clustering", WWW 2010.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from stepfit import kernels
from stepfit.clustering.lloyd import check_count, mean_variance
from stepfit.clustering.seeding import draw_below, equal_points, first_centers, random_points
from stepfit.kernels.arrays import as_doubles, rounded, squared_moves
from stepfit.kernels.points import Points
from stepfit.steps import Step, Steps, Stop, carried, checked_seed, run

_SAMPLE = 3  # batches whose rows the first centers are chosen from, and clusters, whichever are more
_PER_CLUSTER = 10  # rows for each cluster until small ones are looked for again


@dataclass(frozen=True, eq=False, kw_only=True)
class MiniBatchStep(Step):
    """One mini-batch: its assignment to `centers`, and the update that gives `next_centers`.

    `loss` is the mean squared distance (weighted) of the batch's points to the nearest of `centers`.

    Attributes
    ----------
    epoch : int
        How many times as many rows as there are were drawn before.
    rows : Tensor of shape (b,), int64
        The rows of x in the batch; a row may be drawn twice.
    labels : Tensor of shape (b,), int32
        Index of the nearest center of each.
    centers : Tensor of shape (k, d), float32 or float64
        The centers that the labels belong to.
    seen : Tensor of shape (k,), float64
        The weight of the points that each of `centers` is the mean of.
    next_centers, next_seen : Tensor
        The same after this batch.
    shift : float
        Sum of squared moves of the centers.
    smoothed : float
        A running mean of the losses, in which about n / 2 rows count; the first, which tells of the start, does not.
    """

    kind: ClassVar[str] = "mini_batches"

    epoch: int
    rows: Tensor
    labels: Tensor
    centers: Tensor
    seen: Tensor
    next_centers: Tensor
    next_seen: Tensor
    shift: float
    smoothed: float

    @property
    def counts(self) -> Tensor:
        """How many points of the batch each center has: (k,), int64."""
        return self.labels.long().bincount(minlength=len(self.centers))

    @property
    def facts(self) -> tuple[str, ...]:
        """The epoch, and the loss without its jumps from batch to batch."""
        return (f"smoothed {self.smoothed:,.6g}", f"epoch {self.epoch}")

    def made_on(self, n: int, d: int) -> tuple[int, int]:
        """Return the shape of the x that the step was made from; it has n rows, or more where the batch has."""
        return max(n, int(self.rows.max()) + 1), self.centers.shape[1]


def mini_batches(
    x: Any,
    k: int,
    *,
    start: Any = "k-means++",
    starts: int = 1,
    seed: int | None = None,
    batch_size: int = 1024,
    max_epochs: int = 100,
    tol: float = 0.0,
    max_no_improvement: int | None = 10,
    reassignment_ratio: float = 0.01,
    sample_weight: Any = None,
    kernel: str | None = None,
    resume: MiniBatchStep | None = None,
) -> Steps[MiniBatchStep]:
    """Run k-means on mini-batches and yield each step as soon as it is known.

    A batch's points move their center to the mean of all points that it has seen: the learning rate of a center falls
    as 1 over their number, as Sculley has it. Labels are exact.

    Parameters
    ----------
    x : array-like of shape (n, d), or path of a .npy file
        The points; only the rows of a batch are read for a step, in order.
    k : int
        How many clusters, 1 to n.
    start : {"k-means++", "random", "farthest"}, array of shape (k, d), or callable, default "k-means++"
        The first centers, as in `lloyd`, chosen from a sample of 3 batches, or 3 k rows where that is more.
    starts : int, default 1
        How many starts are tried; the one with the least inertia of the sample is taken.
    seed : int, optional
        Of the start and the batches. None draws one; `.settings["seed"]` of the result says which.
    batch_size : int, default 1024
        Rows of a batch, drawn with replacement; at most n.
    max_epochs : int, default 100
        The run ends when this many times n rows were drawn.
    tol : float, default 0
        The run ends when the squared moves of the centers sum to at most tol times the mean variance of the features.
        0 never ends it.
    max_no_improvement : int or None, default 10
        The run ends when so many steps in a row brought no lower `smoothed` loss. None never ends it.
    reassignment_ratio : float, default 0.01
        A center that has seen less than this part of what the largest one has moves to a random point of the batch.
    sample_weight : array-like of shape (n,), optional
        How much each point counts. A point of weight 0 is never drawn.
    kernel : {"native", "chunked", "reference"}, optional
        Force a kernel; the answer is the same.
    resume : MiniBatchStep, optional
        Go on after this step of an earlier run on the same x with the same options; `start` and `seed` are not used
        then, and `max_epochs` counts the rows that were drawn before, too.

    Returns
    -------
    Steps of MiniBatchStep
        The `next_centers` of the last are the answer.

    Raises
    ------
    TypeError, ValueError
        At the call, when x is no table of finite numbers, k is not from 1 to n, or an option is out of range; when
        `resume` has another k or d, or was kept without its state.

    References
    ----------
    D. Sculley, "Web-scale k-means clustering", WWW 2010.

    Examples
    --------
    >>> from stepfit.clustering.mini_batch import mini_batches
    >>> x = [[0.0], [1.0], [8.0], [9.0]]
    >>> for step in mini_batches(x, 2, start=[[0.0], [9.0]], batch_size=2, max_epochs=2, reassignment_ratio=0, seed=5):
    ...     print(step.index, step.rows.tolist(), step.next_seen.tolist(), step.next_centers.tolist())
    0 [0, 2] [1.0, 1.0] [[0.0], [8.0]]
    1 [0, 3] [2.0, 2.0] [[0.0], [8.5]]
    2 [2, 3] [2.0, 4.0] [[0.0], [8.5]]
    3 [0, 1] [4.0, 4.0] [[0.25], [8.5]]
    """
    points = Points(x, sample_weight)
    check_count(points, k)
    for name, value in (("batch_size", batch_size), ("max_epochs", max_epochs), ("starts", starts)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    if not 0 <= tol < float("inf"):
        raise ValueError(f"tol is {tol}; it must be a finite number, 0 or more")
    if max_no_improvement is not None and max_no_improvement < 1:
        raise ValueError(f"max_no_improvement is {max_no_improvement}; it must be 1 or more, or None")
    if not 0 <= reassignment_ratio <= 1:
        raise ValueError(f"reassignment_ratio is {reassignment_ratio}; it must be from 0 to 1")
    if resume is not None and resume.centers.shape != (k, points.d):
        raise ValueError(f"resume has centers {tuple(resume.centers.shape)}; x and k need ({k}, {points.d})")
    chosen = kernels.choose(kernel, points.device)
    seed = checked_seed(seed) if resume is None else carried(resume)["seed"]
    batch_size = min(batch_size, points.n)
    settings = {
        "algorithm": "mini_batches", "n": points.n, "d": points.d, "k": k,
        "start": start if isinstance(start, str) else "given", "starts": starts, "seed": seed, "batch_size": batch_size,
        "max_epochs": max_epochs, "tol": tol, "max_no_improvement": max_no_improvement,
        "reassignment_ratio": reassignment_ratio, "kernel": chosen,
        "dtype": str(points.x.dtype).removeprefix("torch."),
    }  # fmt: skip
    generator = torch.Generator(device="cpu").manual_seed(seed)
    usable = None if points.weight is None else points.weight.nonzero()[:, 0]
    enough = tol * mean_variance(points, kernels.KERNELS[chosen].assign_and_sum) if tol else -1.0
    fade = min(1.0, 2 * batch_size / (points.n + 1))

    def carry(best: float, waited: int, since: int) -> dict[str, Any]:
        return {"seed": seed, "generator": generator.get_state(), "best": best, "waited": waited, "since": since}

    def after(last: MiniBatchStep) -> MiniBatchStep:
        centers = last.next_centers.to(points.device)
        return step_at(last.index + 1, centers, last.next_seen.to(points.device), last.smoothed, carried(last))

    def step_at(index: int, centers: Tensor, seen: Tensor, smoothed: float, state: Mapping[str, Any]) -> MiniBatchStep:
        began = perf_counter()
        generator.set_state(state["generator"])
        rows = draw_below(points.n if usable is None else len(usable), batch_size, generator).to(points.device)
        rows = (rows if usable is None else usable[rows]).sort().values  # a file is read forwards
        since = state["since"] + batch_size
        looks = due(seen, since)
        ratio = reassignment_ratio if looks else 0.0
        step = learn(points.take(rows), rows, centers, seen, ratio=ratio, generator=generator, kernel=chosen)
        smoothed = (1 - fade) * smoothed + fade * step.loss if index > 1 else step.loss
        best, waited = state["best"], 0
        if index:  # the first loss tells of the start
            best, waited = min(best, smoothed), 0 if smoothed < best else state["waited"] + 1
        stop = None
        if step.shift <= enough:
            stop = Stop.TOLERANCE
        elif max_no_improvement is not None and waited >= max_no_improvement:
            stop = Stop.PLATEAU
        return replace(
            step, index=index, epoch=index * batch_size // points.n, smoothed=smoothed, stop=stop,
            state=carry(best, waited, 0 if looks else since), seconds=perf_counter() - began,
        )  # fmt: skip

    left = max_epochs * points.n // batch_size
    if resume is not None:
        return Steps(run(lambda: after(resume), after, max_steps=max(1, left - resume.index - 1)), settings)
    sample = _sample(points, max(_SAMPLE * batch_size, _SAMPLE * k), generator)
    centers = best_start(sample, k, start, starts, generator, chosen)
    state, nothing = carry(math.inf, 0, 0), torch.zeros(k, dtype=torch.float64, device=points.device)
    return Steps(run(lambda: step_at(0, centers, nothing, 0.0, state), after, max_steps=max(1, left)), settings)


def _sample(points: Points, size: int, generator: torch.Generator) -> Points:
    """Return random rows that count, in order; all where there are no more."""
    usable = points.n if points.weight is None else int((points.weight > 0).sum())
    if size >= usable:
        return points
    rows = torch.tensor(sorted(equal_points(points, size, generator)), device=points.device)
    return points.take(rows)


def best_start(points: Points, k: int, start: Any, starts: int, generator: torch.Generator, kernel: str) -> Tensor:
    """Return of some starts the one with the least inertia, of equals the first."""
    tried = (first_centers(points, k, start, generator, kernel) for _ in range(starts))
    if starts == 1:
        return next(tried)
    assign_and_sum = kernels.KERNELS[kernel].assign_and_sum
    return min(tried, key=lambda centers: assign_and_sum(points, centers).inertia(centers, points.scale))


def due(seen: Tensor, since: int) -> bool:
    """Whether to look for centers that have seen little, `since` rows after the last time."""
    return since >= _PER_CLUSTER * len(seen) or not seen.all()


def learn(
    batch: Points, rows: Tensor, centers: Tensor, seen: Tensor, *, ratio: float, generator: torch.Generator, kernel: str
) -> MiniBatchStep:
    """Make one step: let the points of a batch, which are `rows` of the data, move the centers.

    Centers that have seen less than `ratio` of what the largest one has move to random points of the batch, those that
    have seen least first, at most half as many as it has points. They count as having seen as much as the least of the
    others, so that they are not moved again at once.
    """
    began = perf_counter()
    totals = kernels.KERNELS[kernel].assign_and_sum(batch, centers)
    means, mass, inertia, _ = totals.finish(centers, batch.scale)
    seen_now = seen.cpu().numpy() + mass
    share = np.divide(mass, seen_now, out=np.zeros_like(mass), where=mass > 0)[:, None]
    before = as_doubles(centers)
    following = (1 - share) * before + share * np.where(share > 0, as_doubles(means), 0.0)
    events: tuple[str, ...] = ()
    few = np.flatnonzero(seen_now < ratio * seen_now.max())
    if len(few):
        limit = min(batch.n // 2, batch.n if batch.weight is None else int((batch.weight > 0).sum()))
        few = few[np.argsort(seen_now[few], kind="stable")][:limit]
        chosen = random_points(batch, len(few), generator)
        following[few] = batch.x[torch.tensor(chosen, device=batch.device, dtype=torch.int64)].double().cpu().numpy()
        events = tuple(
            f"cluster {j} had seen {seen_now[j]:g} of at most {seen_now.max():g}; its center moved to point {row}"
            for j, row in zip(few.tolist(), rows[chosen].tolist())
        )
        seen_now[few] = np.delete(seen_now, few).min()
    next_centers = rounded(following, centers)
    loss = inertia / float(mass.sum())
    return MiniBatchStep(
        index=0, loss=loss, seconds=perf_counter() - began, events=events, epoch=0, rows=rows, labels=totals.labels,
        centers=centers, seen=seen, next_centers=next_centers, next_seen=torch.from_numpy(seen_now).to(batch.device),
        shift=squared_moves(centers, next_centers), smoothed=loss,
    )  # fmt: skip
