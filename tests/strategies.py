"""Problems for hypothesis: small data with ties, repeats, far outliers and offsets, in several types."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray


@dataclass
class Problem:
    x: NDArray
    start: NDArray
    weight: NDArray | None

    @property
    def k(self) -> int:
        return len(self.start)


@st.composite
def problems(
    draw: st.DrawFn, weighted: bool | None = False, dtypes: tuple[str, ...] = ("float32", "float64", "uint8")
) -> Problem:
    n, d = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from(dtypes))
    if dtype == "uint8":
        x = draw(arrays(dtype, (n, d), elements=st.integers(0, 255) | st.integers(0, 3)))
    else:
        near = st.integers(-3, 3).map(float) | st.floats(-2, 2, width=32)
        far = st.sampled_from([1e9, -1e9, 1e-9, 1e5 + 1 / 3])
        x = draw(arrays(dtype, (n, d), elements=st.one_of(near, near, near, far)))
        x = x + np.asarray(draw(st.sampled_from([0.0, 0.0, 1e6])), dtype)
    k = draw(st.integers(1, n))
    rows = draw(st.lists(st.integers(0, n - 1), min_size=k, max_size=k))  # repeats make empty clusters
    weight = None
    if weighted or (weighted is None and draw(st.booleans())):
        weight = draw(arrays("float64", n, elements=st.sampled_from([1.0, 0.1, 3.0, 1e-3, 1e6])))
    return Problem(x, x[rows].astype("float64"), weight)
