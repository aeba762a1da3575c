import numpy as np
from numpy.typing import NDArray

build: str

def levels() -> list[str]: ...
def level() -> str: ...
def path(*, type: str, n: int, d: int, k: int) -> str: ...
def run(
    threads: int,
    *,
    type: str,
    x: int,
    n: int,
    d: int,
    row: int,
    column: int,
    weight: int,
    centers: int,
    center_type: str,
    k: int,
    before: int,
    labels: int,
    scale_before: int,
    scale_after: int,
    near_one: float,
    square: float,
    scale_weight: float,
    counts: int,
    sums: int,
    squares: int,
    masses: int,
    leads: int,
    moved: int,
    centers_before: int,
    lead_unit: float,
    kept_pairs: int,
    kept_norms: int,
    kept_frame: int,
    kept_stride: int,
) -> int: ...
def finish(
    threads: int,
    k: int,
    d: int,
    *,
    sums: int,
    mass_high: int,
    mass_low: int,
    mass_exponent: int,
    widest: int,
    heaviest: int,
    to_values: int,
    to_unit: int,
    centers: int,
    center_type: str,
    following: int,
) -> tuple[float, float, float, float]: ...
def distances(
    threads: int,
    *,
    type: str,
    x: int,
    n: int,
    d: int,
    row: int,
    column: int,
    centers: int,
    k: int,
    labels: int,
    out: int,
) -> None: ...
def closer(
    threads: int,
    *,
    type: str,
    x: int,
    n: int,
    d: int,
    row: int,
    column: int,
    centers: int,
    k: int,
    most: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]: ...
def extremes(threads: int, *, type: str, x: int, n: int, d: int, row: int, column: int, largest: int) -> None: ...
