"""Defects that other libraries have or had, each a test here, named after it."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from stepfit import LinearRegression, LogisticRegression, Stop

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
    assert model.loss_ == pytest.approx(((model.predict(X) - y) ** 2).mean() / 2)
