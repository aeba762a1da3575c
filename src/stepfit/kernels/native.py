"""The compiled kernel for the CPU: hands memory to native/*.cpp, which screens, settles and sums in one pass.

It is there when the package was installed with a C++ compiler; `missing` says why it is not.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from stepfit import fixed
from stepfit.points import Points

try:
    import stepfit.kernels._native as _native
except ImportError as error:
    missing = str(error)
else:
    missing = ""

_SMALL = 2**20  # multiplications that take less time than to start a thread


def levels() -> list[str]:
    """Name the levels of instructions that this machine has, the best last."""
    return _native.levels()


def level() -> str:
    """Name the level of instructions: STEPFIT_ISA from the environment, else the best that this machine has."""
    wanted = os.environ.get("STEPFIT_ISA") or levels()[-1]
    if wanted not in levels():
        raise ValueError(f"STEPFIT_ISA is {wanted!r}; this machine has {', '.join(levels())}")
    return wanted


def assign(points: Points, centers: Tensor) -> Tensor:
    """Label each point with its nearest center, exactly as the reference kernel."""
    labels = torch.empty(points.n, dtype=torch.int32, device="cpu")
    _run(points, centers, labels)
    return labels


def assign_and_sum(points: Points, centers: Tensor, last: fixed.Totals | None) -> fixed.Totals:
    """One pass over the data; see the door in kernels/__init__.py. Only rows whose label changed touch the sums."""
    labels = torch.empty(points.n, dtype=torch.int32, device="cpu")
    weighted = points.weight is not None
    totals = last.copy(labels) if last else fixed.Totals.zeros(labels, *centers.shape, weighted=weighted)
    totals.changed = _run(points, centers, labels, last, totals)
    return totals


def _run(
    points: Points,
    centers: Tensor,
    labels: Tensor,
    last: fixed.Totals | None = None,
    totals: fixed.Totals | None = None,
) -> int:
    """Fill `labels`, add to `totals`, and count the labels that changed."""
    x, k = points.x, len(centers)
    exact = centers.to(torch.float64).contiguous()
    weight = None if points.weight is None or totals is None else points.weight.contiguous()
    near_one, square, scale_weight = 0.0, 0.0, 0.0
    before = after = np.empty(0)
    if totals is not None:
        before, after, near_one, square, scale_weight = _powers(points.scale, weight is not None)
    threads = 1 if points.n * points.d * (k + 16) < _SMALL else torch.get_num_threads()
    size = x.element_size()
    return _native.run(
        level(),
        threads,
        type=str(x.dtype).removeprefix("torch."),
        x=x.data_ptr(),
        n=points.n,
        d=points.d,
        row=x.stride(0) * size,
        column=x.stride(1) * size,
        weight=_address(weight),
        centers=exact.data_ptr(),
        k=k,
        before=_address(None if last is None else last.labels),
        labels=labels.data_ptr(),
        scale_before=before.ctypes.data,
        scale_after=after.ctypes.data,
        near_one=near_one,
        square=square,
        scale_weight=scale_weight,
        counts=_address(None if totals is None else totals.counts),
        sums=_address(None if totals is None else totals.sums),
        squares=_address(None if totals is None else totals.squares),
        masses=_address(None if totals is None else totals.masses),
    )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _powers(scale: fixed.Scale, weighted: bool) -> tuple[fixed.Floats, fixed.Floats, float, float, float]:
    """Give the powers of two of fixed.parts; native/sums.h multiplies as that does."""
    widest = int(scale.x.max())
    if not weighted:
        before = np.ldexp(1.0, (fixed.BITS - scale.x).numpy())
        return before, before, 2.0**-widest, 2.0**fixed.SQUARE_BITS, 1.0
    return (
        np.ldexp(1.0, -scale.x.numpy()),
        np.ldexp(1.0, (fixed.BITS + scale.weight + scale.x - scale.product).numpy()),
        2.0**-widest,
        2.0 ** (fixed.SQUARE_BITS + scale.weight + widest - int(scale.product.max())),
        2.0**-scale.weight,
    )
