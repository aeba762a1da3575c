"""Fixed-point sums: values to integers, integers added in any order, and back to centers and inertia.

Integers make every sum exact, so that threads, processes, kernels and the order of rows cannot change a bit, and a row
that joins or leaves a cluster leaves no drift. One definition for all kernels:

- Feature t has an exponent e, the least with 2^e above the largest |w x_t|. The value w x_t enters as the integer
  nearest (half to even) to w x_t 2^(80-e). Without weights it is a float64, so this is exact down to 2^-27 of the
  largest; with weights the product is taken as high + low (Dekker's two-product) and each part enters.
- w x_t^2 enters as the integer nearest to w x_t^2 2^(96-E), one E for all features: the parts of the two-product of
  (w x_t) and x_t. 96 bits and not 80, so that two points at 1e9 leave the inertia of points near 1 right to 1e-9.
- A weight enters as the integer nearest to w 2^(80-e).

The squares are added up once, over all clusters: no move of a row from one to another changes their sum.

A sum is kept as limbs in int64, lowest first: three of 27 bits for the first and the last, four of 32 for the squares.
T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18, 1971.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import frexp, isnan, ldexp
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepfit.groups import Group
from stepfit.kernels.arrays import as_doubles, copied, rounded, squared_moves
from stepfit.kernels.double_double import Double, Floats, add, times, total, two_product, two_sum

WIDE = (torch.float64, torch.int32, torch.int64)  # types that float32 cannot hold

BITS, WIDTH = 80, 27  # of the integers of w x_t and w, and of their limbs
SQUARE_BITS, SQUARE_WIDTH = 96, 32
LIMBS = 3
_BLOCK_VALUES = {"cpu": 2**15}  # values whose dozen copies fit the caches; elsewhere launches cost more than memory

Exponents = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Scale:
    """The powers of two under which the values of a run become integers."""

    x: Exponents  # (d,): 2^x[t] is above every |x_t| that has weight
    product: Exponents  # (d,): 2^product[t] is above every |w x_t|
    weight: int  # 2^weight is above every w; 1 without weights counts as 2^0

    @classmethod
    def of(cls, largest: Tensor) -> Scale:
        """Take the largest |x_t| that has weight, |w x_t| and w, (3, d) float64, the last two 0 without weights."""
        value, product, (weight, *_) = np.frexp(largest.cpu().numpy())[1]
        # Below 2^-500 a square is 0 in float64; the limit keeps every power of two used here finite.
        x = np.maximum(value, -500)
        if not largest[2, 0]:
            return cls(x, x, 0)
        return cls(x, np.maximum(product, x + weight - 500), int(weight))

    @cached_property
    def widest(self) -> int:
        """2^widest is above every |x_t| that has weight."""
        return int(self.x.max())

    @cached_property
    def heaviest(self) -> int:
        """2^heaviest is above every |w x_t|."""
        return int(self.product.max())

    @cached_property
    def to_values(self) -> Floats:
        """What 1 stands for in the sums of each feature, (d,)."""
        return power_of_two(self.product - BITS)

    @cached_property
    def to_unit(self) -> Floats:
        """The same in units of 2^heaviest; 0 for features that are too small to count beside the others."""
        return power_of_two(self.product - (self.heaviest + BITS))

    @cached_property
    def is_plain(self) -> bool:
        """Whether all of `to_values` are ordinary numbers of float64."""
        return bool(self.product.min() > BITS - 1000) and self.heaviest < BITS + 1000


def parts(x: Tensor, weight: Tensor | None, scale: Scale) -> tuple[list[Tensor], list[Tensor]]:
    """Scale some rows so that rounding makes the integers: those of w x_t, (rows, d), and of w, (rows,).

    Each list holds the parts of one value in float64, each to be rounded and then added to the others.
    """
    exact = x.double()
    if weight is None:
        return [exact * _powers(BITS - scale.x, x.device)], []
    w = weight[:, None] * 2.0**-scale.weight
    up = _powers(BITS + scale.weight + scale.x - scale.product, x.device)
    return [part * up for part in two_product(exact * _powers(-scale.x, x.device), w)], [w[:, 0] * 2.0**BITS]


def square_parts(x: Tensor, weight: Tensor | None, scale: Scale) -> list[Tensor]:
    """Do the same for w x_t^2, (rows, d)."""
    near_one = x.double() * 2.0**-scale.widest  # exact, and its square cannot overflow
    if weight is None:
        # Of all types but the wide ones the 24 bits of x, squared, fit: nothing is left over.
        square = two_product(near_one, near_one) if x.dtype in WIDE else [near_one * near_one]
        return [part * 2.0**SQUARE_BITS for part in square]
    high, low = two_product(near_one, weight[:, None] * 2.0**-scale.weight)
    up = 2.0 ** (SQUARE_BITS + scale.weight + scale.widest - scale.heaviest)
    return [part * up for part in (*two_product(high, near_one), low * near_one)]


def split(value: Tensor, width: int) -> list[Tensor]:
    """Round to integers and cut them into limbs, lowest first: float64 multiples of 1, 2^width and 2^(2 width).

    Adding and taking away a large number rounds to a multiple of its last place, half to even, and what is left is
    exact. The limbs are so short that adding up 2^20 of them is exact too, in any order. `value` is used up.
    """
    limbs = []
    for i in range(LIMBS - 1, -1, -1):
        large = 1.5 * 2.0 ** (52 + width * i)
        limbs.append((value + large).sub_(large))
        value -= limbs[-1]
    return limbs[::-1]


def _integers(limbs: list[Tensor], width: int) -> Tensor:
    return torch.stack([(limb * 2.0 ** (-width * i)).long() for i, limb in enumerate(limbs)])


def carry(sums: Tensor, width: int) -> Tensor:
    """Bring every limb but the highest into 0 .. 2^width - 1, in place: one form for one value."""
    for i in range(len(sums) - 1):
        over = sums[i] >> width
        sums[i] -= over << width
        sums[i + 1] += over
    return sums


@dataclass(frozen=True, eq=False)
class Totals:
    """What an assignment adds up to; the sums are integers, as limbs."""

    labels: Tensor  # (n,) int32
    counts: Tensor  # (k,) int64
    sums: Tensor  # (3, k, d) int64
    squares: Tensor  # (4,) int64, of all rows
    masses: Tensor | None  # (3, k) int64; None without weights
    changed: int  # labels that differ from the assignment before; n in the first

    @classmethod
    def zeros(cls, labels: Tensor, k: int, d: int, *, weighted: bool) -> Totals:
        """Begin to add."""

        def zeros(*shape: int) -> Tensor:
            return torch.from_numpy(np.zeros(shape, np.int64)).to(labels.device)

        masses = zeros(LIMBS, k) if weighted else None
        return cls(labels, zeros(k), zeros(LIMBS, k, d), zeros(LIMBS + 1), masses, len(labels))

    def copy(self, labels: Tensor) -> Totals:
        """Begin from the sums of the step before; `labels` are the new ones."""
        masses = None if self.masses is None else copied(self.masses)
        return type(self)(labels, copied(self.counts), copied(self.sums), copied(self.squares), masses, 0)

    def add(self, x: Tensor, weight: Tensor | None, scale: Scale, to: Tensor, out_of: Tensor | None = None) -> None:
        """Let rows (rows, d) join the centers `to` (rows,), and leave the centers `out_of`."""
        k, d = self.sums.shape[1:]
        moves = [(to.long(), 1)] if out_of is None else [(to.long(), 1), (out_of.long(), -1)]
        sum_limbs = torch.empty(LIMBS, len(x), d, dtype=torch.float64, device=x.device)
        mass_limbs = torch.zeros(LIMBS, len(x), dtype=torch.int64, device=x.device)
        rows = max(1, _BLOCK_VALUES.get(x.device.type, 2**24) // d)
        for first in range(0, len(x), rows):
            here = slice(first, first + rows)
            some = x[here], None if weight is None else weight[here], scale
            sums, masses = parts(*some)
            for i, limbs in enumerate(zip(*(split(part, WIDTH) for part in sums))):
                sum_limbs[i, here] = limbs[0] if len(limbs) == 1 else limbs[0] + limbs[1]
            for part in square_parts(*some) if out_of is None else []:
                per_row = [limb.sum(1) for limb in split(part, SQUARE_WIDTH)]
                self.squares[:LIMBS] += _integers(per_row, SQUARE_WIDTH).sum(1)
            for part in masses:
                mass_limbs[:, here] = _integers(split(part, WIDTH), WIDTH)
        for label, sign in moves:
            self.counts.scatter_add_(0, label, torch.full_like(label, sign))
            change = torch.zeros(LIMBS, k, d, dtype=torch.float64, device=x.device)
            change.scatter_add_(1, label[:, None].expand(LIMBS, -1, d), sum_limbs)
            self.sums.add_(_integers(list(change), WIDTH) * sign)
            if self.masses is not None:
                self.masses.scatter_add_(1, label.expand(LIMBS, -1), mass_limbs * sign)
        carry(self.sums, WIDTH)
        carry(self.squares, SQUARE_WIDTH)
        if self.masses is not None:
            carry(self.masses, WIDTH)

    def over(self, group: Group) -> Totals:
        """Add the totals of all processes."""
        if group.size == 1:
            return self
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
        high, _, exponent = self.mass_parts(scale)
        return high if exponent == 0 else np.asarray(np.ldexp(high, exponent))

    def mass_parts(self, scale: Scale) -> tuple[Floats, Floats, int]:
        """Return a high and a low part of the masses, (k,) each, and the power of two that they are multiples of."""
        if self.masses is None:
            counts = self.counts.cpu().numpy().astype(np.float64)
            return counts, np.zeros(len(counts)), 0
        return *_double(self.masses, WIDTH), scale.weight - BITS

    def means(self, scale: Scale) -> Floats:
        """Means per center, (k, d) float64; NaN where there is no mass."""
        mass = self.mass(scale)
        mass[mass == 0] = np.nan
        sums = _double(self.sums, WIDTH)[0]
        values = sums * scale.to_values if scale.is_plain else np.ldexp(sums, scale.product - BITS)
        return np.asarray(values / mass[:, None])

    def finish(self, centers: Tensor, scale: Scale) -> tuple[Tensor, Floats, float, float]:
        """Return the next centers, the sums of weights, the inertia and the shift, from the integers alone.

        The next centers are the means, rounded as `centers` are; NaN where there is no mass. Inertia, the sum of
        w |x - c|^2, is q + the sum over all c of c (m c - 2 S), in double-double. The terms cancel; what is left below
        the resolution of the integers is 0. The shift is the sum of the squared moves of the centers.
        """
        following = rounded(self.means(scale), centers)
        shift = squared_moves(centers, following)
        c = as_doubles(centers)
        high, low, exponent = self.mass_parts(scale)
        heavy = high > 0
        unit = unit_of(float(np.abs(c[heavy]).max(initial=0.0)), scale)
        if unit is None:
            return following, self.mass(scale), float("nan"), shift
        m = [np.ldexp(part, exponent + unit - scale.heaviest)[:, None] for part in (high, low)]
        c = np.where(heavy[:, None], np.ldexp(c, -unit), 0.0)
        sums = _double(self.sums, WIDTH)
        twice = -2 * (sums[0] * scale.to_unit), -2 * (sums[1] * scale.to_unit)
        terms = times(add(times((m[0], m[1]), c), twice), c)
        high, low = total(total(terms))
        return following, self.mass(scale), self.inertia_of((float(high), float(low)), unit, scale), shift

    def inertia(self, centers: Tensor, scale: Scale) -> float:
        """Return the third answer of `finish`."""
        return self.finish(centers, scale)[2]

    def inertia_of(self, part: tuple[float, float], unit: int, scale: Scale) -> float:
        """Add to q what the centers take away."""
        squares = 0
        for limb in reversed(self.squares.tolist()):
            squares = (squares << SQUARE_WIDTH) + limb
        high = float(squares)
        resolution = scale.widest - SQUARE_BITS - unit
        q = ldexp(high, resolution), ldexp(float(squares - int(high)), resolution)
        whole = add(q, part)[0]
        noise = sum(self.counts.tolist()) * self.sums.shape[2] * (2.0**resolution + 2.0**-97)
        try:
            return ldexp(whole, scale.heaviest + unit) if whole > noise else 0.0
        except OverflowError:
            return float("inf")


class Workspace:
    """What a run keeps between its passes: the totals of the last one."""

    def __init__(self, points: Any, k: int) -> None:
        self.last: Totals | None = None


def power_of_two(exponents: Exponents) -> Floats:
    """Return 2^e for each, as an array."""
    return np.asarray(np.ldexp(1.0, exponents))


def unit_of(largest: float, scale: Scale) -> int | None:
    """Exponent of a power of two above all of x and `largest`, of the centers that have mass; None when that is NaN."""
    return None if isnan(largest) else max(scale.widest, frexp(largest)[1])


def _double(limbs: Tensor, width: int) -> Double:
    spare = torch.zeros_like(limbs[:1])  # takes the carry of the highest limb, so that every limb is exact in float64
    exact = carry(torch.cat([limbs, spare]), width).cpu().numpy()
    high = exact[-1] * 2.0 ** (width * (len(exact) - 1))
    low = np.zeros_like(high)
    for i in range(len(exact) - 2, -1, -1):
        # What is left of the higher limbs is a multiple of this unit, so nothing is lost before 106 bits are full.
        high, rest = two_sum(high, exact[i] * 2.0 ** (width * i))
        low += rest
    return two_sum(high, low)


def _powers(exponents: Exponents, device: torch.device) -> Tensor:
    return torch.from_numpy(power_of_two(exponents)).to(device)
