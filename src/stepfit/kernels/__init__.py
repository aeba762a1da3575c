"""The kernel door: one pass over the data, by the kernel that fits; every kernel gives the same bits.

A kernel is a module with five functions and a class:

- ``assign(points, centers) -> labels`` (n,) int32: promise 1, the nearest center of each point;
- ``Workspace(points, k)``: what a run keeps between its passes, so that only rows whose label changed are added again;
- ``assign_and_sum(points, centers, workspace=None) -> Totals``: labels, and what the rows of each center add up to in
  fixed point. The ``labels`` and ``counts`` are the caller's; the rest is good until the next pass of the workspace;
- ``distances(points, centers, labels)`` (n,) float64: the squared distance that promise 1 speaks of, of each point to
  the center that its label names;
- ``all_distances(x, centers)`` (n, k) float64: the same of some rows to all centers;
- ``closer(x, centers, limits) -> rows, centers, distances``: the same of the pairs that are nearer than the limit of
  the row, ``limits`` (n,), in the order of rows and centers, so that centers that lie farther need not be measured.
"""

from __future__ import annotations

import os
from types import ModuleType

import torch

from stepfit.kernels import chunked, compiled, native, reference
from stepfit.kernels.reference import squared_distance

__all__ = ["KERNELS", "choose", "squared_distance"]

KERNELS: dict[str, ModuleType] = {"chunked": chunked, "native": native, "reference": reference}


def choose(name: str | None = None, device: torch.device | None = None) -> str:
    """Name the kernel to use: `name`, else STEPFIT_KERNEL from the environment, else the fastest there is."""
    on_cpu = device is None or device.type == "cpu"
    fastest = "native" if on_cpu and not compiled.missing else "chunked"
    chosen = name or os.environ.get("STEPFIT_KERNEL") or fastest
    if chosen not in KERNELS:
        raise ValueError(f"there is no kernel {chosen!r}; there are {', '.join(sorted(KERNELS))}")
    if chosen == "native" and not on_cpu:
        raise ValueError(f"the native kernel is for the CPU, and x lies on {device}; choose 'chunked'")
    if chosen == "native" and compiled.missing:
        raise ValueError(
            f"the native kernel was not built ({compiled.missing}); install a C++ compiler, then install stepfit again"
        )
    return chosen
