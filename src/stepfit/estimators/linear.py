"""LinearRegression in closed form, and LogisticRegression by the steps of `fit_logistic`."""

from __future__ import annotations

import copy
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _check_y, check_consistent_length
from torch import Tensor

from stepfit.estimators.arrays import checked, fitted, like, limited, to_numpy
from stepfit.lbfgs import LogisticStep, fit_logistic
from stepfit.points import as_tensor
from stepfit.steps import Steps, Stop

_APART = 100  # a feature this many times as wide as the middle one is named


class LinearRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ordinary least squares, in closed form by the singular value decomposition.

    Parameters
    ----------
    fit_intercept : bool, default True
        Whether there is a bias.
    tol : float, default 1e-6
        Singular values up to tol times the largest count as 0: what they stand for is not learned, and coef_ is the
        shortest of all that fit equally well.

    Attributes
    ----------
    coef_ : array of shape (d,), or (targets, d) when y is a table
        The weight, of X's dtype; as are all results, a tensor on X's device where X was a tensor.
    intercept_ : float, or array of shape (targets,)
        The bias.
    rank_ : int
        Of X, centered where there is an intercept.
    singular_ : array of shape (min(n, d),)
        Its singular values, the largest first.
    events_ : tuple of str
        What is worth knowing, in words: features that repeat others.
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
    }

    def __init__(self, *, fit_intercept: bool = True, tol: float = 1e-6) -> None:
        self.fit_intercept = fit_intercept
        self.tol = tol

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
        """
        self._validate_params()
        x = checked(self, X, reset=True)
        array = _check_y(_given(y, self), multi_output=True, y_numeric=True, estimator=self)
        check_consistent_length(x, array)
        target = limited(as_tensor(array, "y").to(x), "y")
        weight = _weights(sample_weight, x)
        columns = target.reshape(len(x), -1)
        center, level = torch.zeros_like(x[0]), torch.zeros_like(columns[0])
        if self.fit_intercept:
            share = (weight / weight.sum())[:, None]
            center, level = ((share * values).sum(0).to(x.dtype) for values in (x, columns))
        root = weight.sqrt().to(x.dtype)[:, None]
        u, singular, v = torch.linalg.svd(root * (x - center), full_matrices=False)
        self.rank_ = int((singular > self.tol * singular[0]).sum())
        kept = slice(self.rank_)
        coef = (u[:, kept].T @ (root * (columns - level))).T / singular[kept] @ v[kept]
        intercept = level - coef @ center
        if not (coef.isfinite().all() and intercept.isfinite().all()):
            raise ValueError(f"coef_ overflows {x.dtype}: X varies by {float(singular[0]):.3g} only; multiply it")
        if target.ndim == 1:
            coef, intercept = coef[0], intercept[0]
        self.coef_, self.singular_ = like(coef, X), like(singular, X)
        self.intercept_ = like(intercept, X)[()] if self.fit_intercept else 0.0
        spare = x.shape[1] - self.rank_
        said = (
            f"{spare} of {x.shape[1]} features are constant or follow from the others (rank {self.rank_}): "
            "many coef_ fit equally well, and this is the shortest"
        )
        self.events_ = (said,) if spare else ()
        return self

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
        x, coef, intercept = fitted(self, X)
        return like(torch.inner(x, coef) + intercept, X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give the coefficient of determination R², 1 at best; parameters as in fit."""
        return float(r2_score(*map(to_numpy, (y, self.predict(X))), sample_weight=to_numpy(sample_weight)))


class LogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression: binary, or multinomial for three classes and more, by L-BFGS.

    What is made small is C sum_i w_i loss_i + |coef_|² / 2 over C sum_i w_i, as in scikit-learn.

    Parameters
    ----------
    C : float, default 1
        Inverse strength of the penalty; np.inf for none.
    tol : float, default 1e-4
        The run ends when no partial derivative exceeds it.
    fit_intercept : bool, default True
        Whether there is a bias; it is not penalised.
    class_weight : dict, "balanced" or None
        A factor of each class's weights; "balanced" gives every class the same total.
    random_state : int, RandomState or None
        Accepted for scikit-learn's sake: nothing is drawn.
    solver : "lbfgs"
        The one there is.
    max_iter : int, default 100
        The most updates.
    warm_start : bool, default False
        Begin at the coef_ of the last fit.

    Attributes
    ----------
    classes_ : array of shape (classes,)
        The values of y, sorted.
    coef_ : array of shape (1, d), or (classes, d) for three and more
        The weight, of X's dtype; as are all results, a tensor on X's device where X was a tensor.
    intercept_ : array of shape (1,) or (classes,)
        The bias.
    n_iter_ : array of shape (1,), int32
        Updates made.
    loss_ : float
        At coef_.
    stop_ : Stop
        Why the run ended.
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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="right")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "solver": [StrOptions({"lbfgs"})],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        warm_start: bool = False,
    ) -> None:
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Learn coef_ and intercept_.

        Parameters
        ----------
        X : array-like of shape (n, d)
            The inputs. float32 stays float32; other numbers become float64.
        y : array-like of shape (n,)
            The classes: numbers or strings, at least two different ones.
        sample_weight : array-like of shape (n,), optional
            Not negative.

        Returns
        -------
        LogisticRegression
            This object.

        Raises
        ------
        TypeError, ValueError
            What came, and what would be right.

        Warns
        -----
        ConvergenceWarning
            When max_iter came first, or the classes are separable and there is no penalty: then there is no optimum.
        """
        x, steps = self._begin(X, y, sample_weight)
        *_, last = steps
        self.coef_, self.intercept_ = like(last.weight, X), like(last.bias, X)
        self.n_iter_ = np.array([last.index], dtype=np.int32)
        self.loss_, self.stop_ = last.loss, last.stop
        self.events_ = self._told(x, last)
        for event in self.events_:
            warnings.warn(event, ConvergenceWarning, stacklevel=2)
        return self

    def steps(self, X: Any, y: Any, sample_weight: Any = None) -> Steps[LogisticStep]:
        """Give one run as steps; this object stays as it is.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        Steps of LogisticStep
            The first is the start, and the last holds what `fit` would keep.

        Raises
        ------
        TypeError, ValueError
            At the call, as `fit` does.
        """
        return copy.copy(self)._begin(X, y, sample_weight)[1]

    def _begin(self, X: Any, y: Any, sample_weight: Any) -> tuple[Tensor, Steps[LogisticStep]]:
        self._validate_params()
        x = checked(self, X, reset=True)
        array = _check_y(_given(y, self), estimator=self)
        check_consistent_length(x, array)
        check_classification_targets(array)
        classes, numbers = np.unique(array, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y needs at least 2 classes, but the data contains only one class: {classes[0]!r}")
        number = torch.from_numpy(numbers).to(x.device)
        weight = _weights(sample_weight, x)
        factors = self._factors(classes, array, number, weight)
        self.classes_ = torch.from_numpy(classes).to(y.device, y.dtype) if isinstance(y, Tensor) else classes
        start = None
        if self.warm_start and hasattr(self, "coef_"):
            start = as_tensor(self.coef_, "coef_").to(x), as_tensor(self.intercept_, "intercept_").to(x)
        steps = fit_logistic(
            x,
            number,
            len(classes),
            C=self.C,
            intercept=self.fit_intercept,
            sample_weight=weight * factors[number],
            start=start,
            tol=self.tol,
            max_steps=self.max_iter + 1,
        )
        return x, steps

    def _factors(self, classes: Any, array: Any, number: Tensor, weight: Tensor) -> Tensor:
        """Give the factor of each class, (classes,) float64."""
        if self.class_weight == "balanced":
            # Not by scikit-learn's function: before 1.7 it knows no sample weights.
            totals = weight.new_zeros(len(classes)).index_add_(0, number, weight)
            return torch.where(totals > 0, weight.sum() / (len(classes) * totals), 0.0)
        return torch.from_numpy(compute_class_weight(self.class_weight, classes=classes, y=array)).to(weight)

    def _told(self, x: Tensor, last: LogisticStep) -> tuple[str, ...]:
        if last.margin is not None and last.margin > 0:
            return (
                f"the classes are separable: every row is right by at least {last.margin:.3g}, so that larger weights "
                "always fit better, and without a penalty there is no optimum; give a finite C",
            )
        if last.stop is not Stop.MAX_STEPS:
            return ()
        said = (
            f"lbfgs failed to converge after {last.index} iteration(s): the largest partial derivative is "
            f"{last.gradient:.3g}, over tol={self.tol:g}; raise max_iter"
        )
        scales = x.double().std(0, correction=0)
        widest = int(scales.argmax())
        middle = float(scales[scales > 0].median()) if scales[widest] > 0 else 0.0
        if scales[widest] > _APART * middle:
            name = getattr(self, "feature_names_in_", range(x.shape[1]))[widest]
            said += f", or scale the data: feature {name} has scale {scales[widest]:.3g}, the middle one {middle:.3g}"
        return (said,)

    def decision_function(self, X: Any) -> Any:
        """Give the logits.

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
        return like(self._logits(X), X)

    def _logits(self, X: Any) -> Tensor:
        x, coef, intercept = fitted(self, X)
        logits = x @ coef.T + intercept
        return logits[:, 0] if len(coef) == 1 else logits

    def predict(self, X: Any) -> Any:
        """Give the likeliest class of each row, (n,), in the kind of array that y was; X as in decision_function."""
        logits = self._logits(X)
        number = (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)
        classes = self.classes_
        return classes[number.to(classes.device)] if isinstance(classes, Tensor) else classes[to_numpy(number)]

    def predict_log_proba(self, X: Any) -> Any:
        """Give the logarithm of predict_proba, to full precision for the unlikely ones too."""
        logits = self._logits(X)
        if logits.ndim == 1:
            logits = torch.stack([torch.zeros_like(logits), logits], 1)
        return like(torch.log_softmax(logits, 1), X)

    def predict_proba(self, X: Any) -> Any:
        """Give the probability of each class, (n, classes), in the order of classes_; X as in decision_function."""
        logs = self.predict_log_proba(X)
        return logs.exp() if isinstance(logs, Tensor) else np.exp(logs)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give the share of rows that are predicted right; parameters as in fit."""
        return float(accuracy_score(*map(to_numpy, (y, self.predict(X))), sample_weight=to_numpy(sample_weight)))


def _given(y: Any, estimator: Any) -> Any:
    """Refuse a y that is missing, in the words that scikit-learn's tools look for."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    return to_numpy(y)


def _weights(sample_weight: Any, x: Tensor) -> Tensor:
    """Give checked weights, (n,) float64, on x's device; ones for None."""
    if sample_weight is None:
        return x.new_ones(len(x), dtype=torch.float64)
    rows = np.empty((len(x), 0))  # all that scikit-learn's check asks of X is its length
    weight = _check_sample_weight(to_numpy(sample_weight), rows, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight is 0 everywhere; at least one row must count")
    return as_tensor(weight, "sample_weight").to(x.device)
