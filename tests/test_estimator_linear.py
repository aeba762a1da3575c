"""LinearRegression and LogisticRegression: scikit-learn's conventions, its answers, and the truth about the rest."""

import copy
import math
import pickle
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.linear_model as peer
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from stepfit import LinearRegression, LogisticRegression, Stop
from stepfit.descent.linear import LinearProblem


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::sklearn.exceptions.SkipTestWarning"
)
@parametrize_with_checks(
    [
        LinearRegression(),
        LogisticRegression(),
        LinearRegression(solver="nesterov"),
        LogisticRegression(solver="adam", standardize=True),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def data(classes=3, n=200, d=5, seed=0):
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(n, d)) * [1, 2, 0.5, 1, 3][:d]
    logits = X @ draw.normal(size=(d, classes)) + 2 * draw.gumbel(size=(n, classes))
    return X, logits.argmax(1), draw.uniform(0.1, 3, n)


def loss_of(model, X, y, C=1.0, weight=None):
    """The definition, from probabilities, without the model's own loss."""
    weight = np.ones(len(X)) if weight is None else weight
    likely = model.predict_log_proba(X)[np.arange(len(X)), np.searchsorted(model.classes_, y)]
    return (-(weight * likely).sum() + (model.coef_**2).sum() / (2 * C)) / weight.sum()


# Answers by hand


def test_the_line_through_three_points():
    """Means (1, 2); sum of products 3, of squares 2: slope 3/2, intercept 1/2."""
    model = LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 1.0, 4.0])
    assert model.coef_ == pytest.approx([1.5])
    assert model.intercept_ == pytest.approx(0.5)
    assert model.rank_ == 1
    assert model.singular_ == pytest.approx([math.sqrt(2)])


def test_the_log_odds_of_one_feature():
    """Without a penalty a 0/1 feature is fitted exactly: odds 1/3 where it is 0 and 3 where it is 1."""
    X = [[0.0]] * 4 + [[1.0]] * 4
    model = LogisticRegression(C=np.inf, tol=1e-10).fit(X, [0, 0, 0, 1, 0, 1, 1, 1])
    assert model.intercept_ == pytest.approx([-math.log(3)])
    assert model.coef_ == pytest.approx(np.array([[2 * math.log(3)]]))
    assert model.predict_proba([[1.0]]) == pytest.approx(np.array([[0.25, 0.75]]))


def test_the_first_step_is_the_start_whose_loss_is_log_of_the_classes():
    X, y, _ = data(3)
    first = next(LogisticRegression().steps(X, y))
    assert first.index == 0
    assert first.loss == pytest.approx(math.log(3))


# Agreement with scikit-learn


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("targets", [None, 3])
def test_linear_regression_equals_scikit_learns(intercept, weighted, targets):
    X, _, weight = data()
    y = np.random.default_rng(1).normal(size=len(X) if targets is None else (len(X), targets)) + X[:, :1].sum()
    weight = weight if weighted else None
    ours, theirs = (
        kind(fit_intercept=intercept).fit(X + 5, y, weight) for kind in (LinearRegression, peer.LinearRegression)
    )
    for name in ("coef_", "intercept_", "singular_"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-6, abs=1e-9)
    assert ours.rank_ == theirs.rank_
    assert ours.score(X, y, weight) == pytest.approx(theirs.score(X, y, weight), rel=1e-6)


def test_of_many_answers_the_shortest_is_given_and_the_rank_is_named():
    X, y, _ = data()
    X = np.column_stack([X, X[:, 0], np.ones(len(X))])
    ours, theirs = LinearRegression().fit(X, y), peer.LinearRegression().fit(X, y)
    assert ours.coef_ == pytest.approx(theirs.coef_, rel=1e-6, abs=1e-9)
    assert ours.rank_ == theirs.rank_ == 5
    assert ours.coef_[0] == pytest.approx(ours.coef_[5])
    assert ours.events_[0].startswith("2 of 7 features are constant or follow from the others (rank 5)")
    assert LinearRegression().fit(X[:, :5], y).events_ == ()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("C", [0.01, 1.0, np.inf])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", [None, "balanced", {1: 3.0}])
@pytest.mark.parametrize("weighted", [True, False])
def test_logistic_regression_equals_scikit_learns(classes, C, intercept, kind, weighted):
    X, y, weight = data(classes)
    options = {"C": C, "fit_intercept": intercept, "class_weight": kind, "tol": 1e-8, "max_iter": 2000}
    weight = weight if weighted else None
    ours, theirs = (make(**options).fit(X, y, weight) for make in (LogisticRegression, peer.LogisticRegression))
    # The multinomial logits may all be shifted alike; without a penalty nothing but the start pins the shift.
    center = [part - part.mean(0) if classes > 2 else part for part in (ours.coef_, theirs.coef_)]
    assert center[0] == pytest.approx(center[1], rel=1e-3, abs=1e-4)
    assert ours.predict_proba(X) == pytest.approx(theirs.predict_proba(X), abs=1e-4)
    full = np.ones(len(X)) if weight is None else weight
    if kind == "balanced":
        full = full * full.sum() / (classes * np.array([full[y == k].sum() for k in y]))
    elif kind:
        full = full * np.where(y == 1, 3.0, 1.0)
    assert ours.loss_ == pytest.approx(loss_of(ours, X, y, C, full), rel=1e-10)
    assert ours.loss_ == pytest.approx(loss_of(theirs, X, y, C, full), rel=1e-6)


# The optimum, and the way there


@pytest.mark.parametrize("classes", [2, 3])
def test_at_the_optimum_the_gradient_is_near_zero(classes):
    X, y, weight = data(classes)
    model = LogisticRegression(tol=1e-6).fit(X, y, weight)
    rest = model.predict_proba(X) - np.eye(classes)[y]
    rest = (rest if classes > 2 else rest[:, 1:]) * (weight / weight.sum())[:, None]
    assert abs(rest.T @ X + model.coef_ / weight.sum()).max() <= 1.1e-6
    assert abs(rest.sum(0)).max() <= 1.1e-6
    assert model.stop_ is Stop.TOLERANCE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 5])
def test_no_step_has_a_higher_loss_than_the_one_before(dtype, classes):
    X, y, _ = data(classes)
    steps = list(LogisticRegression(tol=0, max_iter=3000).steps((X * [1, 10, 1, 1, 0.1]).astype(dtype), y))
    assert all(after.loss <= before.loss for before, after in pairwise(steps))
    assert [step.index for step in steps] == list(range(len(steps)))
    assert [step.stop is None for step in steps] == [True] * (len(steps) - 1) + [False]
    assert steps[-1].stop is Stop.CONVERGED


def test_kept_steps_never_change():
    X, y, _ = data()
    kept = [(step, copy.deepcopy(step)) for step in LogisticRegression().steps(X, y)]
    assert len(kept) > 5
    for step, then in kept:
        assert torch.equal(step.weight, then.weight)
        assert torch.equal(step.bias, then.bias)


def test_the_last_step_is_what_fit_keeps_and_steps_leave_the_estimator_alone():
    X, y, _ = data()
    model = LogisticRegression()
    *_, last = model.steps(X, y)
    assert not hasattr(model, "classes_")
    model.fit(X, y)
    assert np.array_equal(model.coef_, last.weight.numpy())
    assert model.n_iter_ == [last.index]
    assert model.stop_ is last.stop


def test_the_loss_of_float32_keeps_its_digits():
    X, y, _ = data(3, n=2000)
    narrow, wide = (LogisticRegression(tol=1e-6).fit(X.astype(kind), y) for kind in ("float32", "float64"))
    assert narrow.loss_ == pytest.approx(wide.loss_, rel=1e-7)


def test_a_warm_start_begins_where_the_last_fit_ended():
    X, y, _ = data()
    model = LogisticRegression(warm_start=True, tol=1e-6).fit(X, y)
    assert model.n_iter_ > 5
    assert model.fit(X, y).n_iter_ == 0
    with pytest.raises(ValueError, match=r"1 logit\(s\) of 5 features need \(1, 5\)"):
        model.fit(X, y == 1)


# Kinds of arrays


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_in_gives_tensors_out(dtype):
    X, y, weight = (torch.from_numpy(part) for part in data())
    X = X.to(dtype)
    model = LogisticRegression().fit(X, y, weight)
    for result in (model.coef_, model.intercept_, model.decision_function(X), model.predict_proba(X)):
        assert isinstance(result, torch.Tensor)
        assert result.dtype == dtype
    assert torch.equal(model.classes_, torch.arange(3))
    assert model.predict(X).dtype == torch.int64
    assert model.score(X, y) == (model.predict(X) == y).double().mean()
    line = LinearRegression().fit(X, X @ X[0], weight)
    for result in (line.coef_, line.intercept_, line.singular_, line.predict(X)):
        assert isinstance(result, torch.Tensor)
        assert result.dtype == dtype
    assert line.coef_.allclose(X[0], rtol=1e-4, atol=1e-4)
    assert isinstance(model.predict_proba(X.numpy()), np.ndarray)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.ones(3), r"shape \(3,\); it must be \(n, d\)"),
        (torch.full((4, 2), math.nan), "NaN, infinity or a value over"),
        (torch.ones(4, 2, dtype=torch.complex64), "Complex data not supported"),
    ],
)
def test_a_wrong_tensor_is_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        LinearRegression().fit(wrong, [0.0, 1.0, 2.0, 3.0])
    model = LinearRegression().fit(torch.eye(4, 3), [0.0, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="2 features, but LinearRegression is expecting 3"):
        model.predict(torch.ones(2, 2))
    for parts in ((torch.ones(4, 3, device="meta"), [0.0] * 4), (torch.eye(4, 3), torch.ones(4, device="meta"))):
        with pytest.raises(TypeError, match=r"a meta tensor.* has a shape and no values"):
            model.fit(*parts)


@pytest.mark.parametrize("model", [LinearRegression(), LogisticRegression()])
def test_float32_stays_and_inputs_and_global_generators_are_untouched(model):
    X, y, weight = data()
    X = X.astype(np.float32)
    before = copy.deepcopy((X, y, weight))
    numpys, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    model = clone(model).fit(X, y, weight)
    assert model.coef_.dtype == np.float32
    assert all(np.array_equal(now, then) for now, then in zip((X, y, weight), before))
    assert np.array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torchs, torch.get_rng_state())


@pytest.mark.parametrize("model", [LinearRegression(), LogisticRegression(C=2.0)])
def test_it_lives_among_scikit_learns_tools(model):
    X, y, _ = data()
    frame = pd.DataFrame(X, columns=list("abcde"))
    fit = clone(model).fit(frame, y)
    assert list(fit.feature_names_in_) == list("abcde")
    assert np.array_equal(pickle.loads(pickle.dumps(fit)).predict(frame), fit.predict(frame))
    assert clone(fit).get_params() == model.get_params()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model), {f"{type(model).__name__.lower()}__tol": [1e-6, 1e-3]}
    )
    assert search.fit(frame, y).best_score_ > 0.2


def test_classes_may_be_strings():
    X, y, _ = data()
    names = np.array(["ash", "birch", "cedar"])[y]
    model = LogisticRegression().fit(X, names)
    assert set(model.predict(X)) <= {"ash", "birch", "cedar"}
    assert model.score(X, names) == LogisticRegression().fit(X, y).score(X, y)


# What goes wrong is said


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_classes_without_a_penalty_are_named(classes):
    X = np.eye(classes)
    with pytest.warns(ConvergenceWarning, match="the classes are separable: .*give a finite C"):
        model = LogisticRegression(C=np.inf).fit(X, range(classes))
    assert "separable" in model.events_[0]
    assert LogisticRegression().fit(X, range(classes)).events_ == ()


def test_the_margin_is_the_smallest_lead():
    """Logits of class 2 are 0, x - 1 and 1 for x = 3: (0, 2, 1), so class 1 leads by 1 and class 0 lacks 2."""
    start = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([0.0, -1.0, 1.0])
    x = torch.tensor([[3.0], [3.0]])

    def margin(y, weight=None):
        problem = LinearProblem(x, torch.tensor(y), "CrossEntropyLoss", sample_weight=weight)
        return problem.look(problem.point(*start)).margin

    assert margin([1, 2]) == -1
    assert margin([2, 0]) == -2
    assert margin([1, 2], torch.tensor([1.0, 0.0], dtype=torch.float64)) == 1


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 classes, but the data contains only one class: .*'a'"):
        LogisticRegression().fit([[0.0], [1.0]], ["a", "a"])


def test_a_feature_out_of_scale_is_named_when_the_updates_run_out():
    X, y, _ = data(2)
    X[:, 3] *= 1e6
    frame = pd.DataFrame(X, columns=["p", "q", "r", "income", "t"])
    with pytest.warns(ConvergenceWarning, match=r"failed to converge after 3 .*feature income has scale \d"):
        model = LogisticRegression(max_iter=3, tol=1e-9).fit(frame, y)
    assert model.stop_ is Stop.MAX_STEPS
    with pytest.warns(ConvergenceWarning) as caught:
        LogisticRegression(max_iter=3, tol=1e-9).fit(data(2)[0], y)
    assert "scale" not in str(caught[0].message)


AWKWARD = {
    "separable": lambda X, y: (X + np.eye(5)[0] * np.where(y, 9, -9)[:, None], y),
    "constant": lambda X, y: (np.full_like(X, 7.0), y),
    "collinear": lambda X, y: (np.column_stack([X, X @ np.arange(5.0), X[:, 0]]), y),
    "scaled by 1e6": lambda X, y: (X * 1e6, y),
    "scaled by 1e-6": lambda X, y: (X * 1e-6, y),
    "one feature scaled by 1e6": lambda X, y: (X * [1, 1e6, 1, 1, 1], y),
}


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("C", [1.0, np.inf])
def test_logistic_regression_ends_with_a_reason_in_words_on_data_that_is(name, solver, C):
    X, y = AWKWARD[name](*data(2)[:2])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(solver=solver, C=C).fit(X, y)
    assert tuple(str(warning.message) for warning in caught) == model.events_
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.predict_proba(X)).all()
    if name == "separable" and np.inf == C:
        assert model.events_[0].startswith("the classes are separable")
    elif model.stop_ is Stop.MAX_STEPS:
        assert model.events_[0].startswith(f"{solver} failed to converge after 100 iteration(s): the largest partial")
        assert ("feature 1 has scale" in model.events_[0]) == (name == "one feature scaled by 1e6")
    else:
        assert model.stop_ in (Stop.TOLERANCE, Stop.CONVERGED)
        assert model.events_ == ()
    if solver == "lbfgs" and C == 1 and not name.endswith("scaled by 1e6"):
        assert model.stop_ is Stop.TOLERANCE


@pytest.mark.parametrize("library", [pd, pl], ids=["pandas", "polars"])
@pytest.mark.parametrize("model", [LinearRegression(), LogisticRegression(), LinearRegression(solver="sgd")], ids=str)
def test_frames_are_taken_and_their_features_known_by_name(model, library):
    X, y, weight = data()
    names = ["ash", "birch", "cedar", "dogwood", "elm"]
    frame, column, shares = (
        library.DataFrame(dict(zip(names, X.T))), library.Series(y), library.Series(weight)
    )  # fmt: skip
    fit = clone(model).fit(frame, column, shares)
    plain = clone(model).fit(X, y, weight)
    assert fit.coef_ == pytest.approx(plain.coef_, rel=1e-9)  # a frame may lie in memory by columns
    assert type(fit.coef_) is np.ndarray
    assert list(fit.feature_names_in_) == names
    predicted = plain.predict(X)
    assert fit.predict(frame) == pytest.approx(predicted, rel=1e-9)
    assert fit.score(frame, column, shares) == pytest.approx(plain.score(X, y, weight))
    assert [step.loss for step in fit.steps(frame, column, shares)][-1] == fit.loss_
    with pytest.raises(ValueError, match=r"(?s)feature names should match.*same order"):
        fit.predict(frame[names[::-1]])
    with pytest.raises(ValueError, match="NaN"):
        fit.fit(library.DataFrame({"ash": [1.0, None], "birch": [0.0, 1.0]}), column[:2])
    with pytest.raises(ValueError, match="could not convert string to float"):
        fit.fit(library.DataFrame({"ash": ["x", "y"]}), column[:2])
    assert list(fit.feature_names_in_) == names
    assert fit.predict(frame) == pytest.approx(predicted, rel=1e-9)


# What a call that is refused leaves behind


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("model", [LinearRegression(solver="sgd"), LogisticRegression(solver="sgd")], ids=str)
def test_a_fit_that_fails_leaves_the_last_one_as_it_was(model):
    X, y, _ = data(2)
    fit = clone(model).fit(X, y)
    before = dict(vars(fit))
    for change, wrong in (({}, (X[:, :2], y[:5])), ({"lr": 1e9}, (X[:, :2], y))):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples|the run diverged"):
            fit.set_params(**change).fit(*wrong)
        assert {**vars(fit), "lr": before["lr"]} == before
    assert len(fit.predict(X)) == len(X)


def test_predictions_and_scores_that_overflow_are_refused():
    narrow = LinearRegression().fit(np.float32([[0.0], [1e-19]]), np.float32([0.0, 1e19]))
    with pytest.raises(ValueError, match=r"a prediction overflows torch.float32: X holds 1e\+19; divide it"):
        narrow.predict(np.float32([[1.0], [1e19]]))
    steep = LogisticRegression(C=np.inf, tol=0, max_iter=3).fit([[-1e150], [1e150]], [0, 1])
    steep.coef_ = steep.coef_ * 0 + 1e160
    with pytest.raises(ValueError, match="a prediction overflows"):
        steep.predict_proba([[1e149]])
    line = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="needs at least 2 rows; X has 1"):
        line.score([[0.0]], [0.0])
    with pytest.raises(ValueError, match="R² is -inf: squares of errors overflow"):
        line.score([[1e150], [-1e150]], [0.0, 1e-10])


@pytest.mark.parametrize("weight", [np.zeros(200), -np.ones(200), np.ones(3), np.full(200, 1e308)])
@pytest.mark.parametrize("model", [LinearRegression(), LogisticRegression()])
def test_wrong_weights_are_refused(model, weight):
    X, y, _ = data()
    with pytest.raises(ValueError, match=r"(?i)sample.weight"):
        clone(model).fit(X, y, weight)


def test_a_problem_refuses_weights_of_nothing():
    with pytest.raises(ValueError, match="sample_weight is 0 everywhere"):
        LinearProblem(torch.eye(2), torch.tensor([0, 1]), "CrossEntropyLoss", sample_weight=torch.zeros(2))
    with pytest.raises(ValueError, match="have a sum that overflows"):
        LogisticRegression(class_weight={0: 1e300}).fit(np.eye(2), [0, 1], [1e200, 1.0])


@pytest.mark.parametrize(
    ("model", "X", "y", "weight", "words"),
    [
        (LinearRegression(), [[0], [1e-160]], [0, 1e150], None, "coef_, .* overflows torch.float64"),
        (
            LinearRegression(),
            np.float32([[3e38], [3e38], [3e38], [-3e38]]),
            [0, 1, 0, 1],
            None,
            "X minus its mean overflows torch.float32",
        ),
        (LinearRegression(), np.float32([[0], [1]]), [0, 1], [1e300, 1e300], "singular_ overflows"),
        (LinearRegression(standardize=True), [[0], [1e-160]], [0, 1e150], None, "a feature varies too little"),
        (LinearRegression(l2=math.inf), [[0], [1]], [0, 1], None, "The 'l2' parameter .* must be a float"),
        (LogisticRegression(C=10**400), [[0], [1]], [0, 1], None, "The 'C' parameter .* must be a float"),
    ],
)
def test_what_overflows_is_named(model, X, y, weight, words):
    with pytest.raises(ValueError, match=words):
        model.fit(X, y, weight)
    assert not hasattr(model, "coef_")


def test_numbers_far_from_one_are_learned_where_they_fit():
    """Half of a squared slope of 1e160 overflows, but without a penalty nobody asks for it."""
    X = np.array([[0.0], [1e-160], [2e-160]])
    line = LinearRegression().fit(X, [0.0, 1.0, 2.0])
    assert line.coef_ == pytest.approx([1e160])
    assert line.loss_ == pytest.approx(0, abs=1e-20)
    small = LinearRegression().fit(np.float32([[0], [1], [2]]), [0, 1, 5], [1e76, 2e76, 1e76])
    assert small.coef_ == pytest.approx(LinearRegression().fit([[0], [1], [2]], [0, 1, 5], [1, 2, 1]).coef_)
    assert LinearRegression(l2=2**70).fit([[0.0], [1.0]], [0.0, 1.0]).coef_ == pytest.approx([0], abs=1e-20)


@st.composite
def problems(draw):
    """Small data with ties, constants, separable classes, wild scales, and values that are no numbers."""
    n, d = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    values = st.integers(-3, 3).map(float) | st.floats(-1e3, 1e3) | st.sampled_from([1e8, -1e150, math.nan, math.inf])
    X = draw(arrays("float64", (n, d), elements=values))
    y = draw(arrays("int64", n, elements=st.integers(0, 3)))
    weight = draw(st.none() | arrays("float64", n, elements=st.floats(0, 10)))
    return X, y, weight


@settings(deadline=None, max_examples=200)
@given(problems(), st.sampled_from([1e-3, 1.0, np.inf]), st.booleans())
def test_any_problem_gives_finite_answers_or_a_sentence(problem, C, intercept):
    X, y, weight = problem
    for model in (LinearRegression(fit_intercept=intercept), LogisticRegression(C=C, fit_intercept=intercept)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                model.fit(X, y, weight)
            except (ValueError, TypeError) as refusal:
                said = str(refusal)
            else:
                said = None
        if said is not None:
            assert " " in said
            continue
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.intercept_).all()
        assert np.isfinite(model.predict(X)).all()


# Solvers by steps

LINES = [LinearRegression(solver=name, max_iter=5000) for name in ("lbfgs", "sgd", "momentum", "nesterov")]
CURVES = [LogisticRegression(solver=name, max_iter=5000) for name in ("sgd", "momentum", "nesterov", "adam")]


@pytest.mark.parametrize("model", LINES, ids=str)
@pytest.mark.parametrize("standardize", [False, True])
def test_every_solver_comes_to_the_closed_form(model, standardize):
    X, y, weight = data()
    y = np.column_stack([X @ np.arange(5.0) + y, -y])
    fit = clone(model).set_params(standardize=standardize).fit(X, y, weight)
    exact = LinearRegression(standardize=standardize).fit(X, y, weight)
    assert fit.stop_ is Stop.TOLERANCE
    assert fit.coef_ == pytest.approx(exact.coef_, abs=1e-3)
    assert fit.intercept_ == pytest.approx(exact.intercept_, abs=1e-3)
    assert fit.loss_ == pytest.approx(exact.loss_, rel=1e-6)


@pytest.mark.parametrize("model", CURVES, ids=str)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_solver_comes_to_the_optimum_and_each_step_tells_how_far_it_is(model, classes):
    X, y, weight = data(classes)
    best = model.optimum(X, y, weight)
    steps = list(model.steps(X, y, weight))
    assert steps[-1].stop is Stop.TOLERANCE
    assert steps[-1].loss == pytest.approx(best.loss, rel=1e-5)
    assert steps[-1].distance(best) < 0.05 * steps[0].distance(best)


def test_the_closed_form_with_l2_is_scikit_learns_ridge():
    X, y, weight = data()
    theirs = peer.Ridge(alpha=3.0).fit(X, y, weight)
    for solver in ("exact", "lbfgs"):
        ours = LinearRegression(l2=3.0 / weight.sum(), solver=solver, tol=1e-9).fit(X, y, weight)
        assert ours.coef_ == pytest.approx(theirs.coef_, abs=1e-6)
        assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-6)


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_l1_optimum_is_scikit_learns(l1_ratio, classes):
    X, y, _ = data(classes)
    options = {"C": 0.05, "l1_ratio": l1_ratio, "tol": 1e-8, "max_iter": 20_000}
    ours = LogisticRegression(solver="nesterov", **options).fit(X, y)
    theirs = peer.LogisticRegression(solver="saga", **options).fit(X, y)
    assert ours.stop_ is Stop.TOLERANCE
    assert ours.coef_ == pytest.approx(theirs.coef_, abs=1e-4)
    assert ((ours.coef_ == 0) == (abs(theirs.coef_) < 1e-6)).all()
    assert (ours.coef_ == 0).any()
    assert LogisticRegression(l1_ratio=l1_ratio, C=0.05, solver="sgd").optimum(X, y).loss == pytest.approx(ours.loss_)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("solver", ["lbfgs", "nesterov"])
def test_standardising_inside_predicts_what_a_scaler_before_it_does(solver, intercept):
    X, y, _ = data()
    X = X * [1, 1e3, 1, 1e-3, 1] + 7 * intercept
    model = LogisticRegression(solver=solver, fit_intercept=intercept, max_iter=2000, tol=1e-7)
    inside = clone(model).set_params(standardize=True).fit(X, y)
    before = make_pipeline(StandardScaler(with_mean=intercept), model).fit(X, y)
    assert inside.predict_proba(X) == pytest.approx(before.predict_proba(X), abs=1e-6)
    last = list(inside.steps(X, y))[-1]
    assert np.array_equal(last.weight.numpy(), inside.coef_)
    assert clone(inside).set_params(warm_start=True).fit(X, y).fit(X, y).n_iter_ <= 1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("batch", [None, 7])
def test_early_stopping_restores_the_weights_that_fitted_the_held_out_rows_best(batch):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(60, 40)), draw.integers(0, 3, 60)  # nothing to learn, so it soon fits worse
    model = LogisticRegression(
        C=1e6, solver="nesterov", early_stopping=True, n_iter_no_change=3, batch_size=batch, random_state=1
    )
    steps = list(model.steps(X, y))
    begun = {step.epoch: step for step in reversed(steps[:-1])}.values()  # where an epoch begins
    best = min(begun, key=lambda step: step.metrics["test_loss"])
    assert steps[-1].stop is Stop.EARLY
    assert steps[-1].epoch == best.epoch + 3
    assert torch.equal(steps[-1].weight, best.weight)
    assert steps[-1].metrics["test_loss"] == best.metrics["test_loss"]
    assert f"the weights of step {best.index} are back" in model.fit(X, y).events_[0]
    assert np.array_equal(model.coef_, best.weight.numpy())
    short = clone(model).set_params(max_iter=best.epoch + 1)
    assert np.array_equal(short.fit(X, y).coef_, best.weight.numpy())


def test_early_stopping_leaves_no_class_without_rows():
    with pytest.raises(ValueError, match="no row of some class to learn from"):
        LogisticRegression(early_stopping=True, validation_fraction=0.9).fit(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="leave none to learn from"):
        LinearRegression(solver="sgd", early_stopping=True).fit([[0.0]], [0.0])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LinearRegression(l1=0.1), "solver='exact' has no l1 penalty"),
        (LinearRegression(l1=0.1, solver="lbfgs"), "solver='lbfgs' has no l1 penalty"),
        (LinearRegression(early_stopping=True), "nothing to stop early"),
        (LogisticRegression(l1_ratio=0.5), "supports only 'l2'"),
        (LogisticRegression(solver="sgd", batch_size=1000), "batch_size is 1000; there are 200 rows"),
        (LogisticRegression(solver="newton"), "solver"),
        (LogisticRegression(lr=-1.0), "lr"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(model, words):
    X, y, _ = data()
    with pytest.raises(ValueError, match=words):
        model.fit(X, y)


@pytest.mark.parametrize("model", [LinearRegression(solver="sgd"), LogisticRegression()], ids=str)
def test_ctrl_c_leaves_the_last_whole_step(model, monkeypatch):
    X, y, _ = data()
    steps = list(model.steps(X, y))
    shown = LinearProblem.grads
    calls = iter(range(100))

    def grads(self, gradient):
        if next(calls) == 4:  # of the fifth step
            raise KeyboardInterrupt
        return shown(self, gradient)

    monkeypatch.setattr(LinearProblem, "grads", grads)
    with pytest.warns(ConvergenceWarning, match="the run was interrupted"):
        fit = clone(model).fit(X, y)
    assert fit.stop_ is Stop.INTERRUPTED
    assert np.array_equal(np.atleast_2d(fit.coef_), steps[3].weight.numpy())


@settings(max_examples=100)
@given(
    problems(),
    st.sampled_from(["sgd", "momentum", "nesterov", "adam"]),
    st.sampled_from(["auto", 1e-3, 10.0]),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.booleans(),
)
def test_any_problem_gives_finite_answers_or_a_sentence_by_gradient(problem, solver, lr, batch, early, standardize):
    X, y, weight = problem
    options = {
        "solver": solver, "lr": lr, "batch_size": batch, "early_stopping": early, "standardize": standardize,
        "max_iter": 20, "random_state": 0,
    }  # fmt: skip
    for model in (LinearRegression(l1=0.01, **options), LogisticRegression(l1_ratio=0.5, **options)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                model.fit(X, y, weight)
            except ValueError:
                assert not hasattr(model, "coef_")
                continue
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.intercept_).all()
