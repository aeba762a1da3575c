"""LinearModel: what LinearRegression and LogisticRegression share, from their checks to the words on a bad end."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from stepfit.descent.engine import DescentStep, run_descent
from stepfit.descent.linear import LinearProblem
from stepfit.descent.solvers import ClosedForm, GradientDescent, Lbfgs
from stepfit.estimators.arrays import cast_like, checked, weights
from stepfit.estimators.callbacks import ASKED, CallbackSupportMixin, Watch, with_callbacks
from stepfit.estimators.fitting import all_or_nothing, seeded, warn
from stepfit.kernels.points import as_tensor
from stepfit.steps import Steps, Stop

GRADIENT = ("sgd", "momentum", "nesterov", "adam")

CONSTRAINTS: dict[str, list[Any]] = {
    "tol": [Interval(Real, 0, None, closed="left")],
    "fit_intercept": ["boolean"],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "standardize": ["boolean"],
    "random_state": ["random_state"],
}

_OUT_OF_SCALE = 100  # a feature this many times as wide as the middle one is named


class LinearModel(CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """A linear model. A subclass says what its targets, its loss and its penalties are.

    It has `_targets(X, x, y, weight) -> (targets, loss, weight, classes)`, `_penalties(total, outputs) -> (l1, l2)`,
    `_tolerance(problem)`, and `_learned(step, X)`, which returns the attributes that a step leaves.
    """

    _targets: Callable[..., tuple[Tensor, str, Tensor, Tensor | None]]
    _penalties: Callable[..., tuple[float, float]]
    _tolerance: Callable[..., float]
    _learned: Callable[..., dict[str, Any]]

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn coef_ and intercept_.

        Parameters
        ----------
        X : array-like of shape (n, d)
            The inputs. float32 stays float32; other numbers become float64.
        y : array-like of shape (n,), or for LinearRegression (n, targets)
            The targets: numbers, or for LogisticRegression at least two classes, numbers or strings.
        sample_weight : array-like of shape (n,), optional
            How much each row counts; not negative.

        Returns
        -------
        LinearRegression or LogisticRegression
            This object.

        Raises
        ------
        TypeError, ValueError
            When X, y or sample_weight is no table of finite numbers, their lengths differ, options are out of range or
            do not go together, a result overflows, or the run diverges. Nothing is learned then.

        Warns
        -----
        ConvergenceWarning
            When max_iter or Ctrl-C came first, or classes are separable and there is no penalty, so no optimum.
        """
        x, tol, steps = self._begin(X, y, sample_weight)
        watch = Watch(self, X, y, sample_weight)
        last = _last_of(watch(steps, lambda step: self._learned(step, X)))
        for name in ("rank_", "singular_"):  # of the closed form
            self.__dict__.pop(name, None)
        self.__dict__.update(self._learned(last, X))
        self.loss_, self.stop_ = last.metrics.get("train_loss", last.loss), last.stop
        problems = self._bad_end(x, last, tol)
        for problem in problems:
            warn(problem, ConvergenceWarning)
        self.events_ = last.events + problems
        watch.end()
        return self

    def steps(
        self, X: Any, y: Any, sample_weight: Any = None, *, resume: DescentStep | None = None
    ) -> Steps[DescentStep]:
        """Return one run as steps, a single one for "exact"; this object stays as it is.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        resume : DescentStep, optional
            Go on after this step of an earlier run with the same X, y, weights and solver.

        Returns
        -------
        Steps of DescentStep
            The `params` of the first are the start, and those of the last are what `fit` would keep.

        Raises
        ------
        TypeError, ValueError
            At the call, as `fit` does.
        """
        return copy.copy(self)._begin(X, y, sample_weight, resume)[-1]

    def _begin(
        self, X: Any, y: Any, sample_weight: Any, resume: DescentStep | None = None
    ) -> tuple[Tensor, float, Steps[DescentStep]]:
        """Check everything; return X as a tensor (n, d), the gradient to end with, and the steps."""
        self._validate_params()
        x = checked(self, X, reset=True)
        targets, loss, weight, classes = self._targets(X, x, y, weights(sample_weight, x))
        seed = seeded(self.random_state)
        rows: Any = slice(None)
        test = None
        if self.early_stopping:
            rows, held = (part.to(x.device) for part in _split(len(x), self.validation_fraction, seed, classes))
            test = x[held], targets[held], weight[held]
        outputs = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
        l1, l2 = self._penalties(float(weight[rows].sum()), outputs)
        problem = LinearProblem(
            x[rows], targets[rows], loss, l1=l1, l2=l2, intercept=self.fit_intercept, sample_weight=weight[rows],
            standardize=self.standardize, test=test,
        )  # fmt: skip
        start = problem.point()
        if getattr(self, "warm_start", False) and hasattr(self, "coef_"):
            start = problem.point(*(as_tensor(getattr(self, name), name).to(x) for name in ("coef_", "intercept_")))
        tol = self._tolerance(problem)
        exact = self.solver == "exact"
        steps = run_descent(
            problem, self._solver(problem), start, resume=resume, seed=seed if resume is None else None,
            max_steps=1 if exact else self.max_iter * self._batches(problem) + 1, tol=-1.0 if exact else tol,
            batch_size=self.batch_size if self.solver in GRADIENT else None,
            patience=self.n_iter_no_change if self.early_stopping else None,
        )  # fmt: skip
        steps.settings |= {"tol": tol, "n": len(x)}  # the rows that are held out are of x too
        return x, tol, steps

    def _solver(self, problem: LinearProblem) -> Any:
        if self.solver == "exact":
            return ClosedForm(self.tol)
        if self.solver == "lbfgs":
            return Lbfgs(problem)
        if self.batch_size is not None and self.batch_size > problem.n:
            raise ValueError(
                f"batch_size is {self.batch_size}; there are {problem.n} rows to learn from, so it must be from 1 to "
                f"{problem.n}"
            )
        return GradientDescent(problem, self.solver, self.lr, self.momentum, self.batch_size)

    def _batches(self, problem: LinearProblem) -> int:
        size = self.batch_size if self.solver in GRADIENT and self.batch_size else problem.n
        return -(-problem.n // size)

    def _weights_of(self, step: DescentStep, X: Any) -> tuple[Any, Any]:
        """Return weight and bias of a step, in the kind of array that X is, or raise ValueError when they overflow."""
        if not all(p.isfinite().all() for p in step.params.values()):
            raise ValueError(
                f"coef_ overflows {step.weight.dtype}: a feature varies too little beside y; multiply it by a constant"
            )
        return cast_like(step.weight, X), cast_like(step.bias, X)

    def _bad_end(self, x: Tensor, last: DescentStep, tol: float) -> tuple[str, ...]:
        """Return in words what is wrong with the end of a run; nothing where it ended well."""
        if last.margin is not None and last.margin > 0:
            return (
                f"the classes are separable: every row is right by at least {last.margin:.3g}, so that larger weights "
                "always fit better, and without a penalty there is no optimum; give a finite C",
            )
        if last.stop is Stop.INTERRUPTED and ASKED not in last.events:
            return (Stop.INTERRUPTED.value,)
        if last.stop is not Stop.MAX_STEPS:
            return ()
        sentence = (
            f"{self.solver} failed to converge after {last.epoch} iteration(s): the largest partial derivative is "
            f"{last.gradient:.3g}, over tol={tol:.3g}; raise max_iter"
        )
        scales = x.double().std(0, correction=0)
        widest = int(scales.argmax())
        middle = float(scales[scales > 0].median()) if scales[widest] > 0 else 0.0
        if not self.standardize and scales[widest] > _OUT_OF_SCALE * middle:
            name = getattr(self, "feature_names_in_", range(x.shape[1]))[widest]
            sentence += (
                f", or scale the data (standardize=True): feature {name} has scale {scales[widest]:.3g}, "
                f"the middle one {middle:.3g}"
            )
        return (sentence,)

    def _optimum(self, X: Any, y: Any, sample_weight: Any, options: Mapping[str, Any]) -> DescentStep:
        """Return the last step of a run with other options, to the end on all rows."""
        rest = {"lr": "auto", "batch_size": None, "early_stopping": False, "max_iter": 100_000}
        model = copy.copy(self)
        model.__dict__ |= {**rest, **options}
        return _last_of(model._begin(X, y, sample_weight)[-1])


def _last_of(steps: Any) -> DescentStep:
    """Run to the end, or to Ctrl-C, which leaves the last whole step; raise ValueError for a run that diverged."""
    last: DescentStep | None = None
    try:
        for step in steps:
            last = step
    except KeyboardInterrupt:
        if last is None:  # there is no step to return
            raise
        last = replace(last, stop=Stop.INTERRUPTED)
    assert last is not None
    if last.stop is Stop.DIVERGED:
        raise ValueError(f"the run diverged at step {last.index}: {last.events[-1]}")
    return last


def _split(n: int, fraction: float, seed: int, classes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draw the rows to learn from and those held out, as two index tensors; with classes, the same part of each."""
    generator = torch.Generator(device="cpu").manual_seed(seed)
    order = torch.randperm(n, generator=generator, device="cpu")
    if classes is not None:
        order = order[classes.cpu()[order].argsort(stable=True)]
    count = max(1, round(fraction * n))
    held = torch.zeros(n, dtype=torch.bool)
    held[((torch.arange(count) + 0.5) * n / count).long()] = True
    learned = order[~held]
    left = set() if classes is None else set(classes.tolist()) - set(classes.cpu()[learned].tolist())
    if not len(learned) or left:
        raise ValueError(
            f"early_stopping would hold out {count} of {n} rows, and leave "
            f"{'no row of some class' if left else 'none'} to learn from; lower validation_fraction or give more rows"
        )
    return learned, order[held]
