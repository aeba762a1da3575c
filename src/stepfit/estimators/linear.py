"""LinearRegression: least squares in closed form, or by steps, with penalties."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from sys import float_info
from typing import Any, ClassVar

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_y, check_consistent_length
from torch import Tensor

from stepfit.descent.engine import DescentStep
from stepfit.descent.linear import LinearProblem
from stepfit.estimators.arrays import cast_like, checked_size, linear_output, required, to_numpy
from stepfit.estimators.linear_models import CONSTRAINTS, GRADIENT, LinearModel
from stepfit.kernels.points import as_tensor
from stepfit.steps import carried


class LinearRegression(MultiOutputMixin, RegressorMixin, LinearModel):  # type: ignore[misc]
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

    def optimum(self, X: Any, y: Any, sample_weight: Any = None) -> DescentStep:
        """Return the step that all runs head for: the closed form, or with l1 a long run to 1e-12.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        DescentStep
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
        options = {"solver": "nesterov", "tol": 1e-12} if self.l1 > 0 else {"solver": "exact"}
        return self._optimum(X, y, sample_weight, options)

    def _targets(self, X: Any, x: Tensor, y: Any, weight: Tensor) -> tuple[Tensor, str, Tensor, None]:
        if self.solver in ("exact", "lbfgs") and self.l1 > 0:
            raise ValueError(f"solver={self.solver!r} has no l1 penalty, and l1 is {self.l1:g}; take 'nesterov'")
        if self.solver == "exact" and self.early_stopping:
            raise ValueError("solver='exact' makes one step, so that there is nothing to stop early; take 'lbfgs'")
        array = _check_y(required(y, self), multi_output=True, y_numeric=True, estimator=self)
        check_consistent_length(x, array)
        target = checked_size(as_tensor(array, "y").to(x), "y")
        self._flat = target.ndim == 1
        return target.reshape(len(x), -1).double(), "MSELoss", weight, None

    def _penalties(self, total: float, outputs: int) -> tuple[float, float]:
        # The loss of the engine is the mean squared error, so twice half of it, and a mean over the targets too.
        return float(self.l1) * 2 / outputs, float(self.l2) * 2 / outputs

    def _tolerance(self, problem: LinearProblem) -> float:
        return float(self.tol) * float(problem.look(problem.point()).gradient.abs().max())

    def _learned(self, step: DescentStep, X: Any) -> dict[str, Any]:
        weight, bias = self._weights_of(step, X)
        if self._flat:
            weight, bias = weight[0], bias[0]
        learned = {"coef_": weight, "intercept_": bias[()] if self.fit_intercept else 0.0, "n_iter_": step.epoch}
        if self.solver != "exact":
            return learned
        state = carried(step)
        return learned | {"n_iter_": 1, "rank_": state["rank"], "singular_": cast_like(state["singular"], X)}

    def predict(self, X: Any) -> Any:
        """Return X @ coef_.T + intercept_.

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
        return cast_like(linear_output(self, X), X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R², 1 at best, of at least two rows; parameters as in fit."""
        found = self.predict(X)
        if len(found) < 2:
            raise ValueError("R² compares with the mean of y, which needs at least 2 rows; X has 1")
        with np.errstate(over="ignore", invalid="ignore"):
            score = float(r2_score(*map(to_numpy, (y, found)), sample_weight=to_numpy(sample_weight)))
        if not isfinite(score):
            raise ValueError(f"R² is {score}: squares of errors overflow; divide y, or sample_weight, by a constant")
        return score
