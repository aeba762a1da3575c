"""The native kernel equals the reference kernel bit for bit: labels and totals, at every level of instructions."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import problems

from stepfit import assign, kernels, lloyd
from stepfit.kernels import compiled, native, reference
from stepfit.kernels.points import Points

pytestmark = pytest.mark.skipif(bool(compiled.missing), reason=f"the native kernel was not built: {compiled.missing}")

LEVELS = [] if compiled.missing else compiled.module.levels()
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16,
          torch.int32, torch.int64, torch.bool)  # fmt: skip


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    monkeypatch.setenv("STEPFIT_ISA", request.param)
    return request.param


@pytest.fixture(params=[1, 2, 3, 7])
def threads(request, monkeypatch):
    monkeypatch.setattr(native, "_SMALL_PASS", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def same(a, b):
    assert a.labels.dtype == b.labels.dtype == torch.int32
    assert a.labels.equal(b.labels)
    assert a.counts.equal(b.counts)
    assert a.sums.equal(b.sums)
    assert a.squares.equal(b.squares)
    assert (a.masses is None) == (b.masses is None)
    assert a.masses is None or a.masses.equal(b.masses)
    assert a.changed == b.changed


def check(points, centers, others):
    """Two steps: all rows enter, then some move."""
    work, sure = native.Workspace(points, len(centers)), reference.Workspace(points, len(centers))
    first = native.assign_and_sum(points, centers, work)
    kept = first.labels.clone(), first.counts.clone()
    right = reference.assign_and_sum(points, centers, sure)
    same(first, right)
    same(native.assign_and_sum(points, centers), right)
    for ours, theirs in zip(first.finish(centers, points.scale), right.finish(centers, points.scale)):
        np.testing.assert_array_equal(ours, theirs)
    same(native.assign_and_sum(points, others, work), reference.assign_and_sum(points, others, sure))
    assert first.labels.equal(kept[0])  # a step that was kept never changes
    assert first.counts.equal(kept[1])
    assert native.assign(points, centers).equal(first.labels)
    if not centers.isnan().any():
        check_distances(points, centers, first.labels)


def means(totals, points, centers):
    """Next centers; those without points stay."""
    following = torch.from_numpy(totals.means(points.scale)).to(points.dtype)
    return torch.where(following.isnan(), centers, following)


def check_distances(points, centers, labels):
    """Where the bound is tight too: the limit is the distance itself, or the next number."""
    own = reference.distances(points, centers, labels)
    assert native.distances(points, centers, labels).equal(own)
    assert native.all_distances(points.x, centers).equal(reference.all_distances(points.x, centers))
    infinite = torch.full_like(own, torch.inf)
    for most in (own, torch.nextafter(own, infinite), 4 * own, infinite):
        found, right = (kernel.closer(points.x, centers, most) for kernel in (native, reference))
        assert all(ours.equal(theirs) for ours, theirs in zip(found, right, strict=True))


@pytest.mark.usefixtures("level")
@settings(max_examples=100)
@given(problems(None), st.integers(0, 10**6))
def test_small_problems(problem, seed):
    points = Points(problem.x, problem.weight)
    centers = torch.from_numpy(problem.start)
    order = np.random.RandomState(seed).permutation(problem.k)
    check(points, centers, centers[torch.from_numpy(order)] + 0.5)


@pytest.mark.usefixtures("level")
@settings(max_examples=100)
@given(
    st.integers(0, 10**6), st.integers(1, 150), st.integers(1, 70), st.integers(1, 150),
    st.sampled_from([1.0, 1e-3, 1e-30, 1e-150, 1e60]), st.sampled_from([0.0, 1.0, 1e4, 1e8]),
    st.sampled_from(["float32", "float64"]), st.booleans(),
)  # fmt: skip
def test_any_size_scale_and_offset(seed, d, k, n, scale, offset, dtype, weighted):
    rng = np.random.RandomState(seed)
    if dtype == "float32":
        scale = min(max(scale, 1e-30), 1e30)
    x = ((rng.randn(n, d) + offset) * scale).astype(dtype)
    centers = torch.from_numpy(x[rng.randint(0, n, k)] + (rng.randn(k, d) * scale * 1e-3).astype(dtype))
    weight = rng.choice([0.0, 1.0, 0.1, 1e-3, 1e6], n) if weighted else None
    if weighted:
        weight[0] = 1.0
    check(Points(x, weight), centers, torch.from_numpy(x[rng.randint(0, n, k)]))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 7, 8, 33, 64, 131])
def test_every_dtype(dtype, d):
    random = torch.Generator().manual_seed(d)
    x = torch.randint(-100, 100, (101, d), generator=random)
    x = x.to(dtype) if dtype != torch.uint8 else x.abs().to(dtype)
    if dtype.is_floating_point:
        x = x / 7
    points = Points(x)
    check(points, points.x[:9].to(points.dtype), points.x[50:59].to(points.dtype) + 0.25)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
def test_few_features(d, scale, dtype):
    """Lanes are rows then; many rows tie, move or stay."""
    rng = np.random.RandomState(d)
    x = rng.randint(0, 200, (1001, d)) if "int" in dtype else (rng.randint(-9, 9, (1001, d)) / 7 + 3) * scale
    x = x.astype(dtype)
    centers = torch.from_numpy(x[:13].astype("f8"))
    others = centers.clone()
    others[:4] += 0.3 * centers[:4].abs().max()
    for rows in (x, x[::2], np.c_[x, x][:, :d]):
        check(Points(rows), centers, others)


@pytest.mark.usefixtures("level")
@settings(max_examples=60)
@given(
    st.integers(0, 10**6), st.integers(64, 300), st.integers(32, 140), st.integers(1, 200),
    st.sampled_from(["normal", "clusters", "offset", "outliers", "grid", "one feature"]),
    st.sampled_from(["float32", "float64", "float16", "uint8"]),
)  # fmt: skip
def test_many_centers_and_long_rows(seed, d, k, n, family, dtype):
    """Where whole numbers of 8 bits leave candidates to float32, and those leave some to float64."""
    rng = np.random.RandomState(seed)
    k = max(k, -(-(2**13) // d))
    x = rng.randn(n + k, d)
    if family == "clusters":
        x += 5 * rng.randn(k, d)[rng.randint(0, k, n + k)]
    elif family == "offset":
        x += 1e4 if dtype != "uint8" else 200
    elif family == "outliers":
        x[rng.rand(n + k, d) < 0.01] *= 1e4
    elif family == "grid":
        x = rng.randint(0, 2, x.shape)
    elif family == "one feature":
        x[:, 1:] *= 1e-6
    x = x.clip(0, 255) if dtype == "uint8" else x
    points, centers = Points(x[:n].astype(dtype)), torch.from_numpy(x[n:].astype("f8" if dtype == "float64" else "f4"))
    check(points, centers, centers + 1e-3)


@pytest.mark.usefixtures("level")
@settings(max_examples=50)
@given(
    st.integers(0, 10**6), st.integers(190, 330), st.integers(1, 66), st.integers(1, 150),
    st.sampled_from(["mostly 0", "bright", "extremes", "nearly equal", "far centers", "twin centers", "all equal"]),
)  # fmt: skip
def test_long_rows_of_bytes(seed, d, k, n, family):
    """Where lanes are features: 8 bits of the centers leave candidates to 8 more, and those leave some to float64."""
    rng = np.random.RandomState(seed)
    x = rng.randint(0, 256, (5, d))[rng.randint(0, 5, n)] + rng.randint(-60, 60, (n, d))
    if family == "mostly 0":
        x *= rng.rand(n, d) < 0.2
    elif family == "bright":
        x = 200 + x // 8
    elif family == "extremes":
        x = 255 * rng.randint(0, 2, (n, d))
    elif family == "nearly equal":
        x = rng.randint(0, 255, d) + (rng.rand(n, d) < 0.02)
    elif family == "all equal":
        x = np.zeros((n, d)) + rng.randint(0, 256)
    x = x.clip(0, 255).astype("u1")
    points = Points(x if seed % 3 else np.c_[x, x][:, :d])  # or with room behind each row
    centers = points.x[rng.randint(0, n, k)].float()
    if family == "far centers":
        centers *= torch.from_numpy(10.0 ** rng.randint(-3, 9, (k, 1))).float() * (1 - 2 * (seed % 2))
    elif family == "twin centers":
        centers = torch.from_numpy(100 + rng.randn(k, d)).float()  # all far from the rows
        centers[k // 2 :] = centers[: k - k // 2] + torch.from_numpy(rng.randn(k - k // 2, d)).float() * 1e-5
    work, sure = native.Workspace(points, k), reference.Workspace(points, k)
    for step in range(5):
        ours = native.assign_and_sum(points, centers, work)
        same(ours, reference.assign_and_sum(points, centers, sure))
        assert native.assign(points, centers).equal(ours.labels)
        move = torch.from_numpy(rng.randn(k, d) * 10.0 ** rng.randint(-4, 3)).float()
        centers = means(ours, points, centers) if step % 2 else centers + move


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("d", [2, 8, 33])
@pytest.mark.parametrize("value", [255, -(2**15), np.float32(1 - 2**-24), 1 - 2**-53])
def test_sums_of_the_largest_values(value, d):
    """As many as it takes until what a thread gathered must go into the totals."""
    dtype = np.asarray(value).dtype if isinstance(value, (float, np.floating)) else "uint8" if value > 0 else "int16"
    points = Points(np.full((40_000, d), value, dtype))
    centers = torch.zeros(2, d, dtype=points.dtype)
    same(native.assign_and_sum(points, centers), reference.assign_and_sum(points, centers))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_every_number_of_threads(threads, weighted, offset):
    rng = np.random.RandomState(threads)
    x = (rng.randn(3001, 19) + offset).astype("f4")
    check(Points(x, rng.rand(3001) if weighted else None), torch.from_numpy(x[:40]), torch.from_numpy(x[40:80]))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(10))
def test_points_much_smaller_than_centers_of_nearly_equal_norm(seed, dtype):
    """Here |c|^2/2 is far above |x||c|: a bound without it misses the answer."""
    rng = np.random.RandomState(seed)
    centers = rng.randn(15, 8)
    centers = np.r_[centers, -centers]  # their mean is 0, where the points are
    centers /= np.linalg.norm(centers, axis=1, keepdims=True) * (1 + 1e-8 * rng.randn(30, 1))
    x = (rng.randn(200, 8) * 1e-8).astype(dtype)
    centers = torch.from_numpy(centers.astype(dtype))
    check(Points(x), centers, centers.flip(0))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_only_the_rounding_of_float64_decides(dtype):
    """All centers are as far from 0, their features in other orders: the sums differ in their last bits."""
    rng = np.random.RandomState(0)
    features = rng.randn(13)
    centers = torch.from_numpy(np.array([rng.permutation(features) for _ in range(30)]).astype(dtype))
    x = np.arange(50)[:, None] * np.full(13, 0.25)  # and from every point with equal features
    check(Points(x.astype(dtype)), centers, centers.flip(0))
    assert native.assign(Points(x.astype(dtype)), centers).unique().numel() > 5  # in exact arithmetic all would be 0


@pytest.mark.usefixtures("level")
def test_ties_on_a_grid_go_to_the_lowest_index():
    grid = np.stack(np.meshgrid(range(8), range(8)), -1).reshape(-1, 2).astype(np.uint8)
    centers = torch.from_numpy(grid[::3][:20].astype(np.float32)).repeat(4, 1)  # more ties than are listed
    check(Points(grid), centers, centers.flip(0))
    assert int(assign(grid, centers, kernel="native").max()) < 20


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("values", [
    [1e9, -1e9, 1.0, -1.0001, 0.9999], [5e-324, 1e-310, 0.0, -1e-308, 1.0], [1e150, -1e150, 1.0, 0.0, 3e-150],
])  # fmt: skip
def test_outliers_and_denormals(values):
    rng = np.random.RandomState(0)
    x = rng.choice(values, (200, 5)) * rng.choice([1.0, 1.0 + 2**-40], (200, 5))
    check(Points(x), torch.from_numpy(x[:30]), torch.from_numpy(x[30:60]))
    single = torch.from_numpy(x.clip(-1e30, 1e30).astype("f4"))
    check(Points(single), single[:30], single[30:60])


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [1e-10, 1e-18, 1e-21, 1e-23, 1e-26, 1e-40])
def test_centers_much_nearer_to_each_other_than_to_one_more(size):
    """Moved and scaled to lie near 1 together with the far one, their products underflow."""
    rng = np.random.RandomState(0)
    x = rng.randn(100, 4) * size
    centers = torch.from_numpy(np.vstack([np.ones((1, 4)) / 8, -np.ones((1, 4)) / 8, x[:20]]))
    check(Points(x), centers, centers.flip(0))
    check(Points(x.astype("f4")), centers.float(), centers.float().flip(0))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [1e8, 1e13, 1e16, 3e16, 1e17])
def test_points_so_far_away_that_float64_rounds_the_centers_off(size):
    rng = np.random.RandomState(0)
    x = rng.randn(200, 4) * size
    centers = torch.from_numpy(rng.randn(30, 4))
    check(Points(x), centers, centers.flip(0))
    check(Points(x.astype("f4")), centers.float(), centers.float().flip(0))


@pytest.mark.usefixtures("level")
@settings(max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from(["float32", "float64"]), st.integers(1, 20))
def test_centers_of_any_size(seed, dtype, d):
    """assign() takes centers that no run would make."""
    rng = np.random.RandomState(seed)
    x = rng.randn(40, d).astype(dtype)
    centers = rng.uniform(-1, 1, (8, d)) * rng.choice([1.0, 1e-300, 1e19, 1e30, 1e38, 1e200, 1e308, np.inf], (8, 1))
    points, centers = Points(x), torch.from_numpy(centers)
    assert native.assign(points, centers).equal(reference.assign(points, centers))


@pytest.mark.usefixtures("level")
def test_a_center_that_is_nan_counts_as_nearest():
    x = torch.arange(40.0).reshape(20, 2)
    centers = x[:3].clone()
    centers[1, 1] = centers[2, 0] = float("nan")
    check(Points(x), centers, x[:3])


@pytest.mark.usefixtures("level")
def test_any_layout_and_read_only_memory(tmp_path):
    rng = np.random.RandomState(0)
    whole = rng.randn(120, 50).astype("f4")
    np.save(tmp_path / "x.npy", whole)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (whole[::2, ::3], np.asfortranarray(whole), whole.T, mapped, torch.from_numpy(whole[:1]).expand(90, 50)):
        points = Points(x)
        centers = points.x[:5].clone()
        check(points, centers, centers + 0.5)
    assert np.array_equal(whole, np.load(tmp_path / "x.npy"))


@pytest.mark.usefixtures("level")
def test_a_run_takes_the_same_steps():
    x = np.random.RandomState(0).randn(500, 6).astype("f4")
    for ours, theirs in zip(lloyd(x, 9, seed=0, kernel="native"), lloyd(x, 9, seed=0, kernel="reference"), strict=True):
        assert ours.labels.equal(theirs.labels)
        assert ours.next_centers.equal(theirs.next_centers)
        assert (ours.loss, ours.shift, ours.stop) == (theirs.loss, theirs.shift, theirs.stop)


@pytest.mark.usefixtures("level")
@settings(max_examples=60)
@given(
    st.integers(0, 10**6), st.sampled_from(["float32", "float64", "uint8", "int16"]), st.integers(16, 150),
    st.integers(2, 40), st.sampled_from([1.0, 1e-30, 1e25]), st.sampled_from([0.0, 0.1, 30.0]), st.booleans(),
)  # fmt: skip
def test_rows_that_keep_their_label_unseen(seed, dtype, d, k, scale, spread, coarse):
    """Long rows remember how far their center was ahead; ties, small moves, and moves that undo each other."""
    rng = np.random.RandomState(seed)
    x = rng.randint(0, 3, (200, d)) if coarse else rng.randn(200, d) + rng.randn(5, d)[rng.randint(0, 5, 200)] * spread
    x = (x * scale).astype(dtype) if dtype.startswith("float") else np.abs(x * 9).clip(0, 255).astype(dtype)
    points = Points(x)
    centers = points.x[rng.randint(0, 200, k)].to(points.dtype)
    work, sure = native.Workspace(points, k), reference.Workspace(points, k)
    for step in range(6):
        ours = native.assign_and_sum(points, centers, work)
        same(ours, reference.assign_and_sum(points, centers, sure))
        move = torch.from_numpy(rng.randn(k, d) * float(centers.std()) * 10.0 ** -rng.randint(0, 6)).to(points.dtype)
        centers = means(ours, points, centers) if step % 3 else centers + move


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("k", [5, 40])
def test_late_steps_see_few_rows(k, dtype):
    rng = np.random.RandomState(0)
    means = rng.randint(0, 100, (k, 128))
    points = Points((means[np.arange(1000) % k] + rng.randint(0, 30, (1000, 128))).astype(dtype))
    centers = torch.from_numpy(means + 10.0).float()
    work = native.Workspace(points, k)
    native.assign_and_sum(points, centers, work)
    native.assign_and_sum(points, centers + 1e-3, work)
    assert (work.leads > work.moved.max() * 1.001).mean() > 0.99


def test_it_is_the_default_on_the_cpu(monkeypatch):
    monkeypatch.delenv("STEPFIT_KERNEL", raising=False)
    assert kernels.choose() == "native"
    assert kernels.choose(device=torch.device("cuda")) == "chunked"
    with pytest.raises(ValueError, match="native kernel is for the CPU, and x lies on cuda"):
        kernels.choose("native", torch.device("cuda"))


def test_a_level_that_the_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setenv("STEPFIT_ISA", "abacus")
    with pytest.raises(ValueError, match="STEPFIT_ISA is 'abacus'; this machine has generic"):
        assign([[0.0]], [[0.0]], kernel="native")


def test_ctrl_c_is_answered_between_blocks():
    """A pass of minutes ends soon after the signal; as sums may be half made, the workspace takes no other pass."""
    program = """
import _thread, threading, torch
from stepfit.kernels import native
from stepfit.kernels.points import Points
points = Points(torch.randn(1, 2).expand(10_000_000, 2))
work = native.Workspace(points, 200_000)
threading.Timer(0.5, _thread.interrupt_main).start()
try:
    native.assign_and_sum(points, torch.randn(200_000, 2), work)
except KeyboardInterrupt:
    print("interrupted")
try:
    native.assign_and_sum(points, torch.randn(200_000, 2), work)
except RuntimeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "interrupted",
        "a pass with this workspace goes on, or was broken off",
    ], done.stderr


# The door


ROWS = torch.randn(6, 3)
LAYOUTS = {
    "strides": lambda a: np.stack([a, a], -1)[..., 0],
    "a row too few": lambda a: a[:-1].copy(),
    "another dimension": lambda a: a[None],
    "another type": lambda a: a.astype(np.int16 if a.dtype.kind == "f" else np.float64),
    "another width": lambda a: a.astype(f"{a.dtype.kind}{12 - a.dtype.itemsize}"),
    "bytes swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "no array": lambda a: a.tolist(),
    "its address": lambda a: a.ctypes.data,
}  # fmt: skip
# What each function takes for 6 rows of 3 features and 2 centers; the names of what it writes to.
CENTERS = np.zeros((2, 3))
DOORS = {
    "run": (
        lambda centers, labels: native.Workspace(Points(ROWS), 2).module.run(1, centers, labels),
        {"centers": CENTERS, "labels": np.zeros(6, np.int32)},
        {"labels"},
    ),
    "label": (
        lambda centers, labels: compiled.module.label(1, compiled.rows(ROWS), centers, labels),
        {"centers": CENTERS.astype(np.float32), "labels": np.zeros(6, np.int32)},
        {"labels"},
    ),
    "distances": (
        lambda centers, labels, out: compiled.module.distances(1, compiled.rows(ROWS), centers, labels, out),
        {"centers": CENTERS, "labels": np.zeros(6, np.int32), "out": np.zeros(6)},
        {"out"},
    ),
    "all distances": (
        lambda centers, out: compiled.module.distances(1, compiled.rows(ROWS), centers, None, out),
        {"centers": CENTERS, "out": np.zeros((6, 2))},
        {"out"},
    ),
    "closer": (
        lambda centers, limits: compiled.module.closer(1, compiled.rows(ROWS), centers, limits),
        {"centers": CENTERS, "limits": np.ones(6)},
        set(),
    ),
    "extremes": (
        lambda largest: compiled.module.extremes(1, compiled.rows(ROWS), largest),
        {"largest": np.zeros(3)},
        {"largest"},
    ),
    "finish": (
        lambda **arrays: compiled.module.finish(1, mass_exponent=0, widest=1, heaviest=1, **arrays),
        {
            "sums": np.zeros((3, 2, 3), np.int64), "mass_high": np.ones(2), "mass_low": np.zeros(2),
            "to_values": np.ones(3), "to_unit": np.ones(3), "centers": CENTERS, "following": np.zeros((2, 3)),
        },
        {"following"},
    ),
    "a workspace": (
        lambda **arrays: compiled.module.Workspace(
            compiled.rows(ROWS), 2, near_one=1.0, square=1.0, scale_weight=1.0, lead_unit=1.0, **arrays
        ),
        {
            "weight": np.ones(6), "scale_before": np.ones(3), "scale_after": np.ones(3),
            "counts": np.zeros(2, np.int64), "sums": np.zeros((3, 2, 3), np.int64), "squares": np.zeros(4, np.int64),
            "masses": np.zeros((3, 2), np.int64), "leads": np.zeros(6, np.float32), "moved": np.zeros(2),
            "kept_pairs": np.zeros((6, 16), np.int32), "kept_norms": np.zeros(6, np.float32), "kept_frame": np.zeros(4),
        },
        {"counts", "sums", "squares", "masses", "leads", "moved", "kept_pairs", "kept_norms", "kept_frame"},
    ),
}  # fmt: skip


# Centers may be of either type of floats, and any number of them, where no other array says which.
FREE = {("run", "another width"), ("label", "another width")}
FREE |= {(door, "a row too few") for door in ("label", "distances", "closer")}


@pytest.mark.parametrize("door", DOORS)
def test_wrong_arrays_are_refused(door):
    call, arrays, written = DOORS[door]
    call(**arrays)  # as they should be
    for name, array in arrays.items():
        for layout, change in LAYOUTS.items():
            if name == "centers" and (door, layout) in FREE:
                continue
            with pytest.raises((TypeError, ValueError)):
                call(**{**arrays, name: change(array)})
        if name in written:
            fixed_array = array.copy()
            fixed_array.flags.writeable = False
            with pytest.raises(TypeError):
                call(**{**arrays, name: fixed_array})


def test_what_the_door_says():
    labels = np.zeros(6, np.int32)
    with pytest.raises(ValueError, match=r"centers has shape \(2, 4\); it must be \(2, 3\)"):
        compiled.module.label(1, compiled.rows(ROWS), np.zeros((2, 4)), labels)
    with pytest.raises(ValueError, match="a label names no center; labels must be from 0 to 1"):
        compiled.module.distances(1, compiled.rows(ROWS), CENTERS, labels + 2, np.zeros(6))
    call, arrays, _ = DOORS["a workspace"]
    with pytest.raises(ValueError, match="come together"):
        call(**{**arrays, "masses": None})
    for x in (ROWS.to(torch.complex64), torch.zeros(0, 3), np.zeros(3), np.zeros((2, 3), np.uint64), "rows"):
        with pytest.raises((TypeError, ValueError)):
            compiled.rows(x)


def test_the_rows_outlive_their_array():
    x = torch.arange(600_000.0).reshape(-1, 3)
    rows, largest = compiled.rows(x * 1), np.zeros(3)
    compiled.module.extremes(1, rows, largest)
    assert largest.tolist() == x[-1].tolist()


# The way it takes


@pytest.mark.parametrize(
    ("dtype", "d", "k", "path"),
    [
        (torch.float32, 2, 8, "narrow"),
        (torch.float64, 2, 8, "tiles"),
        (torch.float32, 784, 10, "tiles"),
        (torch.uint8, 8, 10, "tiles"),
        (torch.uint8, 64, 40, "tiles"),
        (torch.uint8, 64, 10, "bytes"),
        (torch.uint8, 784, 65, "tiles"),
        (torch.float32, 64, 256, "tiles"),
    ],
)
def test_the_path_is_told(level, dtype, d, k, path):
    assert native.path(dtype, 1000, d, k) == path


def test_lanes_are_features_where_an_instruction_multiplies_bytes(level):
    assert native.path(torch.uint8, 1000, 784, 10) == ("rows" if level == "avx512vnni" else "bytes")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo says what the processor can do")
def test_every_level_of_this_machine_is_tested():
    """What the kernel finds is what the processor says, so that no level is left out of the tests above unseen."""
    flags = set(re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    needs = {
        "generic": set(),
        "avx2": {"avx2", "fma", "f16c"},
        "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
        "avx512vnni": {"avx512_vnni"},
    }
    wanted, known = [], set()
    for level, more in needs.items():
        known |= more
        wanted += [level] * (known <= flags)
    assert wanted == LEVELS


def test_the_build_is_told():
    assert "-ffp-contract=off" in compiled.module.build
