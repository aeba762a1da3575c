"""The first centers of k-means: random points, greedy k-means++, the farthest point, given, or from a callable.

All draws are scalars from one CPU generator, so they are the same on every device and for every number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

import torch
from torch import Tensor

from stepfit.kernels import squared_distance
from stepfit.points import LARGEST, Points, as_tensor

Start = str | Tensor | Callable[..., Any]


def first_centers(points: Points, k: int, start: Any, generator: torch.Generator) -> Tensor:
    """Give k centers, (k, d) in the dtype of the centers.

    Raises
    ------
    ValueError
        When `start` names nothing known, or does not have the shape (k, d), or is not finite.
    """
    if isinstance(start, str) and start in _NAMED:
        chosen = _NAMED[start](points, k, generator)
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
        row = draw_below(last + 1, generator)
        chosen[last if row in chosen else row] = None
    return list(chosen) if rows is None else [int(row) for row in rows[list(chosen)]]


def kmeans_plus_plus(points: Points, k: int, generator: torch.Generator) -> list[int]:
    """Draw each next center with probability proportional to its squared distance from the centers so far.

    Greedy: of 2 + log(k) candidates the one that leaves the least inertia is kept, as in scikit-learn.
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    chosen = random_points(points, 1, generator)
    nearest = _distances(points, chosen)[0]
    trials = 2 + int(log(k))
    while len(chosen) < k:
        prefix = _fixed(points, nearest, nearest).cumsum(0)
        total = int(prefix[-1])
        if total == 0:  # every point lies on a center; any further one repeats a point
            chosen += random_points(points, 1, generator)
            continue
        drawn = torch.tensor([draw_below(total, generator) for _ in range(trials)], device=points.device)
        candidates = torch.searchsorted(prefix, drawn, right=True).tolist()
        closer = torch.minimum(_distances(points, candidates), nearest)
        left = [int(_fixed(points, row, nearest).sum()) for row in closer]
        best = left.index(min(left))
        chosen.append(candidates[best])
        nearest = closer[best]
    return chosen


def farthest_points(points: Points, k: int, generator: torch.Generator) -> list[int]:
    """Begin with a random point, then take the point farthest from the centers so far; on a tie the lowest row.

    T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theor. Comput. Sci. 38, 1985.
    """
    chosen = random_points(points, 1, generator)
    nearest = _distances(points, chosen)[0]
    while len(chosen) < k:
        reach = nearest if points.weight is None else torch.where(points.weight > 0, nearest, -1.0)
        chosen.append(int(reach.argmax()))
        nearest = torch.minimum(nearest, _distances(points, chosen[-1:])[0])
    return chosen


_NAMED: dict[str, Callable[[Points, int, torch.Generator], list[int]]] = {
    "random": random_points,
    "k-means++": kmeans_plus_plus,
    "farthest": farthest_points,
}


def draw_below(bound: int, generator: torch.Generator) -> int:
    """Draw an integer from 0 .. bound - 1, each as likely as any other, for bounds of any size."""
    bits = bound.bit_length()
    while True:
        value = 0
        for _ in range(0, bits, 32):
            value = value << 32 | int(torch.randint(2**32, (), dtype=torch.int64, generator=generator, device="cpu"))
        value >>= -bits % 32
        if value < bound:
            return value


def _distances(points: Points, rows: list[int]) -> Tensor:
    """Squared distances of all points to some of them, (len(rows), n) float64."""
    centers = points.x[torch.tensor(rows, device=points.device)]
    out = torch.empty(len(rows), points.n, dtype=torch.float64, device=points.device)
    for here, block in points.blocks():
        out[:, here] = squared_distance(block[None], centers[:, None])
    return out


def _fixed(points: Points, distances: Tensor, largest: Tensor) -> Tensor:
    """Weighted squared distances as integers whose sum fits 63 bits: sums of integers depend on no order."""
    values = distances if points.weight is None else distances * points.weight
    top = float((largest if points.weight is None else largest * points.weight).max())
    exponent = int(torch.frexp(torch.tensor(top, dtype=torch.float64, device="cpu")).exponent)
    shift = 62 - points.n.bit_length() - exponent
    half = 2.0 ** (shift // 2)  # in two factors: 2^shift alone may overflow
    return (values * half * 2.0 ** (shift - shift // 2)).round().long()
