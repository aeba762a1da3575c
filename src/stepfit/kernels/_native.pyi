build: str

def levels() -> list[str]: ...
def path(level: str, *, type: str, n: int, d: int, k: int) -> str: ...
def run(
    level: str,
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
    spent: int,
    margin: float,
    lead_unit: float,
) -> int: ...
def exact_sums(level: str, limbs: int, count: int, high: int, low: int) -> None: ...
def from_centers(level: str, c: int, high: int, low: int, m: int, k: int, d: int, to: int) -> None: ...
