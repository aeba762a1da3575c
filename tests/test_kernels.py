"""The kernels: the bound of the screen where it is hard, and the door."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepfit import assign, kernels, lloyd


def both(x, centers):
    return assign(x, centers, kernel="chunked"), assign(x, centers, kernel="reference")


@settings(max_examples=100)
@given(
    st.integers(0, 10**6), st.integers(1, 70), st.integers(1, 40),
    st.sampled_from([1.0, 1e-3, 1e-6, 1e-150, 1e60]), st.sampled_from([0.0, 1.0, 1e4, 1e8]),
    st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_labels_are_exact_at_any_scale_and_offset(seed, d, k, scale, offset, dtype):
    rng = np.random.RandomState(seed)
    if dtype == "float32":
        scale = min(max(scale, 1e-30), 1e30)
    x = ((rng.randn(50, d) + offset) * scale).astype(dtype)
    chunked, reference = both(x, x[rng.randint(0, 50, k)] + (rng.randn(k, d) * scale * 1e-3).astype(dtype))
    assert chunked.equal(reference)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(20))
def test_points_much_smaller_than_centers_of_nearly_equal_norm(seed, dtype):
    """Here |c|^2/2 is far above |x||c|: a bound without it misses the answer."""
    rng = np.random.RandomState(seed)
    centers = rng.randn(15, 8)
    centers = np.r_[centers, -centers]  # their mean is 0, where the points are
    centers /= np.linalg.norm(centers, axis=1, keepdims=True) * (1 + 1e-8 * rng.randn(30, 1))
    x = rng.randn(200, 8) * 1e-8
    chunked, reference = both(x.astype(dtype), centers.astype(dtype))
    assert chunked.equal(reference)


def test_exact_ties_on_a_grid_go_to_the_lowest_index():
    grid = np.stack(np.meshgrid(range(8), range(8)), -1).reshape(-1, 2).astype(np.uint8)
    centers = grid[::3][:20].astype(np.float32)
    chunked, reference = both(grid, np.r_[centers, centers])
    assert chunked.equal(reference)
    assert int(chunked.max()) < 20


def test_centers_far_from_all_points():
    chunked, reference = both(np.random.RandomState(0).randn(20, 3).astype("f4"), np.full((2, 3), 1e38))
    assert chunked.equal(reference)


def test_the_scores_are_never_held_whole():
    """k = n = 4,000 would be 64 MB of float32 scores; a block is far smaller."""
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    with Watch():
        labels = assign(x, x, kernel="chunked")
    assert labels.tolist() == list(range(4000))
    assert 0 < largest <= 2**20


def test_the_environment_names_the_kernel(monkeypatch):
    monkeypatch.setenv("STEPFIT_KERNEL", "reference")
    assert lloyd([[0.0]], 1).settings["kernel"] == "reference"
    monkeypatch.setenv("STEPFIT_KERNEL", "cuda")
    with pytest.raises(ValueError, match="there is no kernel 'cuda'"):
        kernels.choose()
