"""The compiled kernel for the CPU: hands arrays to native/*.cpp, which screens, settles and sums in one pass.

It is there when the package was installed with a C++ compiler; `compiled.missing` says why it is not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from stepfit.kernels import compiled, fixed
from stepfit.kernels.arrays import as_doubles
from stepfit.kernels.compiled import name
from stepfit.kernels.double_double import Floats
from stepfit.kernels.points import Points

_SMALL_PASS = 2**23  # multiplications that take less time than to start a thread and wait for it
_SMALL_CENTERS = 2**15  # values of centers that are finished in less time than that
_CACHE_BYTES = 2**24  # what the caches of a processor hold
_LONG_ROW = 128  # bytes; to remember something of a shorter row costs as much as to look at it again

_FORMAT = (fixed.BITS, fixed.WIDTH, fixed.SQUARE_BITS, fixed.SQUARE_WIDTH, fixed.LIMBS)
if not compiled.missing and compiled.module.fixed_point != _FORMAT:
    compiled.missing = f"it was built for the fixed-point format {compiled.module.fixed_point}, and this is {_FORMAT}"


def path(dtype: torch.dtype, n: int, d: int, k: int) -> str:
    """Name the way that a pass takes over such rows, one after the other in memory: a Path of native/screen.h."""
    return compiled.module.path(type=name(dtype), n=n, d=d, k=k)


def threads(n: int, d: int, k: int) -> int:
    """Return the number of threads that a pass is worth."""
    return 1 if n * d * (k + 16) < _SMALL_PASS else torch.get_num_threads()


def remembers(row_bytes: int, k: int) -> bool:
    """Return whether late steps skip the rows whose label cannot have changed."""
    return row_bytes >= _LONG_ROW and k > 1


class Workspace:
    """What a run keeps between its passes: sums, and by how much each row is nearer to its center than to all others.

    Most rows of late steps are skipped by that. Lengths are in units of 2^e above the largest coordinate, to fit
    float32; native/level.cpp fills and reads them.
    """

    def __init__(self, points: Points, k: int, *, once: bool = False) -> None:
        self.weighted, scale = points.weight is not None, points.scale
        self.counts, self.sums = np.zeros(k, np.int64), np.zeros((fixed.LIMBS, k, points.d), np.int64)
        self.squares = np.zeros(fixed.LIMBS + 1, np.int64)
        self.masses = np.zeros((fixed.LIMBS, k), np.int64) if self.weighted else None
        self.leads = self.moved = pairs = norms = frame = None
        if remembers(points.d * points.x.element_size(), k) and not once:
            self.leads = np.empty(points.n, np.float32)
            self.moved = np.zeros(k)  # how far each center and the fastest other one moved, in all
            # The rows as whole numbers of 16 bits, where all of them fit the caches, and their norms: see pass.h.
            stride = -(-points.d // 32) * 16
            if 4 * points.n * stride <= _CACHE_BYTES:
                norms, frame = np.full(points.n, -1, np.float32), np.zeros(points.d + 1)
                if path(points.x.dtype, points.n, points.d, k) == "tiles":
                    pairs = np.empty((points.n, stride), np.int32)
        before, after, near_one, square, scale_weight = _powers(scale, self.weighted)
        self.module = compiled.module.Workspace(
            points.rows, k, weight=None if points.weight is None else points.weight.contiguous().numpy(),
            scale_before=before, scale_after=after, near_one=near_one, square=square, scale_weight=scale_weight,
            counts=self.counts, sums=self.sums, squares=self.squares, masses=self.masses, leads=self.leads,
            moved=self.moved, lead_unit=2.0**-scale.widest, kept_pairs=pairs, kept_norms=norms, kept_frame=frame,
        )  # fmt: skip


def assign(points: Points, centers: Tensor) -> Tensor:
    """Label each point with its nearest center, exactly as the reference kernel."""
    labels = np.empty(points.n, np.int32)
    compiled.module.label(threads(points.n, points.d, len(centers)), points.rows, _exact(centers), labels)
    return torch.from_numpy(labels)


def assign_and_sum(points: Points, centers: Tensor, workspace: Workspace | None = None) -> fixed.Totals:
    """One pass over the data; see the door in kernels/__init__.py. Only rows whose label changed touch the sums."""
    w = Workspace(points, len(centers), once=True) if workspace is None else workspace
    labels = np.empty(points.n, np.int32)  # numpy asks for large pages: far fewer to clear and to map
    changed = w.module.run(threads(points.n, points.d, len(centers)), _exact(centers), labels)
    counts = torch.from_numpy(w.counts.copy())  # these belong to the step; the sums, to the run
    sums, squares = torch.from_numpy(w.sums), torch.from_numpy(w.squares)
    masses = None if w.masses is None else torch.from_numpy(w.masses)
    return Totals(torch.from_numpy(labels), counts, sums, squares, masses, changed)


class Totals(fixed.Totals):
    """The same totals; what they come to is computed faster, by the same operations in the same order."""

    def finish(self, centers: Tensor, scale: fixed.Scale) -> tuple[Tensor, Floats, float, float]:
        """See fixed.Totals."""
        if not scale.is_plain:
            return super().finish(centers, scale)
        high, low, exponent = self.mass_parts(scale)
        mass = high if exponent == 0 else np.ldexp(high, exponent)
        exact = _exact(centers)
        following = np.empty_like(exact)
        *part, largest, shift = compiled.module.finish(
            1 if exact.size < _SMALL_CENTERS else torch.get_num_threads(), sums=self.sums.numpy(), mass_high=high,
            mass_low=low, mass_exponent=exponent, widest=scale.widest, heaviest=scale.heaviest,
            to_values=scale.to_values, to_unit=scale.to_unit, centers=exact, following=following,
        )  # fmt: skip
        unit = fixed.unit_of(largest, scale)
        inertia = float("nan") if unit is None else self.inertia_of((part[0], part[1]), unit, scale)
        return torch.from_numpy(following), mass, inertia, shift


def distances(points: Points, centers: Tensor, labels: Tensor) -> Tensor:
    """Squared distances of points to their centers, exactly as the reference kernel, (n,)."""
    out = np.empty(points.n)
    exact, own = np.ascontiguousarray(as_doubles(centers)), labels.int().contiguous().numpy()
    compiled.module.distances(threads(points.n, points.d, 1), points.rows, exact, own, out)
    return torch.from_numpy(out)


def all_distances(x: Tensor, centers: Tensor) -> Tensor:
    """Squared distances of rows to all centers, exactly as the reference kernel, (n, k)."""
    out = np.empty((len(x), len(centers)))
    exact = np.ascontiguousarray(as_doubles(centers))
    compiled.module.distances(threads(len(x), x.shape[1], len(centers)), compiled.rows(x), exact, None, out)
    return torch.from_numpy(out)


def closer(x: Tensor, centers: Tensor, limits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, centers and squared distances of the pairs nearer than the limit of the row, as the reference kernel."""
    exact, limit = np.ascontiguousarray(as_doubles(centers)), limits.contiguous().numpy()
    pairs = compiled.module.closer(threads(len(x), x.shape[1], len(centers)), compiled.rows(x), exact, limit)
    rows, near, distances = (torch.from_numpy(values) for values in pairs)
    return rows, near, distances


def _exact(centers: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.floating]]:
    """Return centers (k, d) as float32 or float64, one after the other in memory."""
    known = centers if centers.dtype in (torch.float32, torch.float64) else centers.double()
    return known.contiguous().numpy()


@lru_cache(maxsize=4)
def _powers(scale: fixed.Scale, weighted: bool) -> tuple[Floats, Floats, float, float, float]:
    """Return the powers of two of fixed.parts, (d,) twice and three; native/sums.h multiplies as that does."""
    widest = scale.widest
    if not weighted:
        before = fixed.power_of_two(fixed.BITS - scale.x)
        return before, before, 2.0**-widest, 2.0**fixed.SQUARE_BITS, 1.0
    return (
        fixed.power_of_two(-scale.x),
        fixed.power_of_two(fixed.BITS + scale.weight + scale.x - scale.product),
        2.0**-widest,
        2.0 ** (fixed.SQUARE_BITS + scale.weight + widest - scale.heaviest),
        2.0**-scale.weight,
    )
