"""Estimators under scikit-learn's callbacks."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from stepfit import KMeans, LinearRegression, LogisticRegression, MiniBatchKMeans, Stop

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y = (X[:, 0] + 0.5 * rng.normal(size=60) > 0).astype(int)
MODELS = [
    KMeans(3, init=X[:3], tol=0.0),
    MiniBatchKMeans(3, init=X[:3], batch_size=20, max_iter=3, random_state=0),
    MiniBatchKMeans(3, init=X[:3], batch_size=20, max_iter=3, exact=True, random_state=0),
    LinearRegression(),
    LinearRegression(solver="sgd", batch_size=16, max_iter=2, tol=0.0, random_state=0),
    LogisticRegression(),
    LogisticRegression(solver="nesterov"),
]
each = pytest.mark.parametrize("model", MODELS, ids=str)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Notes:
    """A callback that writes down what it is told, and asks for the end after some tasks."""

    def __init__(self, most=None):
        self.most, self.told = most, []

    def setup(self, estimator, context):
        self.told.append(("setup", context.task_name, None))

    def teardown(self, estimator, context):
        self.told.append(("teardown", context.task_name, None))

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.told.append(("begin", context.task_name, fitted_estimator))
        self.seen = X, y, metadata

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.told.append(("end", context.task_name, fitted_estimator))
        return self.most is not None and len(self.of("end", "iter")) == self.most

    def of(self, hook, task):
        return [fitted for *what, fitted in self.told if what == [hook, task]]


@each
def test_a_callback_sees_each_step_and_what_is_learned_by_it(model):
    notes = Notes()
    watched = clone(model).set_callbacks(notes).fit(X, Y)
    steps = len(list(clone(model).steps(X) if "KMeans" in str(model) else clone(model).steps(X, Y)))
    begun, ended = notes.of("begin", "iter"), notes.of("end", "iter")
    assert [what for what, *_ in notes.told[:2]] == ["setup", "begin"]
    assert [what for what, *_ in notes.told[-2:]] == ["end", "teardown"]
    assert len(begun) == len(ended)
    assert len(begun) > steps if getattr(model, "exact", False) else len(begun) == steps
    assert ended[-1] is None
    alone = clone(model).fit(X, Y)
    for last in (begun[-1], notes.of("end", "fit")[0]):
        assert np.array_equal(last.predict(X), alone.predict(X))
        assert np.array_equal(watched.predict(X), alone.predict(X))
    assert not any(name.startswith("_callback") for name in vars(watched))


@each
def test_a_callback_may_end_the_fit(model):
    notes = Notes(most=1)
    ended = clone(model).set_callbacks(notes).fit(X, Y)
    assert len(notes.of("end", "iter")) <= 2
    if isinstance(model, LinearRegression) and model.solver == "exact":
        return  # a single step
    assert ended.stop_ is Stop.INTERRUPTED
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        clone(model).set_callbacks(Notes(most=1)).fit(X, Y)


def test_of_several_starts_those_left_are_not_made():
    notes = Notes(most=2)
    KMeans(3, init="random", n_init=5, random_state=0).set_callbacks(notes).fit(X)
    assert len(notes.of("begin", "iter")) == 3
    notes = Notes()
    KMeans(3, init="random", n_init=2, random_state=0).set_callbacks(notes).fit(X)
    assert sum(fitted is None for fitted in notes.of("end", "iter")) == 2


def test_a_callback_is_given_what_fit_was_given():
    notes, weight = Notes(), np.ones(60)
    KMeans(3, random_state=0).set_callbacks(notes).fit(X, sample_weight=weight)
    assert notes.seen[0] is X
    assert notes.seen[1] is None
    assert notes.seen[2]["sample_weight"] is weight


@each
def test_a_fit_that_fails_is_torn_down(model):
    notes = Notes()
    failing = clone(model).set_callbacks(notes)
    notes.on_fit_task_end = None  # no callable
    with pytest.raises(TypeError):
        failing.fit(X, Y)
    assert notes.told[-1][0] == "teardown"


@each
def test_scikit_learns_progress_bar_moves(model, capsys):
    clone(model).set_callbacks(ProgressBar()).fit(X, Y)
    assert type(model).__name__ in capsys.readouterr().out


def test_a_search_hands_its_progress_bar_on(capsys):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)
    with warnings.catch_warnings():
        search.set_callbacks(ProgressBar()).fit(X, Y)
    assert "LogisticRegression" in capsys.readouterr().out


def test_something_else_is_no_callback():
    with pytest.raises(TypeError, match="callbacks must be instances"):
        KMeans().set_callbacks(print)
