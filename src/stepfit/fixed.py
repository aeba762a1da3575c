"""Fixed-point sums: values to integers, integers added in any order, and back to centers and inertia.

Integers make every sum exact, so that threads, processes, kernels and the order of rows cannot change a bit, and a row
that joins or leaves a cluster leaves no drift. One definition for all kernels:

- Feature t has an exponent e, the least with 2^e above the largest |w x_t|. The value w x_t enters as the integer
  nearest (half to even) to w x_t 2^(80-e). Without weights it is a float64, so this is exact down to 2^-28 of the
  largest; with weights the product is taken as high + low (Dekker's two-product) and each part enters.
- w x_t^2 enters as the integer nearest to w x_t^2 2^(96-E), one E for all features: the parts of the two-product of
  (w x_t) and x_t. 96 bits and not 80, so that two points at 1e9 leave the inertia of points near 1 right to 1e-9.
- A weight enters as the integer nearest to w 2^(80-e).

A sum is kept as limbs of 27 bits in int64, lowest first: room for 2^36 additions before a carry.
T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18, 1971.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepfit.groups import Group

WIDE = (torch.float64, torch.int32, torch.int64)  # types that float32 cannot hold

LIMB = 27
BITS, LIMBS = 80, 3
SQUARE_BITS, SQUARE_LIMBS = 96, 4

Floats = NDArray[np.float64]
Number = TypeVar("Number", Tensor, Floats)
Double = tuple[Floats, Floats]  # an unevaluated sum high + low, with |low| at most half a unit of high's last place


@dataclass(frozen=True, eq=False)
class Scale:
    """The powers of two under which the values of a run become integers."""

    x: Tensor  # (d,) int64: 2^x[t] is above every |x_t| that has weight
    product: Tensor  # (d,) int64: 2^product[t] is above every |w x_t|
    weight: int  # 2^weight is above every w; 1 without weights counts as 2^0

    @classmethod
    def of(cls, blocks: Iterator[tuple[Tensor, Tensor | None]], d: int, device: torch.device, group: Group) -> Scale:
        """Look at all rows of all processes once."""
        largest = torch.zeros(3, d, dtype=torch.float64, device=device)
        for block, weight in blocks:
            size = block.double().abs()
            if weight is not None:
                size = torch.where(weight[:, None] > 0, size, 0.0)
                largest[1] = torch.maximum(largest[1], (size * weight[:, None]).amax(0))
                largest[2] = torch.maximum(largest[2], weight.max())
            largest[0] = torch.maximum(largest[0], size.amax(0))
        largest = group.all_max(largest).cpu()
        # Below 2^-500 a square is 0 in float64; the limit keeps every power of two used here finite.
        x = torch.frexp(largest[0]).exponent.long().clamp(min=-500)
        if not largest[2].any():
            return cls(x, x, 0)
        weight_exponent = int(torch.frexp(largest[2, 0]).exponent)
        product = torch.frexp(largest[1]).exponent.long()
        return cls(x, torch.maximum(product, x + weight_exponent - 500), weight_exponent)

    @property
    def square(self) -> int:
        """2^square is above every w x_t^2."""
        return int(self.x.max()) + int(self.product.max())


def parts(block: Tensor, weight: Tensor | None, scale: Scale) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Give the integers of some rows, as float64: those of w x_t and of w x_t^2, both (rows, d), and of w, (rows,).

    Each list holds the parts of one value, to be added up.
    """
    x = block.double()
    widest = int(scale.x.max())
    near_one = x * 2.0**-widest  # exact, and its square cannot overflow
    if weight is None:
        square, rest = _two_product(near_one, near_one)
        # Of all types but the wide ones the 24 bits of x, squared, fit: nothing is left over.
        squares = [square, rest] if block.dtype in WIDE else [square]
        sums = [(x * _powers(BITS - scale.x, x.device)).round_()]
        return sums, [(part * 2.0**SQUARE_BITS).round_() for part in squares], []
    w = weight[:, None] * 2.0**-scale.weight
    high, low = _two_product(x * _powers(-scale.x, x.device), w)
    up = _powers(BITS + scale.weight + scale.x - scale.product, x.device)
    wide_high, wide_low = _two_product(near_one, w)
    square, rest = _two_product(wide_high, near_one)
    up_square = 2.0 ** (SQUARE_BITS + scale.weight + widest - int(scale.product.max()))
    squares = [(part * up_square).round_() for part in (square, rest, wide_low * near_one)]
    return [(high * up).round_(), (low * up).round_()], squares, [(w[:, 0] * 2.0**BITS).round_()]


@dataclass(frozen=True, eq=False)
class Integers:
    """Some rows as limbs, ready to be added."""

    sums: Tensor  # (3, rows, d)
    squares: Tensor  # (4, rows)
    masses: Tensor | None  # (3, rows)

    @classmethod
    def of(cls, block: Tensor, weight: Tensor | None, scale: Scale) -> Integers:
        """Turn rows (rows, d) and their weights (rows,) into integers."""
        sums, squares, masses = parts(block, weight, scale)
        return cls(
            torch.stack([split(part, LIMBS) for part in sums]).sum(0),
            torch.stack([split(part, SQUARE_LIMBS).sum(-1) for part in squares]).sum(0),
            split(masses[0], LIMBS) if masses else None,
        )


def split(integers: Tensor, limbs: int) -> Tensor:
    """Cut integer-valued float64 into limbs, int64 (limbs, *shape); towards zero, so that no low bit is lost."""
    out = torch.empty(limbs, *integers.shape, dtype=torch.int64, device=integers.device)
    rest = integers
    for i in range(limbs - 1, 0, -1):
        high = (rest * 2.0 ** (-LIMB * i)).trunc_()
        out[i] = high
        rest = rest - high * 2.0 ** (LIMB * i)
    out[0] = rest
    return out


def carry(sums: Tensor) -> Tensor:
    """Bring every limb but the highest into 0 .. 2^27 - 1, in place: one form for one value."""
    for i in range(len(sums) - 1):
        over = sums[i] >> LIMB
        sums[i] -= over << LIMB
        sums[i + 1] += over
    return sums


@dataclass(eq=False)
class Totals:
    """What an assignment adds up to; the sums are integers, as limbs."""

    labels: Tensor  # (n,) int32
    counts: Tensor  # (k,) int64
    sums: Tensor  # (3, k, d) int64
    squares: Tensor  # (4, k) int64
    masses: Tensor | None  # (3, k) int64; None without weights
    changed: int  # labels that differ from the assignment before; n in the first

    @classmethod
    def zeros(cls, labels: Tensor, k: int, d: int, *, weighted: bool) -> Totals:
        """Begin to add."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.int64, device=labels.device)

        masses = zeros(LIMBS, k) if weighted else None
        return cls(labels, zeros(k), zeros(LIMBS, k, d), zeros(SQUARE_LIMBS, k), masses, len(labels))

    def copy(self, labels: Tensor) -> Totals:
        """Begin from the sums of the step before; `labels` are the new ones."""
        masses = None if self.masses is None else self.masses.clone()
        return Totals(labels, self.counts.clone(), self.sums.clone(), self.squares.clone(), masses, 0)

    def add(self, integers: Integers, labels: Tensor, sign: int = 1) -> None:
        """Let rows join the centers `labels` (rows,), or leave them where sign is -1."""
        label = labels.long()
        self.counts.scatter_add_(0, label, torch.full_like(label, sign))
        for sums, rows in (
            (self.sums, integers.sums),
            (self.squares, integers.squares),
            (self.masses, integers.masses),
        ):
            if sums is not None and rows is not None:
                index = label.view(1, -1, *[1] * (rows.ndim - 2)).expand(rows.shape)
                sums.scatter_add_(1, index, rows * sign)
                carry(sums)

    def over(self, group: Group) -> Totals:
        """Add the totals of all processes."""
        masses = None if self.masses is None else group.all_sum(self.masses)
        changed = int(group.all_sum(torch.tensor(self.changed, device="cpu")))
        return replace(
            self,
            counts=group.all_sum(self.counts),
            sums=group.all_sum(self.sums),
            squares=group.all_sum(self.squares),
            masses=masses,
            changed=changed,
        )

    def mass(self, scale: Scale) -> Floats:
        """Sum of weights per center, (k,) float64."""
        if self.masses is None:
            return self.counts.cpu().numpy().astype(np.float64)
        return np.asarray(np.ldexp(_double(self.masses)[0], scale.weight - BITS))

    def means(self, scale: Scale) -> Floats:
        """Means per center, (k, d) float64; NaN where there is no mass."""
        total = np.ldexp(_double(self.sums)[0], (scale.product - BITS).numpy())
        with np.errstate(invalid="ignore", divide="ignore"):
            means = total / self.mass(scale)[:, None]
        means[self.mass(scale) == 0] = np.nan
        return np.asarray(means)

    def inertia(self, centers: Tensor, scale: Scale) -> float:
        """Sum of w |x - c|^2 from the integers alone: q - 2 c.S + m |c|^2 for each center, in double-double.

        The three terms cancel; what is left below the resolution of the integers is 0.
        """
        held = (self.counts > 0).cpu().numpy() & (self.mass(scale) > 0)
        c = centers.double().cpu().numpy()[held]
        if not held.any() or np.isnan(c).any():
            return float("nan") if held.any() else 0.0
        product = int(scale.product.max())
        unit = max(int(scale.x.max()), int(np.frexp(np.abs(c))[1].max()))  # all of c and x are under 2^unit
        c = np.ldexp(c, -unit)
        sums = _ldexp(_double(self.sums[:, held]), (scale.product - product - BITS).numpy())
        q = _ldexp(_double(self.squares[:, held]), scale.square - SQUARE_BITS - product - unit)
        if self.masses is None:
            m = self.counts.cpu().numpy().astype(np.float64)[held], np.zeros(len(c))
        else:
            m = _ldexp(_double(self.masses[:, held]), scale.weight - BITS)
        m = _ldexp(m, unit - product)
        cross = _sum(_times(sums, -2 * c))
        norms = _sum(_two_product(c, c))
        per_center = _add(_add(q, cross), _multiply(m, norms))
        n_values = float(self.counts.sum()) * c.shape[1]
        noise = n_values * 2.0 ** (scale.square - SQUARE_BITS - product - unit) + (q[0] + m[0] * norms[0]) * 2.0**-98
        kept = np.where(per_center[0] > noise, per_center, 0.0)
        total = _sum((kept[0], kept[1]))[0]
        with np.errstate(over="ignore"):
            return float(np.ldexp(total, product + unit))


def sum_of_squares(values: Tensor) -> float:
    """Sum of squares in an order that no thread count can change."""
    flat = values.double().cpu().numpy().ravel()
    with np.errstate(all="ignore"):
        return float(_sum((flat * flat, np.zeros_like(flat)))[0])


# Double-double arithmetic: pairs of float64, elementwise. Only + - * of numpy, so that every machine agrees.


def _double(limbs: Tensor) -> Double:
    spare = torch.zeros_like(limbs[:1])  # takes the carry of the highest limb, so that every limb is exact in float64
    exact = carry(torch.cat([limbs, spare])).cpu().numpy().astype(np.float64)
    total: Double = (np.zeros(exact.shape[1:]), np.zeros(exact.shape[1:]))
    for i in range(len(exact) - 1, -1, -1):
        total = _add(total, (exact[i] * 2.0 ** (LIMB * i), np.zeros(exact.shape[1:])))
    return total


def _two_sum(a: Floats, b: Floats) -> Double:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _two_product(a: Number, b: Number) -> tuple[Number, Number]:
    p = a * b
    ah, al = _halves(a)
    bh, bl = _halves(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _halves(a: Number) -> tuple[Number, Number]:
    t = a * 134217729.0  # 2^27 + 1: Veltkamp's splitter
    high = t - (t - a)
    return high, a - high


def _add(a: Double, b: Double) -> Double:
    s, e = _two_sum(a[0], b[0])
    t, f = _two_sum(a[1], b[1])
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


def _times(a: Double, b: Floats) -> Double:
    p, e = _two_product(a[0], b)
    return _two_sum(p, e + a[1] * b)


def _multiply(a: Double, b: Double) -> Double:
    p, e = _two_product(a[0], b[0])
    return _two_sum(p, e + (a[0] * b[1] + a[1] * b[0]))


def _ldexp(a: Double, exponent: int | NDArray[np.int64]) -> Double:
    return np.ldexp(a[0], exponent), np.ldexp(a[1], exponent)


def _sum(a: Double) -> Double:
    """Sum over the last axis, by halves: a fixed order, and few numpy calls."""
    while a[0].shape[-1] > 1:
        half = a[0].shape[-1] // 2
        total = _add((a[0][..., :half], a[1][..., :half]), (a[0][..., half : 2 * half], a[1][..., half : 2 * half]))
        odd = a[0].shape[-1] % 2
        a = tuple(np.concatenate([t, p[..., -1:]], -1) for t, p in zip(total, a)) if odd else total  # type: ignore[assignment]
    return a[0][..., 0], a[1][..., 0]


def _powers(exponents: Tensor, device: torch.device) -> Tensor:
    return torch.tensor([2.0 ** int(e) for e in exponents], dtype=torch.float64, device=device)
