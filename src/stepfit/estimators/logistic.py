"""LogisticRegression: two classes or more, by L-BFGS or gradient descent, with penalties."""

from __future__ import annotations

import math
import warnings
from numbers import Real
from sys import float_info
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length
from torch import Tensor

from stepfit.descent.engine import DescentStep
from stepfit.descent.linear import LinearProblem
from stepfit.estimators.arrays import cast_like, linear_output, required, to_numpy
from stepfit.estimators.linear_models import CONSTRAINTS, GRADIENT, LinearModel


class LogisticRegression(ClassifierMixin, LinearModel):  # type: ignore[misc]
    """Logistic regression: binary, or multinomial for three classes and more, by L-BFGS or gradient descent.

    What is made small is, as in scikit-learn, C sum_i w_i loss_i + l1_ratio |coef_|_1 + (1 - l1_ratio) |coef_|² / 2,
    over C sum_i w_i.

    Parameters
    ----------
    C : float, default 1
        Inverse strength of the penalty; np.inf for none.
    l1_ratio : float, default 0
        The part of l1 in the penalty, 0 to 1. It sets weights to exactly 0 and needs a gradient solver.
    tol : float, default 1e-4
        The run ends when no partial derivative exceeds it.
    fit_intercept : bool, default True
        Whether there is a bias; it is not penalised.
    class_weight : dict, "balanced" or None
        A factor of each class's weights; "balanced" gives every class the same total.
    solver : "lbfgs", "sgd", "momentum", "nesterov" or "adam"
        L-BFGS, or gradient descent by an update rule of torch.optim.
    max_iter : int, default 100
        The most passes over the rows; without batches an update is one.
    lr : "auto" or float, default "auto"
        The learning rate of a gradient solver; "auto" is 1/L, L being a bound on the curvature of the loss (for "adam":
        what moves no prediction by more than a tenth of its unit). A larger one may diverge: that is a ValueError,
        which names the limit, and nothing is learned.
    momentum : float, default 0.9
        The share of the last move that is made again, of "momentum" and "nesterov".
    batch_size : int, optional
        The most rows of an update of a gradient solver; None takes all.
    warm_start : bool, default False
        Begin at the coef_ of the last fit.
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
    classes_ : array of shape (classes,)
        The values of y, sorted.
    coef_ : array of shape (1, d), or (classes, d) for three and more
        The weight, of X's dtype; as are all results, a tensor on X's device where X was a tensor.
    intercept_ : array of shape (1,) or (classes,)
        The bias.
    n_iter_ : array of shape (1,), int32
        Passes over the rows; without batches, updates made.
    loss_ : float
        At coef_, penalties and all.
    stop_ : Stop
        Why the run ended; INTERRUPTED after Ctrl-C, which keeps the last whole step.
    events_ : tuple of str
        What is worth knowing, in words: separable classes, features out of scale.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, 2006, algorithms 3.5, 3.6, 7.4 and 7.5.

    Examples
    --------
    >>> from stepfit import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"])
    >>> print(*model.predict([[0.5], [2.5]]))
    low high
    >>> model.stop_.name
    'TOLERANCE'
    """

    _SOLVERS = ("lbfgs", *GRADIENT)
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, float_info.max, closed="right"), Options(Real, {math.inf})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "solver": [StrOptions(set(_SOLVERS))],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "warm_start": ["boolean"],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        warm_start: bool = False,
        lr: float | str = "auto",
        momentum: float = 0.9,
        batch_size: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        standardize: bool = False,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.lr = lr
        self.momentum = momentum
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.standardize = standardize

    def _learned(self, step: DescentStep, X: Any) -> dict[str, Any]:
        coef, intercept = self._weights_of(step, X)
        return {"coef_": coef, "intercept_": intercept, "n_iter_": np.array([step.epoch], dtype=np.int32)}

    def set_callbacks(self, *callbacks: Any) -> LogisticRegression:
        """Call these callbacks of sklearn.callback in the next fits, none for none; they see each step of any solver.

        A solver that is not offered, which fit would refuse, is warned of here already, as scikit-learn does.
        """
        if self.solver not in self._SOLVERS:
            offered = ", ".join(map(repr, self._SOLVERS))
            warnings.warn(
                f"Callbacks are only supported in {type(self).__name__} for solver={offered}; here it is "
                f"{self.solver!r}, which fit will refuse",
                stacklevel=2,
            )
        super().set_callbacks(*callbacks)
        return self

    def optimum(self, X: Any, y: Any, sample_weight: Any = None) -> DescentStep:
        """Return the step that all runs head for, by L-BFGS to the last digits, or with l1 by a long run to 1e-10.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        DescentStep
            Of all rows. `step.distance(optimum)` is how far a step is from it.

        Raises
        ------
        ValueError
            Where there is none: the classes are separable and there is no penalty.
        """
        best = {"solver": "nesterov", "tol": 1e-10} if self.l1_ratio > 0 else {"solver": "lbfgs", "tol": 0.0}
        last = self._optimum(X, y, sample_weight, {**best, "warm_start": False})
        if last.margin is not None and last.margin > 0:
            raise ValueError(
                "the classes are separable and there is no penalty, so there is no optimum; give a finite C"
            )
        return last

    def _targets(self, X: Any, x: Tensor, y: Any, weight: Tensor) -> tuple[Tensor, str, Tensor, Tensor]:
        if self.solver == "lbfgs" and self.l1_ratio > 0:
            raise ValueError(
                f"Solver lbfgs supports only 'l2' or None penalties, got l1_ratio={self.l1_ratio:g}; take 'nesterov'"
            )
        array = _check_y(required(y, self), estimator=self)
        check_consistent_length(x, array)
        check_classification_targets(array)
        classes, numbers = np.unique(array, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y needs at least 2 classes, but the data contains only one class: {classes[0]!r}")
        number = torch.from_numpy(numbers).to(x.device)
        weight = weight * self._factors(classes, array, number, weight)[number]
        self.classes_ = torch.from_numpy(classes).to(y.device, y.dtype) if isinstance(y, Tensor) else classes
        if len(classes) == 2:
            return number[:, None].double(), "BCEWithLogitsLoss", weight, number
        return number, "CrossEntropyLoss", weight, number

    def _penalties(self, total: float, outputs: int) -> tuple[float, float]:
        strength = 1 / (self.C * total) if self.C * total > 0 else math.inf
        if strength == math.inf and total > 0:
            raise ValueError(f"C={self.C:g} times the sum of the weights is too small to divide by; raise C")
        strength = 0.0 if total == 0 else strength
        return self.l1_ratio * strength, (1 - self.l1_ratio) * strength

    def _tolerance(self, problem: LinearProblem) -> float:
        return float(self.tol)

    def _factors(self, classes: Any, array: Any, number: Tensor, weight: Tensor) -> Tensor:
        """Return the factor of each class, (classes,) float64."""
        if self.class_weight == "balanced":
            # Not by scikit-learn's function: before 1.7 it knows no sample weights.
            totals = weight.new_zeros(len(classes)).index_add_(0, number, weight)
            return torch.where(totals > 0, weight.sum() / (len(classes) * totals), 0.0)
        return torch.from_numpy(compute_class_weight(self.class_weight, classes=classes, y=array)).to(weight)

    def decision_function(self, X: Any) -> Any:
        """Return the logits.

        Parameters
        ----------
        X : array-like of shape (n, d)
            The inputs.

        Returns
        -------
        array of shape (n,) for two classes, otherwise (n, classes)
            Above 0 the second class is predicted; of several, the largest. A tensor where X is one.

        Raises
        ------
        NotFittedError, ValueError
            Before fit, or where X does not fit what was learned.
        """
        return cast_like(self._logits(X), X)

    def _logits(self, X: Any) -> Tensor:
        logits = linear_output(self, X)
        return logits[:, 0] if logits.shape[1] == 1 else logits

    def predict(self, X: Any) -> Any:
        """Return the likeliest class of each row, (n,), in the kind of array that y was; X as in decision_function."""
        logits = self._logits(X)
        number = (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)
        classes = self.classes_
        return classes[number.to(classes.device)] if isinstance(classes, Tensor) else classes[to_numpy(number)]

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of predict_proba, to full precision for the unlikely ones too."""
        logits = self._logits(X)
        if logits.ndim == 1:
            logits = torch.stack([torch.zeros_like(logits), logits], 1)
        return cast_like(torch.log_softmax(logits, 1), X)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (n, classes), in the order of classes_; X as in decision_function."""
        logs = self.predict_log_proba(X)
        return logs.exp() if isinstance(logs, Tensor) else np.exp(logs)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows that are predicted right; parameters as in fit."""
        right = _check_y(required(y, self), estimator=self)
        return float(accuracy_score(right, to_numpy(self.predict(X)), sample_weight=to_numpy(sample_weight)))
