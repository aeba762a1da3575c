"""The kernel door: one pass over the data, by the kernel that fits; every kernel gives the same bits.

A kernel is a module with two functions:

- ``assign(points, centers) -> labels`` (n,) int32: promise 1, the nearest center of each point;
- ``assign_and_sum(points, centers, last) -> Totals``: the same, and what the rows of each center add up to in
  fixed point. ``last`` holds the totals of the step before, so that only rows whose label changed are added again.
"""

from __future__ import annotations

import os
from types import ModuleType

from stepfit.kernels import chunked, reference
from stepfit.kernels.reference import squared_distance

__all__ = ["KERNELS", "choose", "squared_distance"]

KERNELS: dict[str, ModuleType] = {"chunked": chunked, "reference": reference}


def choose(name: str | None = None) -> str:
    """Name the kernel to use: `name`, else STEPFIT_KERNEL from the environment, else the fastest there is."""
    chosen = name or os.environ.get("STEPFIT_KERNEL") or "chunked"
    if chosen not in KERNELS:
        raise ValueError(f"there is no kernel {chosen!r}; there are {', '.join(sorted(KERNELS))}")
    return chosen
