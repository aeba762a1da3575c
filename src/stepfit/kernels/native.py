"""The compiled kernel for the CPU: hands memory to native/*.cpp, which screens, settles and sums in one pass.

It is there when the package was installed with a C++ compiler; `compiled.missing` says why it is not.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stepfit.kernels import compiled, fixed
from stepfit.kernels.compiled import memory, name
from stepfit.kernels.fixed import Floats
from stepfit.kernels.points import Points

_SMALL = 2**23  # multiplications that take less time than to start a thread and wait for it
_FEW = 2**15  # values of centers that are finished in less time than that
_CACHED = 2**24  # bytes that the caches of a processor hold
_LONG = 128  # bytes of a row; with fewer, to remember something of it costs as much as to look at it again


def path(dtype: torch.dtype, n: int, d: int, k: int) -> str:
    """Name the way that a pass takes over such rows, one after the other in memory: a Path of native/screen.h."""
    return compiled.module.path(type=name(dtype), n=n, d=d, k=k)


def threads(n: int, d: int, k: int) -> int:
    """Give the number of threads that a pass is worth."""
    return 1 if n * d * (k + 16) < _SMALL else torch.get_num_threads()


def remembers(row_bytes: int, k: int) -> bool:
    """Say whether late steps skip the rows whose label cannot have changed."""
    return row_bytes >= _LONG and k > 1


def assign(points: Points, centers: Tensor) -> Tensor:
    """Label each point with its nearest center, exactly as the reference kernel."""
    labels = _new_labels(points)
    _run(points, centers, labels)
    return labels


def assign_and_sum(points: Points, centers: Tensor, last: fixed.Totals | None) -> fixed.Totals:
    """One pass over the data; see the door in kernels/__init__.py. Only rows whose label changed touch the sums."""
    labels = _new_labels(points)
    if last is None:
        totals = Totals.zeros(labels, *centers.shape, weighted=points.weight is not None)
        if remembers(points.d * points.x.element_size(), len(centers)):
            totals.leads = _Leads(points, len(centers))
    else:
        counts = fixed.copied(last.counts)  # they are a part of the step before
        totals = Totals(labels, counts, last.sums, last.squares, last.masses, 0, last.leads)
    totals.changed = _run(points, centers, labels, last, totals)
    return totals


def _new_labels(points: Points) -> Tensor:
    return torch.from_numpy(np.empty(points.n, np.int32))  # numpy asks for large pages: far fewer to clear and to map


class Totals(fixed.Totals):
    """The same totals; what they come to is computed faster, by the same operations in the same order."""

    def finish(self, centers: Tensor, scale: fixed.Scale) -> tuple[Tensor, Floats, float, float]:
        """See fixed.Totals."""
        if not scale.is_plain:
            return super().finish(centers, scale)
        high, low, exponent = self.mass_parts(scale)
        mass = high if exponent == 0 else np.ldexp(high, exponent)
        centers = _exact(centers)
        to_values, to_unit = _units(scale)
        following = torch.empty_like(centers)
        *part, largest, shift = compiled.module.finish(
            1 if centers.numel() < _FEW else torch.get_num_threads(),
            *centers.shape,
            sums=self.sums.data_ptr(),
            mass_high=_at(high),
            mass_low=_at(low),
            mass_exponent=exponent,
            widest=scale.widest,
            heaviest=scale.heaviest,
            to_values=to_values.data_ptr(),
            to_unit=to_unit.data_ptr(),
            centers=centers.data_ptr(),
            center_type=name(centers.dtype),
            following=following.data_ptr(),
        )
        unit = fixed.unit_of(largest, scale)
        inertia = float("nan") if unit is None else self.inertia_of((part[0], part[1]), unit, scale)
        return following, mass, inertia, shift


def distances(points: Points, centers: Tensor, labels: Tensor) -> Tensor:
    """Squared distances of points to their centers, exactly as the reference kernel."""
    out = torch.empty(points.n, dtype=torch.float64, device="cpu")
    _measure(points.x, centers, out, threads(points.n, points.d, 1), labels.int().contiguous())
    return out


def all_distances(x: Tensor, centers: Tensor) -> Tensor:
    """Squared distances of rows to all centers, exactly as the reference kernel."""
    out = torch.empty(len(x), len(centers), dtype=torch.float64, device="cpu")
    _measure(x, centers, out, threads(len(x), x.shape[1], len(centers)), None)
    return out


def _measure(x: Tensor, centers: Tensor, out: Tensor, threads: int, labels: Tensor | None) -> None:
    exact = np.ascontiguousarray(fixed.as_doubles(centers))
    compiled.module.distances(
        threads,
        **memory(x),
        centers=_at(exact),
        k=len(exact),
        labels=_address(labels),
        out=out.data_ptr(),
    )


def closer(x: Tensor, centers: Tensor, most: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, centers and squared distances of the pairs nearer than `most` of the row, as the reference kernel."""
    exact, most = np.ascontiguousarray(fixed.as_doubles(centers)), most.contiguous()
    pairs = compiled.module.closer(
        threads(len(x), x.shape[1], len(centers)),
        **memory(x),
        centers=_at(exact),
        k=len(exact),
        most=most.data_ptr(),
    )
    rows, near, distances = (torch.from_numpy(values) for values in pairs)
    return rows, near, distances


class _Leads:
    """By how much each row is nearer to its center than to all others, so that most rows of late steps are skipped.

    Lengths are in units of 2^e above the largest coordinate, to fit float32; native/level.cpp fills and reads them.
    """

    def __init__(self, points: Points, k: int) -> None:
        self.of_rows = torch.from_numpy(np.empty(points.n, np.float32))
        self.moved = torch.from_numpy(np.zeros(k))  # how far each center and the fastest other one moved, in all
        self.unit = 2.0**-points.scale.widest
        self.centers: Tensor | None = None  # of the last pass
        # The rows as whole numbers of 16 bits, where all of them fit the caches, and their norms: pass.h says how.
        self.stride = -(-points.d // 32) * 16
        fits = 4 * points.n * self.stride <= _CACHED
        keeps = fits and path(points.x.dtype, points.n, points.d, k) == "tiles"
        self.pairs = torch.from_numpy(np.empty((points.n, self.stride), np.int32)) if keeps else None
        self.norms = torch.from_numpy(np.full(points.n, -1, np.float32)) if fits else None
        self.frame = torch.from_numpy(np.zeros(points.d + 1)) if fits else None


def _run(
    points: Points,
    centers: Tensor,
    labels: Tensor,
    last: fixed.Totals | None = None,
    totals: fixed.Totals | None = None,
) -> int:
    """Fill `labels`, add to `totals`, and count the labels that changed."""
    k = len(centers)
    exact = _exact(centers)
    weight = None if points.weight is None or totals is None else points.weight.contiguous()
    near_one, square, scale_weight = 0.0, 0.0, 0.0
    before = after = None
    if totals is not None:
        before, after, near_one, square, scale_weight = _powers(points.scale, weight is not None)
    leads: _Leads | None = totals.leads if totals else None
    changed = compiled.module.run(
        threads(points.n, points.d, k),
        **points.memory,
        weight=_address(weight),
        centers=exact.data_ptr(),
        center_type=name(exact.dtype),
        k=k,
        before=_address(None if last is None else last.labels),
        labels=labels.data_ptr(),
        scale_before=_address(before),
        scale_after=_address(after),
        near_one=near_one,
        square=square,
        scale_weight=scale_weight,
        counts=_address(None if totals is None else totals.counts),
        sums=_address(None if totals is None else totals.sums),
        squares=_address(None if totals is None else totals.squares),
        masses=_address(None if totals is None else totals.masses),
        leads=0 if leads is None else leads.of_rows.data_ptr(),
        moved=0 if leads is None else leads.moved.data_ptr(),
        centers_before=0 if leads is None else _address(leads.centers),
        lead_unit=0.0 if leads is None else leads.unit,
        kept_pairs=0 if leads is None else _address(leads.pairs),
        kept_norms=0 if leads is None else _address(leads.norms),
        kept_frame=0 if leads is None else _address(leads.frame),
        kept_stride=0 if leads is None else leads.stride,
    )
    if leads:
        leads.centers = exact
    return changed


def _exact(centers: Tensor) -> Tensor:
    """See centers as float32 or float64, one after the other in memory."""
    known = centers if centers.dtype in (torch.float32, torch.float64) else centers.double()
    return known.contiguous()


def _at(array: NDArray[Any]) -> int:
    return torch.from_numpy(array).data_ptr()  # several times faster than what numpy has for that


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


@lru_cache(maxsize=4)
def _units(scale: fixed.Scale) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(scale.to_values), torch.from_numpy(scale.to_unit)


@lru_cache(maxsize=4)
def _powers(scale: fixed.Scale, weighted: bool) -> tuple[Tensor, Tensor, float, float, float]:
    """Give the powers of two of fixed.parts; native/sums.h multiplies as that does."""
    widest = scale.widest
    if not weighted:
        before = torch.from_numpy(fixed.power_of_two(fixed.BITS - scale.x))
        return before, before, 2.0**-widest, 2.0**fixed.SQUARE_BITS, 1.0
    return (
        torch.from_numpy(fixed.power_of_two(-scale.x)),
        torch.from_numpy(fixed.power_of_two(fixed.BITS + scale.weight + scale.x - scale.product)),
        2.0**-widest,
        2.0 ** (fixed.SQUARE_BITS + scale.weight + widest - scale.heaviest),
        2.0**-scale.weight,
    )
