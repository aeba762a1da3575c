"""scikit-learn's callback protocol: what a callback of sklearn.callback sees of a fit, and may ask of it."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stepfit import KMeans, LinearRegression, LogisticRegression, MiniBatchKMeans, Stop
from stepfit.descent.linear import LinearProblem
from stepfit.estimators.callbacks import ASKED, CallbackSupportMixin, Watch, with_callbacks
from stepfit.steps import Step, Steps

MODELS = [
    LogisticRegression(),
    LogisticRegression(fit_intercept=False, solver="nesterov", max_iter=7),
    LogisticRegression(solver="adam", batch_size=30, max_iter=3, random_state=0),
    LogisticRegression(standardize=True, early_stopping=True, random_state=0),
    LinearRegression(),
    LinearRegression(fit_intercept=False),
    LinearRegression(solver="sgd", max_iter=7, standardize=True),
]
each = pytest.mark.parametrize("model", MODELS, ids=str)
pytestmark = pytest.mark.filterwarnings("ignore:.*failed to converge")


def data(classes=2, n=120):
    draw = np.random.default_rng(0)
    X = draw.normal(size=(n, 3)) * [1, 2, 0.5]
    return X, (X @ draw.normal(size=(3, classes)) + draw.gumbel(size=(n, classes))).argmax(1)


class Notes:
    """A callback that writes down all that it is told, and may ask for the end at a task of some number."""

    def __init__(self, end_at=None):
        self.end_at = end_at
        self.notes = []

    def setup(self, estimator, context):
        self.notes.append(("setup", context, None))

    def teardown(self, estimator, context):
        self.notes.append(("teardown", context, None))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.notes.append(("begin", context, fitted_estimator))
        self.data = X, y, metadata

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.notes.append(("end", context, fitted_estimator))
        return context.parent is not None and context.task_id == self.end_at

    def of_steps(self, hook):
        """The fitted estimators that the tasks of steps came with, in order."""
        return [fitted for name, context, fitted in self.notes if name == hook and context.task_name == "iter"]


def written(model, *given, end_at=None):
    notes = Notes(end_at)
    return clone(model).set_callbacks(notes).fit(*given), notes


@each
def test_each_step_is_a_task_that_lasts_until_the_next(model):
    X, y = data()
    fit, notes = written(model, X, y)
    steps = list(model.steps(X, y))
    told = [(hook, context.task_name, context.task_id) for hook, context, _ in notes.notes]
    inner = [(hook, "iter", i) for i in range(len(steps)) for hook in ("begin", "end")]
    fit_task = [(hook, "fit", 0) for hook in ("setup", "begin", "end", "teardown")]
    assert told == [*fit_task[:2], *inner, *fit_task[2:]]
    for i, step in enumerate(steps):
        before = notes.of_steps("begin")[i]
        assert np.array_equal(np.atleast_2d(before.coef_), step.weight.numpy())
    assert [after is None for after in notes.of_steps("end")] == [False] * (len(steps) - 1) + [True]
    for after, before in zip(notes.of_steps("end"), notes.of_steps("begin")[1:]):
        assert np.array_equal(after.coef_, before.coef_)
        assert np.array_equal(after.intercept_, before.intercept_)
    assert np.array_equal(notes.notes[-2][2].predict(X), fit.predict(X))
    root = notes.notes[0][1]
    assert len(steps) <= root.max_subtasks


@pytest.mark.parametrize("model", [LogisticRegression(), LinearRegression(solver="lbfgs")], ids=str)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_fitted_estimator_is_what_fewer_steps_would_give(model, classes):
    X, y = data(classes)
    _, notes = written(model, X, y)
    for i, fitted in enumerate(notes.of_steps("begin")):
        short = clone(model).set_params(max_iter=i).fit(X, y)
        assert np.array_equal(fitted.coef_, short.coef_)
        assert np.array_equal(fitted.predict(X), short.predict(X))


@each
def test_callbacks_change_nothing_and_steps_call_none(model):
    X, y = data()
    fit, notes = written(model, X, y)
    plain = clone(model).fit(X, y)
    assert np.array_equal(fit.coef_, plain.coef_)
    assert set(vars(fit)) - set(vars(plain)) == {"_skl_callbacks"}
    notes.notes.clear()
    list(fit.steps(X, y))
    assert fit.set_callbacks().fit(X, y) is fit
    assert notes.notes == []


@pytest.mark.parametrize("kind", [pd.DataFrame, torch.from_numpy], ids=["frame", "tensor"])
def test_callbacks_get_the_data_as_it_came(kind):
    X, y = data()
    X, weight = kind(X), np.ones(len(y))
    _, notes = written(LogisticRegression(), X, y, weight)
    assert notes.data[0] is X
    assert notes.data[1] is y
    assert notes.data[2] == {"sample_weight": weight}
    assert all(type(fitted.predict(X)) is np.ndarray for fitted in notes.of_steps("begin"))


# scikit-learn's own callbacks


@each
def test_the_progress_bar_comes_to_its_end(model, capsys):
    clone(model).set_callbacks(ProgressBar()).fit(*data())
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith(f"{type(model).__name__} - fit")
    assert "100%" in last


@each
def test_the_scoring_monitor_scores_each_step(model):
    X, y = data()
    scoring, score = ("accuracy", accuracy_score) if isinstance(model, LogisticRegression) else ("r2", r2_score)
    monitor = ScoringMonitor(scoring=scoring)
    fit = clone(model).set_callbacks(monitor).fit(X, y)
    rows = monitor.get_logs().data
    _, notes = written(model, X, y)
    expected = [score(y, fitted.predict(X)) for fitted in notes.of_steps("begin")[1:]]
    assert [row[scoring] for row in rows if row["task_name"] == "iter"] == expected
    assert [row[scoring] for row in rows if row["task_name"] == "fit"] == [fit.score(X, y)]


def test_a_search_over_a_pipeline_hands_its_callbacks_down():
    X, y = data()
    monitor = ScoringMonitor(scoring="accuracy")
    model = make_pipeline(StandardScaler(), LogisticRegression().set_callbacks(monitor))
    search = GridSearchCV(model, {"logisticregression__C": [0.1, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    steps = [row for row in monitor.get_logs().data if row["task_name"] == "iter"]
    ends = {row["parent_task_id_path"] for row in steps}
    assert len(ends) == 5  # two values on two folds, and once more on all rows
    assert all(row["estimator_name"] == "LogisticRegression" for row in steps)


# Ends


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", [LogisticRegression(), LinearRegression(solver="momentum")], ids=str)
def test_a_callback_may_ask_for_the_end(model):
    X, y = data()
    fit, notes = written(model, X, y, end_at=1)
    steps = list(model.steps(X, y))
    assert fit.n_iter_ == 2
    assert fit.stop_ is Stop.INTERRUPTED
    assert fit.events_ == (ASKED,)
    assert np.array_equal(np.atleast_2d(fit.coef_), steps[2].weight.numpy())
    assert len(notes.of_steps("end")) == 3


def test_of_a_run_that_diverges_nothing_is_kept_and_callbacks_are_torn_down():
    notes = Notes()
    model = LinearRegression(solver="sgd", lr=1e9).set_callbacks(notes)
    with pytest.raises(ValueError, match="the run diverged"):
        model.fit(*data())
    assert notes.notes[-1][0] == "teardown"
    assert notes.of_steps("begin")[-1] is None
    assert notes.of_steps("begin")[-2] is not None
    assert not hasattr(model, "coef_")


def test_ctrl_c_still_ends_the_task_of_the_fit(monkeypatch):
    X, y = data()
    shown, calls = LinearProblem.grads, iter(range(100))

    def parts(self, point):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return shown(self, point)

    monkeypatch.setattr(LinearProblem, "grads", parts)
    with pytest.warns(ConvergenceWarning, match="the run was interrupted"):
        fit, notes = written(LogisticRegression(), X, y)
    assert fit.n_iter_ == 1
    assert [hook for hook, context, _ in notes.notes if context.task_name == "fit"][-2:] == ["end", "teardown"]


# What goes wrong is said


def test_only_callbacks_are_taken():
    with pytest.raises(TypeError, match="FitCallback protocol"):
        LogisticRegression().set_callbacks(print)


def test_a_solver_that_is_not_offered_is_warned_of():
    with pytest.warns(UserWarning, match=r"solver='lbfgs', 'sgd', .*; here it is 'saga', which fit will refuse"):
        LogisticRegression(solver="saga").set_callbacks(Notes())


@pytest.mark.parametrize("model", [LogisticRegression(max_iter=1), LinearRegression(solver="sgd", max_iter=1)], ids=str)
def test_a_warning_points_to_the_line_that_fits(model):
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(*data())
    assert caught[0].filename == __file__


def test_an_older_scikit_learn_has_no_callbacks_and_fits_alike():
    program = """
import sys, warnings
import sklearn.linear_model
sys.modules["sklearn.callback"] = None  # from here on it cannot be imported
from stepfit import LinearRegression, LogisticRegression
print(LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).coef_.round(6))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    LogisticRegression(max_iter=0).fit([[0.0], [1.0]], [0, 1])
print(caught[0].filename)
try:
    LogisticRegression().set_callbacks()
except ImportError as refusal:
    print(refusal)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    coef, warned, refused = done.stdout.splitlines()
    assert coef == "[2.]"
    assert warned == "<string>"
    assert refused.startswith("callbacks came with scikit-learn 1.9")


# Several runs of one fit


class Counting(CallbackSupportMixin):
    """Counts to a limit, several times, and keeps the last number."""

    @with_callbacks
    def fit(self, *limits):
        watch = Watch(self, "X", runs=len(limits))
        for limit in limits:
            run = (
                Step(index=i, loss=i, seconds=0.0, stop=Stop.CONVERGED if i == limit else None)
                for i in range(limit + 1)
            )
            for step in watch(Steps(run, {"max_steps": 3}), lambda step: {"count_": step.index}):
                self.count_ = step.index
        watch.end()
        return self


def test_several_runs_are_tasks_of_the_fit_with_their_own_steps():
    notes = Notes()
    assert Counting().set_callbacks(notes).fit(1, 2).count_ == 2

    def path(context):
        return (*(path(context.parent) if context.parent else ()), context.task_id)

    ends = [(path(context), fitted and fitted.count_) for hook, context, fitted in notes.notes if hook == "end"]
    assert ends == [
        ((0, 0, 0), 1), ((0, 0, 1), None), ((0, 0), 1),
        ((0, 1, 0), 1), ((0, 1, 1), 2), ((0, 1, 2), None), ((0, 1), 2),
        ((0,), 2),
    ]  # fmt: skip
    assert notes.notes[0][1].max_subtasks == 2
    assert Counting().fit(2).count_ == 2


# k-means

CLUSTERS = [
    KMeans(3, random_state=0, tol=0.0),
    MiniBatchKMeans(3, batch_size=30, max_iter=3, random_state=0),
    MiniBatchKMeans(3, batch_size=30, max_iter=3, exact=True, random_state=0),
]


@pytest.mark.parametrize("model", CLUSTERS, ids=str)
def test_callbacks_see_the_steps_of_k_means(model):
    X, _ = data()
    fit, notes = written(model, X)
    steps, seen = list(model.steps(X)), notes.of_steps("begin")
    assert len(seen) > len(steps) if getattr(model, "exact", False) else len(seen) == len(steps)
    learned = "centers" if isinstance(model, KMeans) else "next_centers"
    for fitted, step in zip(seen, steps):
        assert np.array_equal(fitted.cluster_centers_, getattr(step, learned).numpy())
    for fitted in (seen[-1], notes.notes[-2][2]):
        assert np.array_equal(fitted.predict(X), fit.labels_)
    assert np.array_equal(clone(model).fit(X).labels_, fit.labels_)


@pytest.mark.parametrize("model", CLUSTERS, ids=str)
def test_a_callback_may_end_k_means(model):
    with pytest.warns(ConvergenceWarning, match="interrupted") as caught:
        fit, notes = written(model, data()[0], end_at=0)
    assert caught[0].filename == __file__
    assert fit.stop_ is Stop.INTERRUPTED
    assert len(notes.of_steps("end")) == 2


def test_starts_that_are_left_are_not_tried_after_that():
    model = KMeans(3, init="random", n_init=5, random_state=0)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        _, notes = written(model, data()[0], end_at=1)
    assert len(notes.of_steps("begin")) == 3
    _, notes = written(model, data()[0])
    assert sum(context.task_name == "run" for _, context, _ in notes.notes) == 2 * 5
