"""KMeans and MiniBatchKMeans: scikit-learn's conventions, its answers, and the last step of the run they keep."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import sklearn.cluster as peer
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from strategies import problems

import stepfit
import stepfit.estimators.kmeans
import stepfit.estimators.mini_batch
from stepfit import KMeans, MiniBatchKMeans, Recording, Stop, explain, lloyd, record
from stepfit.clustering.mini_batch import MiniBatchStep, mini_batches
from stepfit.estimators.arrays import shared_points

BOTH = [KMeans(3, random_state=0), MiniBatchKMeans(3, batch_size=50, random_state=0)]
both = pytest.mark.parametrize("model", BOTH, ids=["KMeans", "MiniBatchKMeans"])
LINE = np.array([[0.0], [1.0], [8.0], [9.0]])


def blobs(n=300, d=4, k=3, seed=0):
    return make_blobs(n, d, centers=k, random_state=seed)[0]


def inertia(X, centers, labels, weight=1.0):
    """The definition."""
    return (weight * ((np.asarray(X, float) - np.asarray(centers, float)[labels]) ** 2).sum(1)).sum()


def weights_are_drawn(estimator):
    """What scikit-learn says of its own k-means: weights have the chances of repeats, not their very draws."""
    return {"check_sample_weight_equivalence_on_dense_data": "the rows come in another order, so others are drawn"}


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::sklearn.exceptions.SkipTestWarning"
)
@parametrize_with_checks(
    [
        KMeans(2),
        MiniBatchKMeans(2, exact=True),
        MiniBatchKMeans(2, n_init=2, batch_size=10),
    ],
    expected_failed_checks=weights_are_drawn,
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# Answers by hand


def test_two_pairs_on_a_line():
    """From 0 and 1: labels 0 1 1 1, centers 0 and 6; then 0 0 1 1, 0.5 and 8.5; the third step changes nothing."""
    model = KMeans(2, init=[[0.0], [1.0]]).fit(LINE)
    assert model.cluster_centers_.tolist() == [[0.5], [8.5]]
    assert model.labels_.tolist() == [0, 0, 1, 1]
    assert model.labels_.dtype == np.int32
    assert model.inertia_ == 1.0
    assert model.n_iter_ == 3
    assert model.stop_ is Stop.CONVERGED
    assert model.events_ == ()
    assert model.predict([[4.0], [4.5], [5.0]]).tolist() == [0, 0, 1]  # on a tie the lowest
    assert model.transform([[2.5]]).tolist() == [[2.0, 6.0]]
    assert model.score([[2.5], [8.5]], sample_weight=[3.0, 1.0]) == -12.0
    assert model.get_feature_names_out().tolist() == ["kmeans0", "kmeans1"]


def test_weights_pull_a_center():
    model = KMeans(2, init=LINE[[0, 3]]).fit(LINE, sample_weight=[3.0, 1.0, 1.0, 1.0])
    assert model.cluster_centers_.tolist() == [[0.25], [8.5]]
    assert model.inertia_ == 3 * 0.25**2 + 0.75**2 + 0.5


def test_a_batch_of_known_points_moves_its_centers_to_the_mean_of_all_they_have_seen():
    """Pieces {0, 9} and {1, 1, 1, 8}: the first center is the mean of 0, 1, 1, 1, the second of 9 and 8."""
    model = MiniBatchKMeans(2, init=[[0.0], [9.0]]).partial_fit([[0.0], [9.0]])
    assert model.cluster_centers_.tolist() == [[0.0], [9.0]]
    model.partial_fit([[1.0], [1.0], [1.0], [8.0]])
    assert model.cluster_centers_.tolist() == [[0.75], [8.5]]
    assert model.counts_.tolist() == [4.0, 2.0]
    assert model.n_steps_ == 2
    assert model.labels_.tolist() == [0, 0, 0, 1]
    assert model.inertia_ == 3 * 0.25**2 + 0.5**2
    model.partial_fit([[2.75]], sample_weight=[4.0])
    assert model.cluster_centers_[0] == pytest.approx(1.75)


# Agreement with scikit-learn, and with the core


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "d", "k"), [(20_000, 8, 30), (5_000, 50, 12), (10_000, 2, 8)])
def test_the_answer_from_the_same_start_is_scikit_learns(n, d, k, weighted, dtype):
    X = blobs(n, d, k).astype(dtype)
    weight = np.random.default_rng(0).uniform(0.1, 3, n) if weighted else None
    start = X[np.random.default_rng(1).choice(n, k, replace=False)].astype(np.float64)
    ours, theirs = (
        kind(k, init=start, n_init=1, tol=0, max_iter=1000).fit(X.astype(np.float64), sample_weight=weight)
        for kind in (KMeans, peer.KMeans)
    )
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-12)
    assert ours.cluster_centers_ == pytest.approx(theirs.cluster_centers_, rel=1e-9, abs=1e-9)
    assert ours.n_iter_ == theirs.n_iter_
    narrow = KMeans(k, init=start, tol=0, max_iter=1000).fit(X, sample_weight=weight)
    assert narrow.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6)


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-4])
def test_tol_is_scikit_learns(tol):
    X = np.random.default_rng(0).normal(size=(3000, 5)) * [1, 2, 3, 4, 5]
    ours, theirs = (kind(6, init=X[:6], n_init=1, tol=tol).fit(X) for kind in (KMeans, peer.KMeans))
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.stop_ is Stop.TOLERANCE
    assert ours.n_iter_ == theirs.n_iter_ + 1  # the step that gives the labels counts too


def test_one_run_is_lloyds_and_its_last_step_is_what_fit_keeps():
    X = blobs()
    model = KMeans(3, random_state=7, tol=0)
    *_, last = lloyd(X, 3, seed=7)
    *_, step = model.steps(X)
    assert not hasattr(model, "n_features_in_")
    model.fit(X)
    for end in (last, step):
        assert np.array_equal(model.cluster_centers_, end.centers.numpy())
        assert np.array_equal(model.labels_, end.labels.numpy())
        assert model.inertia_ == end.inertia


def test_the_batches_of_fit_are_its_steps():
    X = blobs()
    model = MiniBatchKMeans(3, batch_size=20, random_state=3)
    steps = list(model.steps(X))
    assert not hasattr(model, "n_features_in_")
    model.fit(X)
    assert isinstance(steps[0], MiniBatchStep)
    assert model.n_steps_ == len(steps)
    assert np.array_equal(model.cluster_centers_, steps[-1].next_centers.numpy())
    assert np.array_equal(model.counts_, steps[-1].next_seen.numpy())
    assert model.counts_.sum() >= 20 * len(steps)


@both
def test_the_answer_is_of_the_seed_alone(model):
    X = blobs(2000)
    first = clone(model).fit(X)
    for kernel in (None, "chunked"):
        again = clone(model).set_params(kernel=kernel).fit(X)
        assert np.array_equal(first.cluster_centers_, again.cluster_centers_)
    with ThreadPoolExecutor(2) as pool:
        for other in pool.map(lambda _: clone(model).fit(X), range(2)):
            assert np.array_equal(first.cluster_centers_, other.cluster_centers_)
    drawn = clone(model).set_params(random_state=np.random.RandomState(5))
    assert not np.array_equal(drawn.fit(X).cluster_centers_, drawn.fit(X).cluster_centers_)  # as in scikit-learn


# Properties


@given(problems(weighted=None), st.integers(1, 4), st.sampled_from([0.0, 1e-2]))
def test_labels_are_those_of_predict_and_inertia_is_the_sum_of_squared_distances(problem, most, tol):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        models = [
            KMeans(problem.k, init=problem.start, max_iter=most, tol=tol).fit(problem.x, sample_weight=problem.weight),
            *(
                MiniBatchKMeans(
                    problem.k, init=problem.start, batch_size=3, max_iter=most, exact=exact, random_state=0
                ).fit(problem.x, sample_weight=problem.weight)
                for exact in (False, problem.weight is None)
            ),
        ]
    weight = 1.0 if problem.weight is None else problem.weight
    size = np.abs(problem.x.astype(float)).max() ** 2 * np.sum(np.broadcast_to(weight, len(problem.x)))
    for model in models:
        assert np.array_equal(model.labels_, model.predict(problem.x))
        assert model.inertia_ == -model.score(problem.x, sample_weight=problem.weight)
        exact = inertia(problem.x, model.cluster_centers_, model.labels_, weight)
        assert model.inertia_ == pytest.approx(exact, rel=1e-9, abs=1e-13 * size)
        nearest = model.transform(problem.x)[np.arange(len(problem.x)), model.labels_]
        assert (nearest <= model.transform(problem.x).min(1)).all()
        assert model.n_iter_ <= most
    if problem.weight is not None:  # rounding of weights far apart may move centers to and fro
        return
    done = models[2]
    assert done.stop_ is Stop.CONVERGED
    again = KMeans(problem.k, init=done.cluster_centers_, tol=0, empty="keep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        again.fit(problem.x, sample_weight=problem.weight)
    assert np.array_equal(again.labels_, done.labels_)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_max_iter_counts_updates_and_labels_belong_to_the_last(most):
    X = np.random.default_rng(0).normal(size=(500, 3))
    ours, theirs = (kind(5, init=X[:5], n_init=1, tol=0, max_iter=most).fit(X) for kind in (KMeans, peer.KMeans))
    assert ours.n_iter_ == theirs.n_iter_ == most
    assert ours.stop_ is Stop.MAX_STEPS
    assert ours.cluster_centers_ == pytest.approx(theirs.cluster_centers_)
    assert np.array_equal(ours.labels_, theirs.labels_)


def test_of_several_runs_the_best_is_kept_and_of_equals_the_first():
    X = blobs(400, 2, 9, seed=4)
    model = KMeans(9, init="random", n_init=6, random_state=1, tol=0)
    seeds = [1, *np.random.SeedSequence(1).generate_state(5).tolist()]
    ends = [record(lloyd(X, 9, start="random", seed=seed)).last for seed in seeds]
    inertias = [end.inertia for end in ends]
    assert len(set(inertias)) > 2
    assert np.argmin(inertias) > 0
    model.fit(X)
    assert model.inertia_ == min(inertias)
    assert np.array_equal(model.cluster_centers_, ends[int(np.argmin(inertias))].centers.numpy())
    for seed in (2, 3, 4):  # every run ends with 1, the first and the last with labels the other way round
        equal = KMeans(2, init="random", n_init=8, random_state=seed).fit(LINE)
        assert np.array_equal(equal.labels_, record(lloyd(LINE, 2, start="random", seed=seed)).last.labels.numpy())


def test_an_inertia_that_is_no_number_is_never_the_best():
    X = np.repeat(LINE, 2, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ends = [
            KMeans(3, init="random", n_init=1, empty="nan", random_state=seed).fit(X).inertia_ for seed in range(30)
        ]
        assert np.isnan(ends).any()
        seed = int(np.isnan(ends).argmax())
        assert KMeans(3, init="random", n_init=20, empty="nan", random_state=seed).fit(X).inertia_ < 10


@pytest.mark.parametrize(
    ("init", "runs"),
    [("k-means++", 1), ("farthest", 1), ("random", 10), (lambda X, k, random_state: X[:k], 10), (LINE[:2], 1)],
)
def test_auto_tries_more_starts_where_each_is_a_matter_of_luck(init, runs, monkeypatch):
    calls = []
    monkeypatch.setattr(
        stepfit.estimators.kmeans, "lloyd", lambda *args, **options: calls.append(options) or lloyd(*args, **options)
    )
    KMeans(2, init=init).fit(LINE)
    assert len(calls) == runs
    assert len({call["seed"] for call in calls}) == runs


def test_a_callable_is_called_as_by_scikit_learn():
    seen = []

    def init(X, n_clusters, random_state):
        seen.append((X, n_clusters, random_state))
        return X[random_state.choice(len(X), n_clusters, replace=False)]

    X = blobs()
    KMeans(3, init=init, n_init=2).fit(X)
    KMeans(3, init=init, n_init=1).fit(torch.from_numpy(X))
    MiniBatchKMeans(3, init=init, n_init=2).fit(X)
    assert isinstance(seen[0][0], np.ndarray)
    assert isinstance(seen[2][0], torch.Tensor)
    assert all(isinstance(random, np.random.RandomState) and k == 3 for _, k, random in seen)
    assert len(seen) == 5


# Warm starts


def test_fit_goes_on_from_a_step_or_a_recording():
    X = blobs(1000, 3, 12)
    run = record(lloyd(X, 12, start="random", seed=0))
    assert len(run) > 8
    for init in (run[3], Recording(run[:4], run.settings, Stop.INTERRUPTED)):
        model = KMeans(12, init=init, tol=0).fit(X)
        assert np.array_equal(model.labels_, run.last.labels.numpy())
        assert model.inertia_ == run.last.inertia
        assert model.n_iter_ == len(run) - 4
    more = KMeans(12, init=run[3]).fit(X[:500])  # on other rows
    assert more.n_iter_ >= 1
    batches = record(mini_batches(X, 12, seed=0, batch_size=100))
    assert KMeans(12, init=batches).fit(X).inertia_ <= inertia(
        X, batches.last.next_centers, stepfit.assign(X, batches.last.next_centers).numpy()
    )
    assert clone(model).fit(X).inertia_ == model.inertia_


def test_a_recording_of_something_else_is_no_start():
    run = record(stepfit.linear_regression([[0.0], [1.0]], [0.0, 1.0], max_steps=2))
    with pytest.raises(TypeError, match="init is a recording of DescentStep; one of k-means steps has centers"):
        KMeans(2, init=run).fit(LINE)


# Kinds of arrays


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.float16, torch.int64])
def test_a_tensor_in_gives_tensors_out(model, dtype):
    X = (torch.from_numpy(blobs()) * 4 + 100).to(dtype)
    fit = clone(model).fit(X)
    wide = torch.float64 if dtype in (torch.float64, torch.int64) else torch.float32
    assert fit.cluster_centers_.dtype == wide
    assert fit.labels_.dtype == torch.int32
    assert torch.equal(fit.predict(X), fit.labels_)
    assert fit.transform(X).dtype == wide
    assert fit.score(X) == -fit.inertia_
    assert isinstance(fit.fit_predict(X), torch.Tensor)
    assert isinstance(fit.fit_transform(X), torch.Tensor)
    assert isinstance(fit.predict(X.numpy()), np.ndarray)
    same = clone(model).fit(X.numpy())
    assert np.array_equal(same.cluster_centers_, fit.cluster_centers_.numpy())
    with pytest.raises(ValueError, match=r"2 features, but \w*KMeans is expecting 4"):
        fit.predict(X[:, :2])


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int8", "float16", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda X: np.repeat(X, 2, 0)[::2]])
@both
def test_x_is_neither_copied_nor_changed(model, dtype, layout):
    X = layout((blobs() * 4 + 100).clip(0, 127).astype(dtype))
    x = shared_points(clone(model), X, reset=True)
    assert x.data_ptr() == X.ctypes.data
    assert str(x.dtype) == f"torch.{dtype}"
    before = X.copy()
    X.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # bool has few distinct points
        fit = clone(model).fit(X)
    fit.transform(X)
    assert np.array_equal(X, before)


@both
def test_a_file_is_mapped_and_not_read_into_memory(model, tmp_path):
    X = blobs().astype(np.float32)
    path = tmp_path / "x.npy"
    np.save(path, X)
    want = clone(model).fit(X)
    for given_x in (path, str(path), np.load(path, mmap_mode="r")):
        fit = clone(model).fit(given_x)
        assert isinstance(fit.labels_, np.ndarray)
        assert np.array_equal(fit.cluster_centers_, want.cluster_centers_)
        assert np.array_equal(fit.predict(given_x), want.labels_)
        assert fit.score(given_x) == want.score(X)
    mapped = np.load(path, mmap_mode="r")
    assert shared_points(clone(model), mapped, reset=True).data_ptr() == mapped.ctypes.data
    assert len(list(clone(model).steps(path))) > 1
    with pytest.raises(ValueError, match=r"x\.csv; a path must name a \.npy file"):
        clone(model).fit(tmp_path / "x.csv")


@both
@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
def test_frames_are_taken_and_given_back(model, library):
    X = blobs()
    frame = library.DataFrame({name: X[:, i] for i, name in enumerate("abcd")})
    fit = clone(model).set_output(transform=library.__name__).fit(frame)
    assert list(fit.feature_names_in_) == list("abcd")
    out = fit.transform(frame)
    assert isinstance(out, library.DataFrame)
    assert list(out.columns) == list(fit.get_feature_names_out())
    assert isinstance(clone(model).set_output(transform=library.__name__).fit_transform(frame), library.DataFrame)
    assert np.array_equal(fit.labels_, clone(model).fit(X).labels_)
    with pytest.raises(ValueError, match="feature names should match"):
        fit.predict(frame[list("bacd")])


def test_global_generators_are_left_alone():
    X = blobs()
    numpys, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    for model in (KMeans(3, init="random"), MiniBatchKMeans(3, batch_size=20), MiniBatchKMeans(3, init="random")):
        model.fit(X)
    MiniBatchKMeans(3).partial_fit(X)
    assert np.array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torchs, torch.get_rng_state())


# Among scikit-learn's tools


@both
def test_it_lives_among_scikit_learns_tools(model, tmp_path):
    X = blobs()
    fit = clone(model).fit(X)
    assert clone(fit).get_params() == model.get_params()
    joblib.dump(fit, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(fit)), joblib.load(tmp_path / "model.joblib"), copy.deepcopy(fit)):
        assert np.array_equal(again.predict(X), fit.labels_)
        assert again.stop_ is fit.stop_
    piped = make_pipeline(StandardScaler(), clone(model)).fit(X)
    assert np.array_equal(piped.predict(X), piped[-1].labels_)
    search = GridSearchCV(clone(model), {"n_clusters": [2, 3, 8], "init": ["random", "k-means++"]}).fit(X)
    assert search.best_params_["n_clusters"] == 8  # the score only ever rises with more
    frame = pd.DataFrame(X, columns=list("abcd"))
    columns = ColumnTransformer([("near", clone(model), ["a", "b"])], remainder="passthrough").fit(frame)
    prefix = type(model).__name__.lower()
    assert list(columns.get_feature_names_out()[:3]) == [f"near__{prefix}{j}" for j in range(3)]
    assert "init='random'" in repr(clone(model).set_params(init="random"))


@both
def test_weights_are_routed(model):
    X, weight = blobs(), np.linspace(0, 2, 300)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = clone(model).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        piped = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asked).fit(X, sample_weight=weight)
        direct = clone(model).fit(StandardScaler().fit_transform(X), sample_weight=weight)
        assert np.array_equal(piped[-1].cluster_centers_, direct.cluster_centers_)
        heavy = GridSearchCV(asked, {"n_clusters": [3]}).fit(X, sample_weight=8 * weight)
        light = GridSearchCV(asked, {"n_clusters": [3]}).fit(X, sample_weight=weight)
        assert heavy.best_score_ == 8 * light.best_score_


@both
def test_fit_predict_and_fit_transform_take_weights(model):
    X, weight = blobs(), np.linspace(0, 2, 300)
    fit = clone(model).fit(X, sample_weight=weight)
    assert np.array_equal(clone(model).fit_predict(X, sample_weight=weight), fit.labels_)
    assert np.array_equal(clone(model).fit_transform(X, sample_weight=weight), fit.transform(X))
    assert fit.inertia_ == pytest.approx(inertia(X, fit.cluster_centers_, fit.labels_, weight))


# Ctrl-C, and what is said


def interrupts(at):
    """A lloyd that is interrupted at the step of this number, counted over all runs."""
    made = iter(range(10_000))

    def run(*args, **options):
        for step in lloyd(*args, **options):
            if next(made) == at:
                raise KeyboardInterrupt
            yield step

    return run


@pytest.mark.parametrize("at", [1, 4])
def test_ctrl_c_keeps_the_last_whole_step(at, monkeypatch):
    X = blobs(1000, 3, 12)
    steps = list(KMeans(12, random_state=0, init="random").steps(X))
    monkeypatch.setattr(stepfit.estimators.kmeans, "lloyd", interrupts(at))
    with pytest.warns(ConvergenceWarning, match="the run was interrupted"):
        model = KMeans(12, random_state=0, init="random").fit(X)
    assert model.stop_ is Stop.INTERRUPTED
    assert np.array_equal(model.cluster_centers_, steps[at - 1].centers.numpy())
    assert np.array_equal(model.predict(X), model.labels_)
    assert model.events_[-1] == Stop.INTERRUPTED.value
    monkeypatch.undo()
    after = KMeans(12, init=replace(steps[at - 1], stop=Stop.INTERRUPTED), tol=1e-4).fit(X)
    assert np.array_equal(after.labels_, steps[-1].labels.numpy())


def test_ctrl_c_in_a_later_run_keeps_the_best_of_those_before():
    X = blobs(1000, 3, 12)
    made = iter(range(5))

    def init(X, k, random_state):
        if next(made) == 3:
            raise KeyboardInterrupt
        return X[random_state.choice(len(X), k, replace=False)]

    with pytest.warns(ConvergenceWarning, match="the run was interrupted"):
        cut = KMeans(12, init=init, n_init=5, random_state=0).fit(X)
    made = iter(range(10, 20))
    assert cut.inertia_ == KMeans(12, init=init, n_init=3, random_state=0).fit(X).inertia_
    assert cut.stop_ is Stop.INTERRUPTED


@pytest.mark.parametrize("model", BOTH, ids=["KMeans", "MiniBatchKMeans"])
def test_ctrl_c_before_the_first_step_is_let_through(model):
    def init(X, k, random_state):
        raise KeyboardInterrupt

    model = clone(model).set_params(init=init)
    with pytest.raises(KeyboardInterrupt):
        model.fit(blobs())
    assert not hasattr(model, "cluster_centers_")


@pytest.mark.parametrize("where", ["batches", "lloyd"])
def test_ctrl_c_keeps_the_last_whole_batch(where, monkeypatch):
    X = blobs(1000, 3, 12)
    model = MiniBatchKMeans(12, batch_size=50, random_state=0, exact=True)
    steps = list(model.steps(X))
    module = stepfit.kernels.KERNELS[stepfit.kernels.choose()]
    seen = iter(range(10_000))
    real = module.assign_and_sum

    def cut(points, centers, workspace=None):
        counts = points.n == 50 if where == "batches" else workspace is not None
        if counts and next(seen) == (4 if where == "batches" else 1):
            raise KeyboardInterrupt
        return real(points, centers, workspace)

    monkeypatch.setattr(module, "assign_and_sum", cut)
    with pytest.warns(ConvergenceWarning, match="the run was interrupted"):
        model.fit(X)
    assert model.stop_ is Stop.INTERRUPTED
    wanted = steps[3] if where == "batches" else steps[-1]
    assert np.array_equal(model.cluster_centers_, wanted.next_centers.numpy())
    assert np.array_equal(model.labels_, stepfit.assign(X, model.cluster_centers_).numpy())


@both
def test_fewer_clusters_than_asked_for_are_named(model):
    X = np.repeat(LINE[:2], 10, axis=0)
    words = r"Number of distinct clusters \(2\) found smaller than n_clusters \(3\)\. Possibly due to duplicate points"
    with pytest.warns(ConvergenceWarning, match=words):
        fit = clone(model).fit(X)
    assert "distinct clusters (2)" in fit.events_[-1]
    assert np.isfinite(fit.cluster_centers_).all()


def test_empty_clusters_are_told_with_the_step():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = KMeans(2, init=[[0.0], [100.0]]).fit(LINE)
    assert model.events_ == ("step 0: cluster 1 was empty; its center moved to point 3",)
    with pytest.warns(ConvergenceWarning):
        assert KMeans(2, init=[[0.0], [100.0]], empty="keep").fit(LINE).cluster_centers_.tolist() == [[4.5], [100.0]]


# Mini-batches


def test_batches_come_near_and_exact_ends_where_lloyd_does():
    X = blobs(5000, 6, 10)
    best = KMeans(10, random_state=0, n_init=5).fit(X).inertia_
    near = MiniBatchKMeans(10, random_state=0).fit(X)
    assert near.inertia_ < 1.05 * best
    assert near.stop_ is Stop.PLATEAU
    done = MiniBatchKMeans(10, random_state=0, exact=True).fit(X)
    again = KMeans(10, init=near.cluster_centers_, tol=0).fit(X)
    assert np.array_equal(done.cluster_centers_, again.cluster_centers_)
    assert np.array_equal(done.labels_, again.labels_)
    assert done.counts_.tolist() == np.bincount(done.labels_).tolist()
    assert done.stop_ is Stop.CONVERGED
    assert done.inertia_ == again.inertia_


def test_a_step_is_sculleys_update():
    """Point by point: the rate of a center is one over what it has seen."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    steps = list(mini_batches(X, 4, start=X[:4], batch_size=16, max_epochs=3, reassignment_ratio=0.0, seed=0))
    assert len(steps) == 3 * 200 // 16
    for before, after in pairwise(steps):
        assert after.centers is before.next_centers
        assert after.seen is before.next_seen
    for step in steps:
        centers, seen = step.centers.numpy().copy(), step.seen.numpy().copy()
        for row, label in zip(step.rows.tolist(), step.labels.tolist()):
            seen[label] += 1
            centers[label] += (X[row] - centers[label]) / seen[label]
        assert step.next_centers.numpy() == pytest.approx(centers, abs=1e-12)
        assert step.next_seen.numpy() == pytest.approx(seen)
        assert np.array_equal(step.labels.numpy(), stepfit.assign(X[step.rows.numpy()], step.centers).numpy())
        assert step.loss == pytest.approx(inertia(X[step.rows.numpy()], step.centers, step.labels.numpy()) / 16)
        assert step.epoch == step.index * 16 // 200


def test_kept_batches_never_change():
    kept = [(step, copy.deepcopy(step)) for step in MiniBatchKMeans(3, batch_size=10, random_state=0).steps(blobs())]
    assert len(kept) > 10
    for step, then in kept:
        for name in ("rows", "labels", "centers", "seen", "next_centers", "next_seen"):
            assert torch.equal(getattr(step, name), getattr(then, name))


def test_a_center_that_has_seen_little_moves_to_a_point():
    X = blobs(600, 2, 3)
    start = np.vstack([X[:2], [[1e4, 1e4]]])  # the last is nearest to nothing
    steps = list(mini_batches(X, 3, start=start, batch_size=30, seed=0))
    assert steps[0].events
    assert steps[0].events[0].startswith("cluster 2 had seen 0 of at most ")
    row = int(steps[0].events[0].rpartition(" ")[2])
    assert row in steps[0].rows.tolist()
    assert np.array_equal(steps[0].next_centers[2].numpy(), X[row])
    assert steps[0].next_seen[2] == steps[0].next_seen[:2].min()
    never = list(mini_batches(X, 3, start=start, batch_size=30, seed=0, reassignment_ratio=0.0))
    assert not any(step.events for step in never)
    assert np.array_equal(never[-1].next_centers[2].numpy(), start[2])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_no_improvement": 3}, Stop.PLATEAU),
        ({"tol": 1e-3, "max_no_improvement": None}, Stop.TOLERANCE),
        ({"max_no_improvement": None, "max_iter": 4}, Stop.MAX_STEPS),
    ],
)
def test_batches_end_for_a_reason(options, reason):
    X = blobs()
    model = MiniBatchKMeans(3, batch_size=20, random_state=0, **options).fit(X)
    assert model.stop_ is reason
    if reason is Stop.MAX_STEPS:
        assert (model.n_iter_, model.n_steps_) == (4, 60)
    else:
        assert model.n_iter_ < 100


def test_the_running_mean_forgets_the_start_and_ends_the_run_once_it_stays():
    steps = list(mini_batches(blobs(1000), 3, batch_size=50, max_no_improvement=5, seed=0))
    fade = 2 * 50 / 1001
    assert steps[1].smoothed == steps[1].loss
    for before, after in pairwise(steps[1:]):
        assert after.smoothed == pytest.approx((1 - fade) * before.smoothed + fade * after.loss)
    means = [step.smoothed for step in steps[1:]]
    assert min(means[:-5]) <= min(means[-5:])
    assert min(means[:-6]) > means[-6]


def test_data_may_come_in_pieces():
    X = blobs(3000, 4, 5)
    np.random.default_rng(0).shuffle(X)
    model = MiniBatchKMeans(5, random_state=0, n_init=5)
    for first in range(0, 3000, 100):
        model.partial_fit(X[first : first + 100])
        assert np.array_equal(model.labels_, model.predict(X[first : first + 100]))
    assert -model.score(X) < 1.1 * KMeans(5, random_state=0, n_init=5).fit(X).inertia_
    assert model.counts_.sum() == pytest.approx(3000, rel=0.05)
    one, same, other = (MiniBatchKMeans(5, random_state=seed).partial_fit(X[:100]) for seed in (1, 1, 2))
    assert np.array_equal(one.cluster_centers_, same.cluster_centers_)
    assert not np.array_equal(one.cluster_centers_, other.cluster_centers_)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(model.partial_fit(X).cluster_centers_, again.partial_fit(X).cluster_centers_)
    assert model.partial_fit(X[:1].astype(np.float32)).cluster_centers_.dtype == np.float64


def test_a_first_piece_with_fewer_rows_than_clusters_is_refused():
    model = MiniBatchKMeans(3)
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3: give more rows, or ask for fewer"):
        model.partial_fit(LINE[:2])
    assert not hasattr(model, "cluster_centers_")
    model.partial_fit(LINE).partial_fit(LINE[:1])
    assert model.n_steps_ == 2
    with pytest.raises(ValueError, match="2 features, but MiniBatchKMeans is expecting 1"):
        model.partial_fit([[0.0, 1.0]])


def test_fit_begins_anew_and_partial_fit_goes_on():
    X = blobs()
    model = MiniBatchKMeans(3, random_state=0)
    first = model.fit(X).cluster_centers_
    steps = model.n_steps_
    assert not np.array_equal(model.partial_fit(X).cluster_centers_, first)
    assert model.n_steps_ == steps + 1
    assert np.array_equal(model.fit(X).cluster_centers_, first)


def test_more_clusters_than_rows_of_a_batch():
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(98\)"):
        model = MiniBatchKMeans(100, batch_size=10, random_state=0).fit(blobs())
    assert len(np.unique(model.labels_)) > 80


def test_rows_of_no_weight_are_never_drawn():
    X = np.vstack([np.full((300, 4), 1e6), blobs()])
    weight = np.repeat([0.0, 1.0], 300)
    model = MiniBatchKMeans(3, batch_size=20, random_state=0)
    assert all(int(step.rows.min()) >= 300 for step in model.steps(X, weight))
    assert abs(model.fit(X, sample_weight=weight).cluster_centers_).max() < 100


def test_a_recording_of_batches_is_saved_loaded_and_explained(tmp_path):
    X = blobs()
    run = record(MiniBatchKMeans(3, batch_size=20, random_state=0).steps(X))
    again = Recording.load(run.save(tmp_path / "run.npz"))
    assert len(again) == len(run)
    assert again.stop is run.stop
    assert again.settings == run.settings
    for a, b in zip(again, run):
        assert isinstance(a, MiniBatchStep)
        assert a.events == b.events
        assert (a.loss, a.smoothed, a.epoch) == (b.loss, b.smoothed, b.epoch)
        assert all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("rows", "labels", "next_centers", "next_seen"))
    told = str(explain(again, X))
    assert "fell no further for a while; raise max_no_improvement" in told
    assert list(stepfit.progress(MiniBatchKMeans(3, random_state=0).steps(X)))


# Bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_clusters": 0}, "'n_clusters' parameter of .*KMeans must be an int in the range"),
        ({"n_clusters": 2.5}, "'n_clusters' parameter"),
        ({"n_clusters": 5}, "n_samples=4 should be >= n_clusters=5: give more rows, or ask for fewer clusters"),
        ({"init": "kmeans++"}, "'init' parameter of .*'k-means\\+\\+'"),
        ({"init": 3}, "'init' parameter"),
        ({"init": None}, "'init' parameter"),
        ({"init": LINE}, r"shape of the initial centers \(4, 1\) does not match the number of clusters; .* \(2, 1\)"),
        ({"init": [0.0, 1.0]}, r"shape of the initial centers \(2,\) does not match the number of clusters"),
        ({"init": np.zeros((2, 3))}, r"\(2, 3\) does not match the number of features of the data; .* \(2, 1\)"),
        ({"init": lambda X, k, random_state: X}, r"\(4, 1\) does not match the number of clusters"),
        ({"init": [[np.nan], [0.0]]}, "a value that is NaN"),
        ({"n_init": 0}, "'n_init' parameter"),
        ({"n_init": "warn"}, "'n_init' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"tol": -1.0}, "'tol' parameter"),
        ({"tol": np.inf}, "'tol' parameter"),
        ({"random_state": "seed"}, "'random_state' parameter"),
        ({"random_state": -1}, "'random_state' parameter"),
        ({"kernel": "gpu"}, "'kernel' parameter"),
    ],
)
@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_bad_parameters_are_refused_in_words(kind, options, words):
    model = kind(**{"n_clusters": 2} | options)
    with pytest.raises(ValueError, match=words):
        model.fit(LINE)
    assert not hasattr(model, "cluster_centers_")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (KMeans(2, empty="drop"), "'empty' parameter"),
        (MiniBatchKMeans(2, batch_size=0), "'batch_size' parameter"),
        (MiniBatchKMeans(2, max_no_improvement=0), "'max_no_improvement' parameter"),
        (MiniBatchKMeans(2, reassignment_ratio=2.0), "'reassignment_ratio' parameter"),
        (MiniBatchKMeans(2, exact="yes"), "'exact' parameter"),
    ],
)
def test_bad_parameters_of_one_are_refused_in_words(model, words):
    with pytest.raises(ValueError, match=words):
        model.fit(LINE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"max_epochs": 0}, "max_epochs is 0; it must be 1 or more"),
        ({"starts": 0}, "starts is 0; it must be 1 or more"),
        ({"tol": -1.0}, "tol is -1.0; it must be a finite number"),
        ({"max_no_improvement": 0}, "max_no_improvement is 0; it must be 1 or more, or None"),
        ({"reassignment_ratio": 1.5}, "reassignment_ratio is 1.5; it must be from 0 to 1"),
        ({"kernel": "gpu"}, "there is no kernel 'gpu'"),
        ({"start": "center"}, "start='center' is not known"),
    ],
    ids=str,
)
def test_batches_refuse_bad_options_at_the_call(options, words):
    with pytest.raises(ValueError, match=words):
        mini_batches(LINE, 2, **options)


@both
@pytest.mark.parametrize(
    ("X", "words"),
    [
        ([1.0, 2.0, 3.0], "Expected 2D array, got 1D array"),
        ([[np.nan], [0.0], [1.0]], "nan at row 0, column 0; every value must be finite, no NaN or inf"),
        ([[0.0], [np.inf], [1.0]], "inf at row 1, column 0"),
        ([[1e200], [0.0], [1.0]], "squared distances overflow"),
        (np.ones((4, 2), complex), "Complex data not supported"),
        ([["a"], ["b"], ["c"]], "could not convert string to float"),
        (torch.ones(3), r"shape \(3,\); it must be \(n, d\)"),
        (torch.tensor([[np.nan], [0.0], [1.0]]), "nan at row 0"),
        (np.empty((0, 2)), "0 sample"),
        (np.empty((5, 0)), "0 feature"),
    ],
    ids=str,
)
def test_bad_data_is_refused_in_words(model, X, words):
    model = clone(model)
    with pytest.raises(ValueError, match=words):
        model.fit(X)
    assert not hasattr(model, "cluster_centers_")


@both
@pytest.mark.parametrize("weight", [np.zeros(300), -np.ones(300), np.ones(3), np.full(300, np.nan)], ids=str)
def test_bad_weights_are_refused_in_words(model, weight):
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        clone(model).fit(blobs(), sample_weight=weight)


@both
def test_too_few_rows_of_positive_weight_are_refused(model):
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3: give more rows of positive weight"):
        clone(model).fit(LINE, sample_weight=[1.0, 1.0, 0.0, 0.0])


@both
def test_explicit_centers_are_one_start(model, monkeypatch):
    calls = []
    for home, name, run in (
        (stepfit.estimators.kmeans, "lloyd", lloyd),
        (stepfit.estimators.mini_batch, "mini_batches", mini_batches),
    ):
        monkeypatch.setattr(home, name, lambda *a, run=run, **options: calls.append(options) or run(*a, **options))
    with pytest.warns(RuntimeWarning, match="Explicit initial center position passed: performing only one init in"):
        clone(model).set_params(init=LINE[:3], n_init=4).fit(LINE)
    assert len(calls) == 1
    assert calls[0].get("starts", 1) == 1


@both
@pytest.mark.parametrize("method", ["predict", "transform", "score", "get_feature_names_out"])
def test_before_fit_there_is_nothing_to_ask(model, method):
    with pytest.raises(NotFittedError):
        getattr(clone(model), method)(*([] if method == "get_feature_names_out" else [LINE]))


def test_sparse_input_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match=r"dense data is required.*toarray"):
        KMeans(2).fit(csr_array(LINE))
