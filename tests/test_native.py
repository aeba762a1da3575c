"""The native kernel equals the reference kernel bit for bit: labels and totals, at every level of instructions."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import problems

from stepfit import assign, kernels, lloyd
from stepfit.kernels import compiled, native, reference
from stepfit.kernels.points import Points

if compiled.missing and os.environ.get("CI"):
    pytest.fail(f"CI has a compiler, but the native kernel is missing: {compiled.missing}")
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
    monkeypatch.setattr(native, "_SMALL", 0)
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
    first = native.assign_and_sum(points, centers, None)
    kept = first.labels.clone(), first.counts.clone()
    right = reference.assign_and_sum(points, centers, None)
    same(first, right)
    for ours, theirs in zip(first.finish(centers, points.scale), right.finish(centers, points.scale)):
        np.testing.assert_array_equal(ours, theirs)
    second = reference.assign_and_sum(points, others, first)
    same(native.assign_and_sum(points, others, first), second)
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
    ours = None
    for step in range(5):
        before, ours = ours, native.assign_and_sum(points, centers, ours)
        same(ours, reference.assign_and_sum(points, centers, before))
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
    same(native.assign_and_sum(points, centers, None), reference.assign_and_sum(points, centers, None))


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
    ours = None
    for step in range(6):
        before, ours = ours, native.assign_and_sum(points, centers, ours)
        right = reference.assign_and_sum(points, centers, before)
        same(ours, right)
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
    leads = native.assign_and_sum(points, centers + 1e-3, native.assign_and_sum(points, centers, None)).leads
    assert (leads.of_rows > leads.moved.max() * 1.001).double().mean() > 0.99


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
    """A step of minutes ends soon after the signal, and the totals of the step before are as they were."""
    program = """
import _thread, threading, torch
from stepfit.kernels import native
from stepfit.kernels.points import Points
points = Points(torch.randn(1, 2).expand(10_000_000, 2))
last = native.assign_and_sum(points, torch.randn(2, 2), None)
kept = last.sums.clone()
threading.Timer(0.5, _thread.interrupt_main).start()
try:
    native.assign_and_sum(points, torch.randn(200_000, 2), None)
except KeyboardInterrupt:
    print("interrupted", last.sums.equal(kept))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["interrupted", "True"], done.stderr


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


def test_the_build_is_told():
    assert "-ffp-contract=off" in compiled.module.build
