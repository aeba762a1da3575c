# The compiled module, native/module.cpp. It refuses arrays of another type, shape or layout.
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Doubles = NDArray[np.float64]

build: str
fixed_point: tuple[int, ...]

def levels() -> list[str]: ...
def level() -> str: ...
def path(*, type: str, n: int, d: int, k: int) -> str: ...

class Rows:
    def __init__(self, x: Tensor | NDArray[Any]) -> None: ...

class Workspace:
    def __init__(
        self,
        rows: Rows,
        k: int,
        *,
        weight: Doubles | None,
        scale_before: Doubles,
        scale_after: Doubles,
        near_one: float,
        square: float,
        scale_weight: float,
        counts: NDArray[np.int64],
        sums: NDArray[np.int64],
        squares: NDArray[np.int64],
        masses: NDArray[np.int64] | None,
        leads: NDArray[np.float32] | None,
        moved: Doubles | None,
        lead_unit: float,
        kept_pairs: NDArray[np.int32] | None,
        kept_norms: NDArray[np.float32] | None,
        kept_frame: Doubles | None,
    ) -> None: ...
    def run(self, threads: int, centers: NDArray[Any], labels: NDArray[np.int32]) -> int: ...

def label(threads: int, rows: Rows, centers: NDArray[Any], labels: NDArray[np.int32]) -> None: ...
def finish(
    threads: int,
    *,
    sums: NDArray[np.int64],
    mass_high: Doubles,
    mass_low: Doubles,
    mass_exponent: int,
    widest: int,
    heaviest: int,
    to_values: Doubles,
    to_unit: Doubles,
    centers: NDArray[Any],
    following: NDArray[Any],
) -> tuple[float, float, float, float]: ...
def distances(threads: int, rows: Rows, centers: Doubles, labels: NDArray[np.int32] | None, out: Doubles) -> None: ...
def closer(
    threads: int, rows: Rows, centers: Doubles, limits: Doubles
) -> tuple[NDArray[np.int64], NDArray[np.int64], Doubles]: ...
def extremes(threads: int, rows: Rows, largest: Doubles) -> None: ...
