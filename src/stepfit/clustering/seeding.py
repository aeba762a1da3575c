"""The first centers of k-means: random points, greedy k-means++, the farthest point, given, or from a callable.

All draws come from one CPU generator, so they are the same on every device and for every number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepfit.kernels import KERNELS, choose
from stepfit.kernels.arrays import copied
from stepfit.kernels.double_double import Floats
from stepfit.kernels.points import LARGEST, Points, as_tensor, largest_sizes

Start = str | Tensor | Callable[..., Any]

_MEASURED_EACH_TIME = 2**14  # points up to which k-means++ looks at all of them for every center
_JUDGES = 2**11  # more judge better, and cost more
_MOST_CHOICES = 192  # choices that are made from one measurement, at most: many are faster, but they reject each other
_BLOCK_POINTS = 2**22  # points that are compared with a new center at once: what is found fits a part of memory
_FULL_SHARE = 2.0**40  # share 1 of a judge: shares are whole numbers, so that their sums are exact

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]


def first_centers(points: Points, k: int, start: Any, generator: torch.Generator, kernel: str | None = None) -> Tensor:
    """Return k centers, (k, d) in the dtype of the centers; `kernel` names the one that measures distances.

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
    centers = copied(as_tensor(given, "start").to(points.device, points.dtype))
    if centers.shape != (k, points.d):
        raise ValueError(
            f"start has shape {tuple(centers.shape)}; with k={k} and d={points.d} it must be ({k}, {points.d})"
        )
    if not (largest_sizes(centers) <= LARGEST).all():
        raise ValueError("start has a value that is NaN, infinite or over 2**500; every center must be finite")
    return centers


def random_points(points: Points, k: int, generator: torch.Generator) -> list[int]:
    """Draw k different rows one after the other, each as likely as its weight among those that are left.

    Rows that come again are passed over, which leaves the chances of the others as they should be. When many have come
    again the rows that were chosen leave the line, so that a few heavy ones do not hold up the rest.
    """
    weight = points.weight
    if weight is None or bool((weight[weight > 0] == weight.max()).all()):
        return equal_points(points, k, generator)
    chosen: dict[int, None] = {}  # a set that keeps its order
    left = weight.clone()
    while len(chosen) < k:
        left[list(chosen)] = 0.0
        rows, _ = _Line(left).draw(2 * (k - len(chosen)), generator)
        chosen.update(dict.fromkeys(rows.tolist()))
    return list(chosen)[:k]


def equal_points(points: Points, k: int, generator: torch.Generator) -> list[int]:
    """Draw k different rows of positive weight, each set as likely as any other, without permuting n.

    R. W. Floyd in J. Bentley, "Programming Pearls: a sample of brilliance", CACM 30(9), 1987.
    """
    rows = None if points.weight is None else points.weight.nonzero()[:, 0]
    n = points.n if rows is None else len(rows)
    chosen: dict[int, None] = {}  # a set that keeps its order
    for last, row in zip(range(n - k, n), draw_each_below(range(n - k + 1, n + 1), generator)):
        chosen[last if row in chosen else row] = None
    return list(chosen) if rows is None else [int(row) for row in rows[list(chosen)]]


def kmeans_plus_plus(points: Points, k: int, generator: torch.Generator, kernel: ModuleType) -> list[int]:
    """Draw each next center with probability proportional to its squared distance from the centers so far.

    Greedy: of 2 + log(k) candidates the one that leaves the least inertia is kept, as in scikit-learn. Up to 16,384
    points all are looked at for each center; with more, the inertia is estimated and a few passes are enough.
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    chosen, nearest = _first(points, generator, kernel)
    more = _judged_by_all if points.n <= _MEASURED_EACH_TIME else _judged_by_some
    while len(chosen) < k:
        line = _Line(nearest, points.weight)
        if line.total == 0:  # every point lies on a center; any further one repeats a point
            chosen += random_points(points, 1, generator)
            continue
        rows, nearest = more(points, line, k - len(chosen), 2 + int(log(k)), generator, kernel)
        chosen += rows
    return chosen


def _first(points: Points, generator: torch.Generator, kernel: ModuleType) -> tuple[list[int], Tensor]:
    """Choose a random point, and measure how far all lie from it, squared."""
    chosen = random_points(points, 1, generator)
    labels = torch.zeros(points.n, dtype=torch.int32, device=points.device)
    return chosen, kernel.distances(points, points.x[chosen], labels)


class _Line:
    """The rows end to end, each as long as its size, (n,) float64, so that a place on the line draws a row.

    Lengths are integers whose sum fits 63 bits: sums of integers depend on no order. `weight` is a factor of the sizes.
    """

    def __init__(self, sizes: Tensor, weight: Tensor | None = None) -> None:
        self.sizes, self.weight = sizes, weight
        top = float((sizes if weight is None else sizes * weight).max())
        exponent = int(torch.frexp(torch.tensor(top, dtype=torch.float64, device="cpu")).exponent)
        self.shift = 62 - len(sizes).bit_length() - exponent
        self.lengths = self.measure(sizes)
        self.ends = self.lengths.cumsum(0)
        self.total = int(self.ends[-1])

    def measure(self, sizes: Tensor, rows: Tensor | None = None) -> Tensor:
        """Turn the sizes of all rows, or of `rows`, into lengths."""
        if self.weight is not None:
            sizes = sizes * (self.weight if rows is None else self.weight[rows])
        half = 2.0 ** (self.shift // 2)  # in two factors: 2^shift alone may overflow
        # Not by torch.round, which starts threads for some thousand values: they would spin beside the kernel's.
        return (sizes * half * 2.0 ** (self.shift - self.shift // 2) + 0.5).long()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw places: which row lies there, (count,), and how far from its beginning."""
        places = draw_below(self.total, count, generator).to(self.ends.device)
        rows = torch.searchsorted(self.ends, places, right=True)
        return rows, places - (self.ends[rows] - self.lengths[rows])


def _judged_by_all(
    points: Points, line: _Line, wanted: int, trials: int, generator: torch.Generator, kernel: ModuleType
) -> tuple[list[int], Tensor]:
    """Choose one center, and give the squared distances that it leaves."""
    rows, _ = line.draw(trials, generator)
    near, candidate, distances = kernel.closer(points.x, points.x[rows], line.sizes)
    gain = torch.zeros(trials, dtype=torch.int64, device=points.device)
    best = int(gain.index_add_(0, candidate, line.lengths[near] - line.measure(distances, near)).argmax())
    nearest, its = line.sizes.clone(), candidate == best
    nearest[near[its]] = distances[its]
    return [int(rows[best])], nearest


def _judged_by_some(
    points: Points, line: _Line, wanted: int, trials: int, generator: torch.Generator, kernel: ModuleType
) -> tuple[list[int], Tensor]:
    """Choose centers for as long as half of the line is still true, and then measure all points, in one pass.

    A place is rejected when it lies in the part of its point's length that the centers chosen since have taken away.
    All others are as likely as on the true line, so the draws are exact.
    V. Cohen-Addad, S. Lattanzi, A. Norouzi-Fard, C. Sohler and O. Svensson, "Fast and accurate k-means++ via rejection
    sampling", NeurIPS 2020.

    Candidates are judged by points that were drawn from the line too. Each stands for an equal part of it, so the mean
    share by which they come nearer estimates, without bias, by which share the inertia falls.
    """
    judges, _ = line.draw(_JUDGES, generator)
    seats, now = points.x[judges], line.sizes[judges].cpu().numpy()
    shares = _FULL_SHARE / now
    limit = min(wanted, _JUDGES // 2)  # more choices by the same few would suit them alone
    line_rows, line_places = line.draw(2 * trials * limit, generator)
    centers = torch.empty(limit, points.d, dtype=torch.float64, device=points.device)
    chosen: list[int] = []
    first = 0
    while len(chosen) < limit and first < len(line_rows):
        here = slice(first, first + trials * min(max(2, len(chosen)), _MOST_CHOICES))
        rows, places = line_rows[here], line_places[here]
        drawn, nearest = points.take(rows), line.sizes[rows]
        if chosen:
            nearest = _nearer(drawn, centers[: len(chosen)], nearest, kernel)
        accepted = (places < line.measure(nearest, rows)).nonzero()[:, 0]
        if len(accepted) < max(trials, len(rows) // 2):
            break
        drawn, rows, places, nearest = drawn.take(accepted), rows[accepted], places[accepted], nearest[accepted]
        place, candidate, distances = kernel.closer(drawn.x, drawn.x, nearest)
        gone = (places[place] >= line.measure(distances, rows[place])).nonzero()[:, 0]
        stays = np.ones((len(rows), len(rows)), bool)  # [candidate, place]: would be accepted if that were a center
        stays[candidate[gone].cpu().numpy(), place[gone].cpu().numpy()] = False
        nearer = kernel.closer(seats, drawn.x, torch.from_numpy(now).to(points.device))
        taken, rest = _best_candidates(nearer, stays, now, shares, trials, limit - len(chosen))
        new = torch.tensor(taken, device=points.device)
        centers[len(chosen) : len(chosen) + len(taken)] = drawn.take(new).x
        chosen += rows[new].tolist()
        first = first + int(accepted[rest[0]]) if len(rest) else here.stop
    if len(chosen) == wanted:
        return chosen, line.sizes
    return chosen, _nearer(points, centers[: len(chosen)], line.sizes, kernel)


def _best_candidates(
    nearer: tuple[Tensor, Tensor, Tensor], stays: Flags, now: Floats, shares: Floats, trials: int, limit: int
) -> tuple[list[int], Integers]:
    """Take, of each few candidates, the one by which the judges gain most; and say which candidates are left.

    `nearer` pairs judges and candidates; `now` (judges,), how far they are from the centers, falls with each that is
    taken. `stays` (candidates, candidates) tells which would still be there if that were a center.
    """
    judge, candidate, distances = (values.cpu().numpy() for values in nearer)
    order = candidate.astype(np.int16).argsort(kind="stable")  # of so few bits in linear time
    judge, candidate, distances = judge[order], candidate[order], distances[order]
    begins = candidate.searchsorted(np.arange(len(stays) + 1)).tolist()
    taken: list[int] = []
    rest = np.arange(len(stays))
    while len(rest) >= trials and len(taken) < limit:
        first, last = rest[0], rest[trials - 1]
        pairs = slice(begins[first], begins[last + 1])  # of some between them too, which do no harm
        theirs = judge[pairs]
        gain = (np.maximum(now[theirs] - distances[pairs], 0) * shares[theirs]).round()
        gains = np.bincount(candidate[pairs] - first, gain, last - first + 1)
        best = int(rest[gains[rest[:trials] - first].argmax()])
        pairs = slice(begins[best], begins[best + 1])
        now[judge[pairs]] = np.minimum(now[judge[pairs]], distances[pairs])
        taken.append(best)
        rest = rest[trials:]
        rest = rest[stays[best][rest]]
    return taken, rest


def _nearer(points: Points, centers: Tensor, nearest: Tensor, kernel: ModuleType) -> Tensor:
    """Return the squared distances to the nearest center, where `nearest` does not know of these yet."""
    labels = kernel.assign(points, centers)
    return torch.minimum(nearest, kernel.distances(points, centers, labels))


def farthest_points(points: Points, k: int, generator: torch.Generator, kernel: ModuleType) -> list[int]:
    """Begin with a random point, then take the point farthest from the centers so far; on a tie the lowest row.

    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theor. Comput. Sci. 38, 1985.
    """
    chosen, nearest = _first(points, generator, kernel)
    while len(chosen) < k:
        reach = nearest if points.weight is None else torch.where(points.weight > 0, nearest, -1.0)
        chosen.append(int(reach.argmax()))
        for here, block in points.blocks(_BLOCK_POINTS):
            rows, _, distances = kernel.closer(block, points.x[chosen[-1:]], nearest[here])
            nearest[here][rows] = distances
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


def draw_each_below(bounds: Sequence[int], generator: torch.Generator) -> list[int]:
    """Draw an integer below each bound; the same as `draw_below` one by one."""
    found: list[int] = []

    def words() -> Iterator[int]:
        while True:  # never more at once than are missing, as there
            missing = len(bounds) - len(found)
            yield from torch.randint(2**32, (missing,), dtype=torch.int64, generator=generator, device="cpu").tolist()

    word = words()
    for bound in bounds:
        bits = bound.bit_length()
        value = bound
        while value >= bound:
            value = (next(word) if bits <= 32 else next(word) << 32 | next(word)) >> -bits % 32
        found.append(value)
    return found
