"""Defects that other libraries have or had, each a test here, named after it."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from stepfit import KMeans, LinearRegression, LogisticRegression, MiniBatchKMeans, Stop, lloyd, record
from stepfit.kernels import KERNELS

# linear

SOLVERS = [
    LinearRegression(),
    *(LinearRegression(solver=name) for name in ("lbfgs", "sgd", "momentum", "nesterov", "adam")),
    *(LogisticRegression(solver=name) for name in ("lbfgs", "sgd", "momentum", "nesterov", "adam")),
]
GRADIENT = [model for model in SOLVERS if model.solver not in ("exact", "lbfgs")]
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
each = pytest.mark.parametrize("model", SOLVERS, ids=str)


def data(n=80, d=3):
    draw = np.random.default_rng(0)
    X = draw.normal(size=(n, d))
    return X, (X.sum(1) + draw.normal(size=n) > 0).astype(int)


@quiet
@each
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_torch_kmeans_subtracts_the_mean_in_place_from_the_callers_tensor(model, kind):
    X, y = map(kind, data())
    before = copy.deepcopy((X, y))
    clone(model).set_params(standardize=True).fit(X, y)
    assert (before[0] == X).all()
    assert (before[1] == y).all()


@quiet
@pytest.mark.parametrize("model", GRADIENT, ids=str)
@pytest.mark.parametrize("seed", [None, 0])
def test_fastkmeans_seeds_the_global_generators(model, seed):
    numpys, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    clone(model).set_params(batch_size=8, early_stopping=True, random_state=seed).fit(*data())
    assert np.array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torchs, torch.get_rng_state())


@pytest.mark.parametrize("model", GRADIENT, ids=str)
def test_mlverse_torch_516_a_rate_too_large_ends_in_nan_silently(model):
    X, y = data()
    model = clone(model).set_params(lr=1e9)
    with pytest.raises(ValueError, match=r"the run diverged at step \d+: the loss went from .*; try lr="):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("model", [LogisticRegression(solver=name) for name in ("lbfgs", "nesterov")], ids=str)
def test_a_single_class_is_refused_by_every_solver(model):
    with pytest.raises(ValueError, match="only one class"):
        clone(model).fit([[0.0], [1.0]], [1, 1])


@quiet
@each
def test_raw_pixels_make_plain_descent_diverge(model):
    """Features in the hundreds make the curvature 6.5e4 times as large; the automatic rate knows."""
    X, y = data()
    model = clone(model).fit(255 * abs(X), y)
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.predict(X)).all()


@quiet
@each
def test_constant_and_collinear_columns_give_numbers(model):
    X, y = data()
    X = np.column_stack([X, X[:, 0], np.ones(len(X)), np.zeros(len(X))])
    for standardize in (False, True):
        fit = clone(model).set_params(standardize=standardize).fit(X, y)
        assert np.isfinite(fit.coef_).all()
        assert fit.score(X, y) > 0.2


@pytest.mark.parametrize("model", [*GRADIENT, LogisticRegression(max_iter=3, tol=1e-12)], ids=str)
def test_a_feature_a_million_times_as_wide_is_only_seen_as_slow(model):
    X, y = data()
    X = X * [1, 1e6, 1]
    if model.solver != "adam":
        with pytest.warns(ConvergenceWarning, match=r"failed to converge.*feature 1 has scale \d.*, the middle one"):
            clone(model).fit(X, y)
    fit = clone(model).set_params(standardize=True, max_iter=5000, tol=1e-4).fit(X, y)
    assert fit.stop_ is Stop.TOLERANCE


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "momentum", "nesterov", "adam"])
def test_separable_classes_let_the_weights_grow_without_a_word(solver):
    with pytest.warns(ConvergenceWarning, match="the classes are separable"):
        model = LogisticRegression(C=np.inf, solver=solver, max_iter=300).fit(
            [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
        )
    assert np.isfinite(model.coef_).all()


def test_lightning_bolts_divides_the_loss_by_the_rows_twice():
    """So that the answer depends on how many rows there are: here all rows twice are the same problem."""
    X, y = data()
    twice = np.vstack([X, X]), np.concatenate([y, y])
    for one in (LinearRegression(solver="sgd", l2=0.1), LogisticRegression(solver="sgd", C=np.inf, max_iter=1000)):
        two = clone(one).fit(*twice)
        assert two.coef_ == pytest.approx(clone(one).fit(X, y).coef_, rel=1e-6)


def test_scikit_learn_16078_the_loss_reported_is_that_of_other_weights():
    X, y = data()
    with pytest.warns(ConvergenceWarning):
        model = LinearRegression(solver="sgd", batch_size=16, max_iter=7, random_state=0).fit(X, y)
    assert model.loss_ == pytest.approx(((model.predict(X) - y) ** 2).mean())


# k-means

BOTH = [KMeans(random_state=0), MiniBatchKMeans(batch_size=64, random_state=0)]
both = pytest.mark.parametrize("kind", BOTH, ids=["KMeans", "MiniBatchKMeans"])
each_kernel = pytest.mark.parametrize("kernel", sorted(KERNELS))


def points(n=500, d=4, k=8):
    draw = np.random.default_rng(0)
    return draw.normal(size=(n, d)) + 8 * draw.normal(size=(k, d))[draw.integers(k, size=n)]


def nearest(X, centers):
    """Labels and squared distances by the definition."""
    squares = ((np.asarray(X, float)[:, None] - np.asarray(centers, float)) ** 2).sum(2)
    return squares.argmin(1), squares.min(1)


def alone(program):
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


# Precision


@each_kernel
def test_scikit_learn_9354_float32_distances_far_from_the_origin_cancel(kernel):
    X = (1e4 + np.random.default_rng(0).normal(size=(200, 3)) * 1e-2).astype(np.float32)
    model = KMeans(6, init=X[:6], kernel=kernel).fit(X)
    labels, squares = nearest(X, model.cluster_centers_)
    assert np.array_equal(model.labels_, labels)
    assert model.transform(X).min(1) == pytest.approx(np.sqrt(squares), rel=1e-6)


@each_kernel
def test_scikit_learn_intelex_25_a_small_inertia_is_0(kernel):
    X = np.array([[1.0001], [0.9999], [-1.0001], [-0.9999]], np.float32)
    assert KMeans(2, init=X[[0, 2]], kernel=kernel).fit(X).inertia_ == pytest.approx(4e-8, rel=1e-3)


def test_pytorch_42479_the_distance_of_far_points_is_0():
    X = np.array([[1e6, 0.0], [1e6 + 109, 0.0], [1e6, 1.0]], np.float32)
    model = KMeans(2, init=X[:2]).fit(X)
    assert model.transform(X)[1, 0] == pytest.approx(109, rel=1e-2)


@each_kernel
def test_pytorch_57690_tf32_leaves_a_distance_from_a_point_to_itself(kernel):
    X = points().astype(np.float32)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        model = KMeans(random_state=0, kernel=kernel, max_iter=3).fit(X[:100])
        assert (model.transform(model.cluster_centers_).diagonal() == 0).all()
        assert np.array_equal(model.labels_, nearest(X[:100], model.cluster_centers_)[0])
    finally:
        torch.set_float32_matmul_precision(before)


@both
def test_pytorch_37734_the_result_of_a_row_depends_on_the_rows_beside_it(kind):
    X = points().astype(np.float32)
    model = clone(kind).fit(X)
    for rows in (slice(0, 1), slice(3, 20), slice(None, None, 7)):
        assert np.array_equal(model.predict(X[rows]), model.labels_[rows])
        assert np.array_equal(model.transform(X[rows]), model.transform(X)[rows])


@both
def test_pytorch_136748_half_precision_is_not_implemented_on_the_cpu(kind):
    for dtype in (torch.float16, torch.bfloat16):
        X = torch.from_numpy(points()).to(dtype)
        model = clone(kind).fit(X)
        assert model.cluster_centers_.dtype == torch.float32
        assert np.array_equal(model.labels_.numpy(), nearest(X.double(), model.cluster_centers_)[0])


@both
def test_kornia_4545_sums_of_float16_overflow(kind):
    X = np.full((3000, 2), 60_000, np.float16)
    X[::2] = -60_000
    model = clone(kind).set_params(n_clusters=2).fit(X)
    assert sorted(model.cluster_centers_[:, 0]) == [-60_000, 60_000]
    assert model.inertia_ == 0


def test_fastkmeans_casts_norms_to_fp16_which_overflow():
    X = np.array([[300.0] * 4, [301.0] * 4, [-300.0] * 4], np.float16)  # squared norms over 65,504
    assert KMeans(2, init=X[[0, 2]]).fit(X).labels_.tolist() == [0, 0, 1]


def test_flash_kmeans_19_float64_needs_more_memory_than_there_is():
    X = np.random.default_rng(0).normal(size=(50, 5000))
    model = KMeans(3, random_state=0).fit(X)
    assert model.cluster_centers_.dtype == np.float64
    assert np.array_equal(model.labels_, nearest(X, model.cluster_centers_)[0])


# Empty clusters and duplicates


def test_scikit_learn_34074_labels_after_a_relocation_are_not_those_of_predict():
    X = np.array([[1.0], [2.0], [3.0]])
    model = KMeans(3, init=[[4.0], [0.0], [1.0]]).fit(X)
    assert np.array_equal(model.labels_, model.predict(X))
    assert model.inertia_ == 0


@both
def test_scikit_learn_10059_duplicates_make_duplicate_centers_without_a_word(kind):
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(3\) found smaller than n_clusters \(8\)"):
        clone(kind).fit(np.repeat(points(3), 20, axis=0))


def test_scikit_learn_28055_more_clusters_than_distinct_points_never_end():
    X = np.array([[0, 0], [1, 1], [1, 1], [1, 0], [0, 1]])
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(4\)"):
        assert KMeans(5, init=X, tol=0).fit(X).n_iter_ == 2


def test_scikit_learn_13476_mini_batches_return_fewer_clusters():
    X = points(2000, 2, 50)
    model = MiniBatchKMeans(50, batch_size=100, random_state=0, exact=True).fit(X)
    assert len(np.unique(model.labels_)) == 50


@both
def test_kmeans_pytorch_3_an_empty_cluster_makes_its_center_nan(kind):
    X = points()
    far = np.vstack([X[:7], np.full((1, 4), 1e6)])
    model = clone(kind).set_params(init=far).fit(X)
    assert np.isfinite(model.cluster_centers_).all()
    assert np.isfinite(model.inertia_)
    assert len(np.unique(model.labels_)) == 8


def test_kmeans_pytorch_42_a_shift_of_nan_never_ends_the_run():
    X = points()
    start = np.vstack([X[:7], np.full((1, 4), 1e6)])
    with pytest.warns(ConvergenceWarning, match="distinct clusters"):
        model = KMeans(init=start, empty="nan", max_iter=30).fit(X)
    assert (model.stop_, model.n_iter_) == (Stop.MAX_STEPS, 30)  # NaN is nearest to all, and another takes over
    assert "its center became NaN" in model.events_[0]


@both
def test_kmcuda_24_nan_in_the_start_is_taken(kind):
    start = points()[:8]
    start[3, 1] = np.nan
    with pytest.raises(ValueError, match="a value that is NaN"):
        clone(kind).set_params(init=start).fit(points())


@pytest.mark.parametrize("rule", ["farthest", "keep"])
def test_dask_ml_heat_and_torch_kmeans_put_an_empty_center_at_the_origin(rule):
    X = points() + 100
    start = np.vstack([X[:7], np.full((1, 4), 1e6)])
    steps = list(KMeans(init=start, empty=rule).steps(X))
    moved = steps[0].next_centers[7].numpy()
    assert np.array_equal(moved, start[7]) if rule == "keep" else (moved == X).all(1).any()


@pytest.mark.parametrize("kind", [KMeans(50, random_state=0), MiniBatchKMeans(50, random_state=0, exact=True)], ids=str)
def test_fast_pytorch_kmeans_24_only_some_clusters_are_used(kind):
    model = clone(kind).fit(points(3000, 16, 50))
    assert np.bincount(model.labels_, minlength=50).min() > 0


def test_flash_kmeans_2_few_clusters_hold_nearly_all_points():
    model = KMeans(100, random_state=0).fit(points(5000, 8, 100))
    held = np.sort(np.bincount(model.labels_, minlength=100))[::-1]
    assert held[:10].sum() < 0.3 * held.sum()


@each_kernel
@pytest.mark.parametrize(
    "view", [lambda X: X[:, ::2], lambda X: X.T.copy().T, lambda X: X[::-1], lambda X: X[::3, 1:3]]
)
def test_flash_kmeans_2_input_that_is_not_contiguous_gives_other_results(kernel, view):
    X = view(points(90, 6))
    model, plain = (KMeans(3, random_state=0, kernel=kernel).fit(x) for x in (X, X.copy(order="C")))
    assert np.array_equal(model.cluster_centers_, plain.cluster_centers_)
    assert np.array_equal(model.labels_, plain.labels_)


# Memory and limits


@pytest.mark.parametrize("kernel", ["native", "chunked"])
def test_kmeans_pytorch_13_a_table_of_points_times_clusters_fills_the_memory(kernel):
    """400,000 rows and 200 centers would be 320 MB in float32."""
    program = f"""
import resource, numpy as np
from stepfit import KMeans
X = np.random.default_rng(0).normal(size=(400_000, 2)).astype(np.float32)
KMeans(2, max_iter=1, init=X[:2], kernel={kernel!r}).fit(X)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = KMeans(200, max_iter=1, init=X[:200], kernel={kernel!r}).fit(X)
model.predict(X)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert int(alone(program)) < 150_000


def test_torchpq_11_and_pytorch_2576_many_rows_are_refused():
    """More than 8,388,480 rows, and than the 2^24 kinds that torch.multinomial draws from."""
    X = torch.zeros(2**24 + 4, 1, dtype=torch.uint8)
    X[-2:] = torch.tensor([[100], [200]], dtype=torch.uint8)
    model = KMeans(3, random_state=0, max_iter=3).fit(X)
    assert model.inertia_ == 0
    assert len(set(model.labels_[-3:].tolist())) == 3


@both
def test_faiss_3234_and_torch_kmeans_15_data_in_a_file_must_fit_the_memory(kind, tmp_path):
    X = points().astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    model = clone(kind).fit(tmp_path / "x.npy")
    assert np.array_equal(model.cluster_centers_, clone(kind).fit(X).cluster_centers_)


@both
def test_scikit_learn_centers_a_copy_of_x_so_that_a_file_is_read_into_memory(kind, tmp_path):
    np.save(tmp_path / "x.npy", points())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")  # a write to it would raise
    assert np.array_equal(clone(kind).fit(mapped).labels_, clone(kind).fit(points()).labels_)
    assert np.array_equal(mapped, points())


@pytest.mark.parametrize("k", [1, 20])
def test_torch_kmeans_refuses_one_cluster_and_as_many_as_points(k):
    X = points(20)
    model = KMeans(k, random_state=0).fit(X)
    assert len(set(model.labels_)) == k
    assert model.cluster_centers_[0] == pytest.approx(X.mean(0)) if k == 1 else model.inertia_ == 0


def test_torch_kmeans_talks_unasked(capfd):
    KMeans(random_state=0).fit(points())
    MiniBatchKMeans(random_state=0).fit(points())
    assert capfd.readouterr() == ("", "")


# Stopping and reporting


def test_scikit_learn_16058_and_22519_what_tol_means_is_not_what_is_said():
    """Relative to the variance: the unit of X does not matter, nor where it lies."""
    X = points(2000).round(3)
    ends = [KMeans(init=Y[:8], tol=1e-2).fit(Y) for Y in (X, 1024 * X, X + 4096)]
    assert ends[0].stop_ is Stop.TOLERANCE
    assert len({end.n_iter_ for end in ends}) == 1
    *_, before, last = KMeans(init=X[:8], tol=1e-2).steps(X)
    assert before.shift <= 1e-2 * X.var(0).mean()
    assert torch.equal(last.centers, before.next_centers)


@both
@pytest.mark.parametrize("tol", [0.0, 0.1])
def test_scikit_learn_16078_and_6156_inertia_is_not_that_of_the_labels(kind, tol):
    X = points()
    model = clone(kind).set_params(tol=tol, max_iter=2).fit(X)
    labels, squares = nearest(X, model.cluster_centers_)
    assert np.array_equal(model.labels_, labels)
    assert model.inertia_ == pytest.approx(squares.sum(), rel=1e-12)
    assert model.score(X) == -model.inertia_


def test_dask_ml_sums_distances_that_are_not_squared_after_a_stop_by_tol():
    model = KMeans(2, init=[[0.0], [1.0]], tol=10.0).fit([[0.0], [1.0], [8.0], [9.0]])
    assert model.stop_ is Stop.TOLERANCE
    assert model.cluster_centers_.tolist() == [[0], [6]]
    assert model.inertia_ == 0 + 1 + 4 + 9


def test_heat_calls_the_shift_of_the_centers_inertia():
    assert KMeans(1, init=[[0.0]]).fit([[0.0], [2.0]]).inertia_ == 2


def test_faiss_1799_the_objective_is_not_that_of_the_end():
    X = points()
    *_, last = lloyd(X, 8, seed=0)
    assert last.inertia == pytest.approx(nearest(X, last.centers)[1].sum(), rel=1e-12)


def test_scikit_learn_20200_rounding_picks_the_better_of_equal_runs():
    """All runs end alike but for the names of the clusters: the first is kept."""
    X = np.repeat(np.array([[0.1], [0.7], [10.3], [11.9]]), 50, axis=0)
    model = KMeans(2, init="random", n_init=10, random_state=3).fit(X)
    first = record(lloyd(X, 2, start="random", seed=3)).last
    assert np.array_equal(model.labels_, first.labels.numpy())


def test_faiss_789_and_super_kmeans_learn_from_a_part_of_x():
    X = np.zeros((3000, 1))
    X[1234] = 3000
    assert KMeans(1, random_state=0).fit(X).cluster_centers_ == 1
    assert KMeans(2, random_state=0).fit(X).inertia_ == 0


@pytest.mark.parametrize("most", [1, 2, 5])
@both
def test_flash_kmeans_returns_new_centers_with_old_labels(kind, most):
    X = np.random.default_rng(0).normal(size=(2000, 3))
    model = clone(kind).set_params(max_iter=most).fit(X)
    assert np.array_equal(model.labels_, nearest(X, model.cluster_centers_)[0])


def test_cuml_7352_and_heat_document_a_start_that_is_another_or_none():
    for name in ("k-means++", "random", "farthest"):
        assert f'"{name}"' in KMeans.__doc__
        assert len(np.unique(KMeans(init=name, random_state=0).fit(points()).labels_)) == 8
    with pytest.raises(ValueError, match=r"'k-means\+\+'.*Got 'kmeans\+\+' instead"):
        KMeans(init="kmeans++").fit(points())


# Draws, threads, order


@both
def test_scikit_learn_27518_17944_and_9287_the_number_of_threads_changes_the_result(kind):
    X = np.random.default_rng(0).normal(size=(20_000, 10)).astype(np.float32)
    before, ends = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for kernel in ("chunked", "native"):
                ends.append(clone(kind).set_params(max_iter=5, kernel=kernel).fit(X))
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(end.cluster_centers_, ends[0].cluster_centers_) for end in ends)
    assert len({end.inertia_ for end in ends}) == 1


@each_kernel
def test_pytorch_56521_atomic_sums_depend_on_the_order_of_the_rows(kernel):
    X = (points() * 1e3).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(X))
    one, two = (KMeans(init=X[:8], kernel=kernel).fit(Y) for Y in (X, X[order]))
    assert np.array_equal(one.cluster_centers_, two.cluster_centers_)
    assert np.array_equal(one.labels_[order], two.labels_)
    assert one.inertia_ == two.inertia_


@both
def test_cuml_2771_without_a_seed_one_is_hidden(kind):
    X = points()
    seeds = {clone(kind).set_params(random_state=None).steps(X).settings["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert clone(kind).set_params(random_state=12).steps(X).settings["seed"] == 12


@both
@pytest.mark.parametrize("init", ["k-means++", "random", "farthest"])
def test_fastkmeans_seeds_the_global_generators_for_clusters(kind, init):
    numpys, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    clone(kind).set_params(init=init).fit(points())
    assert np.array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torchs, torch.get_rng_state())


@each_kernel
def test_fastkmeans_keeps_either_index_on_a_tie(kernel):
    X = np.tile([[0.0], [2.0]], (500, 1))
    model = KMeans(3, init=[[1.0], [3.0], [1.0]], max_iter=1, kernel=kernel)
    first = next(model.steps(X))
    assert first.labels.tolist() == [0] * 1000


def test_flash_kmeans_draws_the_same_row_twice_for_a_start():
    X = points(40)
    for seed in range(20):
        assert KMeans(40, init="random", n_init=1, random_state=seed).fit(X).inertia_ == 0


@pytest.mark.parametrize("init", ["k-means++", "random", "farthest"])
@both
def test_scikit_learn_25527_the_start_ignores_the_weights(kind, init):
    X = points()
    weight = np.ones(len(X))
    weight[::2] = 0
    X[::2] += 1e4  # the farthest, if they counted
    first = next(clone(kind).set_params(init=init).steps(X, weight))
    assert np.abs(first.centers.numpy()).max() < 1e3


def test_heat_draws_by_the_distance_and_not_its_square():
    """Two candidates of chances 1 to 9, the better kept: the near point wins 1 in 100 times, not 1 in 16."""
    X = np.array([[0.0]] * 2000 + [[1.0], [3.0]])
    near = sum(1.0 in next(KMeans(2, random_state=seed).steps(X)).centers for seed in range(400))
    assert near < 15


def test_dask_ml_calls_a_private_function_that_wants_weights():
    assert len(np.unique(KMeans(random_state=0).fit(points(), sample_weight=np.full(500, 0.5)).labels_)) == 8


@both
def test_scikit_learn_17848_scaling_the_weights_corrupts_the_inertia(kind):
    X, weight = points(), np.random.default_rng(0).uniform(0.5, 2, 500)
    one, eight = (clone(kind).fit(X, sample_weight=w) for w in (weight, 8 * weight))
    assert np.array_equal(one.cluster_centers_, eight.cluster_centers_)
    assert eight.inertia_ == 8 * one.inertia_
    assert one.inertia_ == pytest.approx((weight * nearest(X, one.cluster_centers_)[1]).sum(), rel=1e-12)


# Use


@both
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
def test_torch_kmeans_changes_the_callers_points(kind, convert):
    X, start = convert(points()), convert(points()[:8])
    before = copy.deepcopy((X, start))
    model = clone(kind).set_params(init=start).fit(X)
    model.cluster_centers_[:] = 0
    assert (before[0] == X).all()
    assert (before[1] == start).all()


def test_kmeans_pytorch_resumes_from_the_points_nearest_to_the_centers():
    X = points(2000)
    steps = list(KMeans(random_state=0, init="random", tol=0).steps(X))
    first = next(KMeans(init=steps[2]).steps(X))
    assert torch.equal(first.centers, steps[3].centers)
    assert torch.equal(first.labels, steps[3].labels)


def test_scikit_learn_29799_the_class_takes_long_to_import():
    loaded = alone("import sys, stepfit; stepfit.KMeans, stepfit.MiniBatchKMeans; print(*sys.modules)").split()
    assert "stepfit.estimators.kmeans" in loaded
    for heavy in ("sklearn.cluster", "sklearn.metrics", "sklearn.linear_model", "matplotlib", "stepfit.viewers"):
        assert heavy not in loaded


@both
def test_accord_net_1643_and_pyemma_326_the_iterations_cannot_be_seen(kind):
    seen = [(step.index, step.loss) for step in clone(kind).steps(points())]
    assert [index for index, _ in seen] == list(range(len(seen)))
    assert seen[-1][1] < seen[0][1]
