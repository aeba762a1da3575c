"""LinearRegression: least squares in closed form, or by steps, with penalties."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from math import isfinite, sqrt
from numbers import Real
from sys import float_info
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_y, check_consistent_length
from torch import Tensor

from stepfit.descent.linear import LinearStep, Objective, squared_error
from stepfit.estimators.arrays import checked, given, like, limited, linear, to_numpy, weights
from stepfit.estimators.callbacks import CallbackSupportMixin, Watch, torn_down
from stepfit.estimators.fitting import (
    CONSTRAINTS,
    GRADIENT,
    Scaling,
    all_or_nothing,
    last_of,
    seeded,
    solve,
    split,
    stopped_early,
    told,
)
from stepfit.kernels.points import as_tensor
from stepfit.steps import Steps, Stop


class LinearRegression(CallbackSupportMixin, MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Least squares: in closed form by the singular value decomposition, or by steps, with penalties.

    What is made small is half the mean squared error (weighted) + l1 |coef_|_1 + l2 |coef_|² / 2: scikit-learn's
    Lasso(alpha) is l1=alpha, its Ridge(alpha) is l2=alpha/n.

    Parameters
    ----------
    fit_intercept : bool, default True
        Whether there is a bias.
    tol : float, default 1e-6
        "exact": singular values up to tol times the largest count as 0: what they stand for is not learned, and coef_
        is the shortest of all that fit equally well. Other solvers: the run ends when no partial derivative exceeds
        tol times the largest where all weights are 0.
    solver : "exact", "sgd", "momentum", "nesterov", "adam" or "lbfgs"
        The closed form, gradient descent by an update rule of torch.optim, or L-BFGS.
    l1, l2 : float, default 0
        Strength of the penalties; the bias has none. l1 sets weights to exactly 0 and needs a gradient solver.
    max_iter : int, default 1000
        The most passes over the rows.
    lr : "auto" or float, default "auto"
        The learning rate of a gradient solver; "auto" is 1/L, L being a bound on the curvature of the loss (for "adam":
        what moves no prediction by more than a tenth of its unit). A larger one may diverge: that is a ValueError,
        which names the limit, and nothing is learned.
    momentum : float, default 0.9
        The share of the last move that is made again, of "momentum" and "nesterov".
    batch_size : int, optional
        The most rows of an update of a gradient solver; None takes all.
    early_stopping : bool, default False
        Hold rows out, and end when they have fitted no better for `n_iter_no_change` passes. The weights under which
        they fitted best are kept.
    validation_fraction : float, default 0.1
        The part of the rows that is held out.
    n_iter_no_change : int, default 5
        How many passes to wait for a better fit.
    standardize : bool, default False
        Learn from (X - mean) / standard deviation, which is a copy of X. coef_ and intercept_ are for X as it is; the
        penalties are on the weights of the standardised features.
    random_state : int, RandomState or None
        Of the order of the rows in batches, and of which are held out. None draws a seed; the global generator is
        never used.

    Attributes
    ----------
    coef_ : array of shape (d,), or (targets, d) when y is a table
        The weight, of X's dtype; as are all results, a tensor on X's device where X was a tensor.
    intercept_ : float, or array of shape (targets,)
        The bias.
    rank_ : int
        Of X, centered where there is an intercept; of "exact" only.
    singular_ : array of shape (min(n, d),)
        Its singular values, the largest first; of "exact" only.
    n_iter_ : int
        Passes over the rows; 1 for "exact".
    loss_ : float
        At coef_, penalties and all.
    stop_ : Stop
        Why the run ended; INTERRUPTED after Ctrl-C, which keeps the last whole step.
    events_ : tuple of str
        What is worth knowing, in words: features that repeat others or are out of scale.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th edition, 2013, section 5.5.

    Examples
    --------
    >>> from stepfit import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> model.predict([[3.0]]).round(6)
    array([7.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "solver": [StrOptions({"exact", "lbfgs", *GRADIENT})],
        "l1": [Interval(Real, 0, float_info.max, closed="both")],
        "l2": [Interval(Real, 0, float_info.max, closed="both")],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        solver: str = "exact",
        l1: float = 0.0,
        l2: float = 0.0,
        max_iter: int = 1000,
        lr: float | str = "auto",
        momentum: float = 0.9,
        batch_size: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        standardize: bool = False,
        random_state: Any = None,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.l1 = l1
        self.l2 = l2
        self.max_iter = max_iter
        self.lr = lr
        self.momentum = momentum
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.standardize = standardize
        self.random_state = random_state

    @all_or_nothing
    @torn_down
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegression:
        """Learn coef_ and intercept_.

        Parameters
        ----------
        X : array-like of shape (n, d)
            The inputs. float32 stays float32; other numbers become float64.
        y : array-like of shape (n,) or (n, targets)
            The targets.
        sample_weight : array-like of shape (n,), optional
            Not negative.

        Returns
        -------
        LinearRegression
            This object.

        Raises
        ------
        TypeError, ValueError
            What came, and what would be right.

        Warns
        -----
        ConvergenceWarning
            When max_iter came first, or Ctrl-C.
        """
        x, flat, tol, steps = self._begin(X, y, sample_weight)
        watch = Watch(self, X, y, sample_weight)
        last = last_of(watch(steps, lambda step: self._learned(step, X, flat)))
        self.__dict__.update(self._learned(last, X, flat))
        self.n_iter_ = max(last.epoch, 1) if self.solver == "exact" else last.epoch
        self.loss_, self.stop_ = last.loss, last.stop
        warned = told(self, x, last, tol)
        for event in warned:
            warnings.warn(event, ConvergenceWarning, stacklevel=4)
        self.events_ = last.events + warned
        watch.end()
        return self

    def _learned(self, step: LinearStep, X: Any, flat: bool) -> dict[str, Any]:
        """Give coef_ and intercept_ as a step has them."""
        weight, bias = (step.weight[0], step.bias[0]) if flat else (step.weight, step.bias)
        return {"coef_": like(weight, X), "intercept_": like(bias, X)[()] if self.fit_intercept else 0.0}

    def steps(self, X: Any, y: Any, sample_weight: Any = None) -> Steps[LinearStep]:
        """Give one run as steps, a single one for "exact"; this object stays as it is.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        Steps of LinearStep
            The first is the start, and the last holds what `fit` would keep.

        Raises
        ------
        TypeError, ValueError
            At the call, as `fit` does.
        """
        return copy.copy(self)._begin(X, y, sample_weight)[-1]

    def optimum(self, X: Any, y: Any, sample_weight: Any = None) -> LinearStep:
        """Give the step that all runs head for: the closed form, or with l1 a long run to 1e-12.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        LinearStep
            Of all rows. `step.distance(optimum)` is how far a step is from it.

        Examples
        --------
        >>> from stepfit import LinearRegression
        >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
        >>> model = LinearRegression(solver="nesterov")
        >>> best = model.optimum(X, y)
        >>> [round(step.distance(best), 2) for step in model.steps(X, y)][:3]
        [2.24, 2.01, 0.18]
        """
        exact = {"solver": "nesterov", "tol": 1e-12} if self.l1 > 0 else {"solver": "exact"}
        rest = {"lr": "auto", "batch_size": None, "early_stopping": False, "max_iter": 100_000}
        return last_of(clone(self).set_params(**exact, **rest).steps(X, y, sample_weight))

    def _begin(self, X: Any, y: Any, sample_weight: Any) -> tuple[Tensor, bool, float, Steps[LinearStep]]:
        """Check everything; give X, whether y is flat, the largest derivative to end with, and the steps."""
        self._validate_params()
        if self.solver in ("exact", "lbfgs") and self.l1 > 0:
            raise ValueError(f"solver={self.solver!r} has no l1 penalty, and l1 is {self.l1:g}; take 'nesterov'")
        if self.solver == "exact" and self.early_stopping:
            raise ValueError("solver='exact' makes one step, so that there is nothing to stop early; take 'lbfgs'")
        x = checked(self, X, reset=True)
        array = _check_y(given(y, self), multi_output=True, y_numeric=True, estimator=self)
        check_consistent_length(x, array)
        target = limited(as_tensor(array, "y").to(x), "y")
        weight = weights(sample_weight, x)
        columns = target.reshape(len(x), -1)
        seed = seeded(self.random_state)
        rows, kept, held = x, (columns, weight), None
        if self.early_stopping:
            learned, tested = (part.to(x.device) for part in split(len(x), self.validation_fraction, seed))
            held = Objective(
                x[tested], columns[tested].double(), columns.shape[1], squared_error, sample_weight=weight[tested]
            )
            rows, kept = x[learned], (columns[learned], weight[learned])
        scaling = None
        if self.standardize:
            scaling = Scaling.of(rows, (kept[1] / kept[1].sum())[:, None], self.fit_intercept)
            rows = scaling.there(rows)
        objective = Objective(
            rows,
            kept[0].double(),
            columns.shape[1],
            squared_error,
            l1=float(self.l1),
            l2=float(self.l2),
            intercept=self.fit_intercept,
            sample_weight=kept[1],
        )
        tol = self.tol
        if self.solver == "exact":
            run = self._exact(X, objective, kept[0], kept[1])
        else:
            for name in ("rank_", "singular_"):
                self.__dict__.pop(name, None)
            tol = self.tol * float(objective.look(objective.start()).gradient.abs().max())
            run = solve(self, objective, tol=tol, seed=seed)
        steps: Iterable[LinearStep] = run
        if scaling is not None:
            steps = map(scaling.back, steps)
        if held is not None:
            steps = stopped_early(steps, held, self.n_iter_no_change)
        return x, target.ndim == 1, tol, Steps(iter(steps), run.settings)

    def _exact(self, X: Any, objective: Objective, columns: Tensor, weight: Tensor) -> Steps[LinearStep]:
        """Give the one step of the closed form, and keep rank_ and singular_."""
        begun = perf_counter()
        x = objective.x
        center, level = torch.zeros_like(x[0]), torch.zeros_like(columns[0])
        if self.fit_intercept:
            center, level = ((objective.share * values).sum(0).to(x.dtype) for values in (x, columns))
        root = objective.share.sqrt().to(x.dtype)
        centered = root * (x - center)
        if not centered.isfinite().all():
            raise ValueError(f"X minus its mean overflows {x.dtype}: X holds {float(x.abs().max()):.3g}; divide it")
        u, singular, v = torch.linalg.svd(centered, full_matrices=False)
        rank = int((singular > self.tol * singular[0]).sum())
        kept = singular[:rank]
        inverse = 1 / (kept + objective.l2 / kept)  # without l2 a division by the singular value
        coef = (u[:, :rank].T @ (root * (columns - level))).T * inverse @ v[:rank]
        intercept = level - coef @ center
        point = objective.start(coef, intercept)
        look = objective.look(point)
        total = float(weight.sum())
        whole = singular * sqrt(total)
        if not (all(part.isfinite().all() for part in (coef, intercept, whole)) and isfinite(look.loss)):
            raise ValueError(
                f"coef_, singular_ or the loss overflows {x.dtype}: X varies by {float(singular[0]):.3g}, y by "
                f"{float((columns - level).abs().max()):.3g}, and the weights add up to {total:.3g}; bring them near 1"
            )
        self.rank_, self.singular_ = rank, like(whole, X)
        spare = x.shape[1] - rank
        said = (
            f"{spare} of {x.shape[1]} features are constant or follow from the others (rank {rank}): "
            "many coef_ fit equally well, and this is the shortest"
        )
        step = LinearStep(
            index=0,
            loss=look.loss,
            seconds=perf_counter() - begun,
            events=(said,) if spare else (),
            stop=Stop.CONVERGED,
            weight=coef,
            bias=intercept,
            gradient=objective.steepest(point, look.gradient),
            epoch=0,
        )
        return Steps(
            iter([step]), {"algorithm": "exact", "max_steps": 1, "n": len(x), "d": x.shape[1], "l2": objective.l2}
        )

    def predict(self, X: Any) -> Any:
        """Give X @ coef_.T + intercept_.

        Parameters
        ----------
        X : array-like of shape (n, d)
            The inputs.

        Returns
        -------
        array of shape (n,) or (n, targets)
            A tensor where X is one.

        Raises
        ------
        NotFittedError, ValueError
            Before fit, or where X does not fit what was learned.
        """
        return like(linear(self, X), X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give the coefficient of determination R², 1 at best, of at least two rows; parameters as in fit."""
        found = self.predict(X)
        if len(found) < 2:
            raise ValueError("R² compares with the mean of y, which needs at least 2 rows; X has 1")
        with np.errstate(over="ignore", invalid="ignore"):
            score = float(r2_score(*map(to_numpy, (y, found)), sample_weight=to_numpy(sample_weight)))
        if not isfinite(score):
            raise ValueError(f"R² is {score}: squares of errors overflow; divide y, or sample_weight, by a constant")
        return score
