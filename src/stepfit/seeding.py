"""The first centers of k-means: random points, greedy k-means++, the farthest point, given, or from a callable.

All draws come from one CPU generator, so they are the same on every device and for every number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfit.kernels import KERNELS, choose
from stepfit.points import LARGEST, Points, as_tensor

Start = str | Tensor | Callable[..., Any]

_FEW = 2**14  # points up to which k-means++ looks at all of them for every center
_JUDGES = 2**11
_AT_ONCE = 128  # places drawn
_WHOLE = 2.0**40  # the share of a judge at first; shares are whole numbers, so that their sums are exact


def first_centers(points: Points, k: int, start: Any, generator: torch.Generator, kernel: str | None = None) -> Tensor:
    """Give k centers, (k, d) in the dtype of the centers; `kernel` names the one that measures distances.

    Raises
    ------
    ValueError
        When `start` names nothing known, or does not have the shape (k, d), or is not finite.
    """
    if isinstance(start, str) and start in _NAMED:
        chosen = _NAMED[start](points, k, generator, KERNELS[choose(kernel, points.device)])
        return points.x[torch.tensor(chosen, device=points.device)].to(points.dtype)
    if isinstance(start, str):
        raise ValueError(f"start={start!r} is not known; choose one of {', '.join(_NAMED)}, or give a (k, d) array")
    given = start(points.x, k, generator) if callable(start) else start
    centers = as_tensor(given, "start").to(points.device, points.dtype, copy=True)
    if centers.shape != (k, points.d):
        raise ValueError(
            f"start has shape {tuple(centers.shape)}; with k={k} and d={points.d} it must be ({k}, {points.d})"
        )
    if not (centers.abs() <= LARGEST).all():
        raise ValueError("start has a value that is NaN, infinite or over 2**500; every center must be finite")
    return centers


def random_points(points: Points, k: int, generator: torch.Generator) -> list[int]:
    """Draw k different rows, each set as likely as any other, without permuting n.

    R. W. Floyd in J. Bentley, "Programming Pearls: a sample of brilliance", CACM 30(9), 1987.
    """
    rows = None if points.weight is None else points.weight.nonzero()[:, 0]  # a point of no weight is never chosen
    n = points.n if rows is None else len(rows)
    chosen: dict[int, None] = {}  # a set that keeps its order
    for last in range(n - k, n):
        row = int(draw_below(last + 1, 1, generator))
        chosen[last if row in chosen else row] = None
    return list(chosen) if rows is None else [int(row) for row in rows[list(chosen)]]


def kmeans_plus_plus(points: Points, k: int, generator: torch.Generator, kernel: ModuleType) -> list[int]:
    """Draw each next center with probability proportional to its squared distance from the centers so far.

    Greedy: of 2 + log(k) candidates the one that leaves the least inertia is kept, as in scikit-learn.
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    chosen = random_points(points, 1, generator)
    nearest: Tensor = kernel.distances(points, points.x[chosen])[0]
    more = _judged_by_all if points.n <= _FEW else _judged_by_some
    while len(chosen) < k:
        line = _Line(points, nearest)
        if line.total == 0:  # every point lies on a center; any further one repeats a point
            chosen += random_points(points, 1, generator)
            continue
        rows, nearest = more(points, line, k - len(chosen), 2 + int(log(k)), generator, kernel)
        chosen += rows
    return chosen


class _Line:
    """The points end to end, each as long as its weighted squared distance, so that a place on it draws a point.

    Lengths are integers whose sum fits 63 bits: sums of integers depend on no order.
    """

    def __init__(self, points: Points, nearest: Tensor) -> None:
        self.nearest = nearest
        self.weight = points.weight
        top = float((nearest if points.weight is None else nearest * points.weight).max())
        exponent = int(torch.frexp(torch.tensor(top, dtype=torch.float64, device="cpu")).exponent)
        self.shift = 62 - points.n.bit_length() - exponent
        self.lengths = self.measure(nearest)
        self.ends = self.lengths.cumsum(0)
        self.total = int(self.ends[-1])

    def measure(self, distances: Tensor, rows: Tensor | None = None) -> Tensor:
        """Turn squared distances of all points, (..., n), or of some of them, (..., len(rows)), into lengths."""
        if self.weight is not None:
            distances = distances * (self.weight if rows is None else self.weight[rows])
        half = 2.0 ** (self.shift // 2)  # in two factors: 2^shift alone may overflow
        return (distances * half * 2.0 ** (self.shift - self.shift // 2)).round().long()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw places: which row lies there, (count,), and how far from its beginning."""
        places = draw_below(self.total, count, generator).to(self.ends.device)
        rows = torch.searchsorted(self.ends, places, right=True)
        return rows, places - (self.ends[rows] - self.lengths[rows])

    def draws(self, at_once: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw places without end, some at once."""
        while True:
            rows, places = self.draw(16 * at_once, generator)
            yield from zip(rows.split(at_once), places.split(at_once))


def _judged_by_all(
    points: Points, line: _Line, wanted: int, trials: int, generator: torch.Generator, kernel: ModuleType
) -> tuple[list[int], Tensor]:
    """Choose one center, and give the squared distances that it leaves."""
    rows, _ = line.draw(trials, generator)
    closer = torch.minimum(kernel.distances(points, points.x[rows]), line.nearest)
    best = int(line.measure(closer).sum(1).argmin())
    return [int(rows[best])], closer[best]


def _judged_by_some(
    points: Points, line: _Line, wanted: int, trials: int, generator: torch.Generator, kernel: ModuleType
) -> tuple[list[int], Tensor]:
    """Choose centers for as long as the line is half true, with one pass over the points at the end.

    The line is not measured again for each center. A place is rejected when it lies in the part of its point's length
    that the centers chosen since have taken away; all others are as likely as on the true line, so the draws are exact.

    Candidates are judged by points drawn from the line too. Each stands for an equal part of it, so the mean of the
    shares that their distances keep estimates, without bias, how much of the inertia is left.
    V. Cohen-Addad, S. Lattanzi, A. Norouzi-Fard, C. Sohler and O. Svensson, "Fast and accurate k-means++ via rejection
    sampling", NeurIPS 2020.
    """
    judges, _ = line.draw(_JUDGES, generator)
    seats, near = Points(points.x[judges]), line.nearest[judges]
    worth = _WHOLE / near
    chosen: list[int] = []
    for rows, places in line.draws(min(_AT_ONCE, 2 * trials * wanted), generator):
        if chosen:
            others = kernel.distances(Points(points.x[rows]), points.x[chosen])
            closer = torch.minimum(others.amin(0), line.nearest[rows])
            accepted = places < line.measure(closer, rows)
            if 2 * int(accepted.sum()) < len(rows):
                break
            rows, places = rows[accepted], places[accepted]
        x = points.x[rows]
        closer = torch.minimum(kernel.distances(Points(x), x), line.nearest[rows])
        stays = (places < line.measure(closer, rows)).cpu().numpy()  # [center, place]: whether it is still accepted
        closer = torch.minimum(kernel.distances(seats, x), near)
        gains = (near - closer).mul_(worth).round_().cpu().numpy()  # [center, judge]
        gain = gains.sum(1)
        taken: list[int] = []
        rest = np.arange(len(rows))
        while len(rest) >= trials and len(chosen) + len(taken) < wanted:
            best = rest[gain[rest[:trials]].argmax()]
            rest = rest[trials:]
            rest = rest[stays[best, rest]]
            taken.append(best)
            theirs = gains[best].nonzero()[0]  # the judges that come nearer: a few, so what others gain is brought up
            lost = np.minimum(gains[:, theirs], gains[best, theirs])  # to date there alone
            gains[:, theirs] -= lost
            gain -= lost.sum(1)
        near = torch.minimum(near, closer[taken].amin(0))
        chosen += rows[taken].tolist()
        if len(chosen) >= min(wanted, _JUDGES // 2):  # more choices by the same few would suit them alone
            break
    if len(chosen) == wanted:
        return chosen, line.nearest
    centers = points.x[chosen]
    labels = kernel.assign(points, centers)
    return chosen, torch.minimum(line.nearest, kernel.distances(points, centers, labels))


def farthest_points(points: Points, k: int, generator: torch.Generator, kernel: ModuleType) -> list[int]:
    """Begin with a random point, then take the point farthest from the centers so far; on a tie the lowest row.

    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theor. Comput. Sci. 38, 1985.
    """
    chosen = random_points(points, 1, generator)
    nearest = kernel.distances(points, points.x[chosen])[0]
    while len(chosen) < k:
        reach = nearest if points.weight is None else torch.where(points.weight > 0, nearest, -1.0)
        chosen.append(int(reach.argmax()))
        nearest = torch.minimum(nearest, kernel.distances(points, points.x[chosen[-1:]])[0])
    return chosen


_NAMED: dict[str, Callable[[Points, int, torch.Generator, ModuleType], list[int]]] = {
    "random": lambda points, k, generator, _: random_points(points, k, generator),
    "k-means++": kmeans_plus_plus,
    "farthest": farthest_points,
}


def draw_below(bound: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw integers from 0 .. bound - 1, each as likely as any other, (count,) int64; for bounds below 2^63."""
    bits = bound.bit_length()
    words = -(-bits // 32)
    found = torch.empty(0, dtype=torch.int64, device="cpu")
    while len(found) < count:  # never more at once than are missing: so many draws as one by one, and the same
        drawn = torch.randint(2**32, (count - len(found), words), dtype=torch.int64, generator=generator, device="cpu")
        values = drawn[:, -1] >> (-bits % 32)
        if words == 2:
            values |= drawn[:, 0] << (bits - 32)
        found = torch.cat([found, values[values < bound]])
    return found
