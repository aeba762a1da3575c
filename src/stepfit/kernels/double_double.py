"""Double-double arithmetic: pairs of float64, elementwise. Only + - * of numpy, so that every machine agrees.

T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18, 1971.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Number = TypeVar("Number", Tensor, Floats, float)
Double = tuple[Floats, Floats]  # an unevaluated sum high + low, with |low| at most half a unit of high's last place


def two_sum(a: Number, b: Number) -> tuple[Number, Number]:
    """Return a + b, rounded, and what rounding lost."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a: Number, b: Number) -> tuple[Number, Number]:
    """Return a * b, rounded, and what rounding lost."""
    p = a * b
    ah, al = _halves(a)
    bh, bl = _halves(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _halves(a: Number) -> tuple[Number, Number]:
    t = a * 134217729.0  # 2^27 + 1: Veltkamp's splitter
    high = t - (t - a)
    return high, a - high


def add(a: tuple[Number, Number], b: tuple[Number, Number]) -> tuple[Number, Number]:
    """Return the sum of two pairs."""
    s, e = two_sum(a[0], b[0])
    t, f = two_sum(a[1], b[1])
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


def times(a: Double, b: Floats) -> Double:
    """Return the product of a pair and a number."""
    p, e = two_product(a[0], b)
    return two_sum(p, e + a[1] * b)


def total(a: Double) -> Double:
    """Sum along the last axis by halves: a fixed order, and few numpy calls."""
    while (count := a[0].shape[-1]) > 1:
        half = count // 2
        halves = add((a[0][..., :half], a[1][..., :half]), (a[0][..., half : 2 * half], a[1][..., half : 2 * half]))
        if count % 2:
            halves = tuple(np.concatenate([t, p[..., -1:]], -1) for t, p in zip(halves, a))  # type: ignore[assignment]
        a = halves
    return a[0][..., 0], a[1][..., 0]
