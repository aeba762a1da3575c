"""What every fit shares: nothing is learned where it fails, a seed of random_state, warnings that name the caller."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import wraps
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar, cast

import joblib
import sklearn
from sklearn.utils import check_random_state

import stepfit
from stepfit.steps import checked_seed

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGES = tuple(str(Path(str(package.__file__)).parent) for package in (stepfit, sklearn, joblib))


def all_or_nothing(fit: F) -> F:
    """Make a fit that raises leave the estimator as it was."""

    @wraps(fit)
    def whole(estimator: Any, *given: Any, **named: Any) -> Any:
        before = vars(estimator).copy()
        try:
            return fit(estimator, *given, **named)
        except BaseException:
            estimator.__dict__ = before
            raise

    return cast("F", whole)


def seeded(random_state: Any) -> int:
    """Return a seed for our own generators; None draws one without a touch on the global generator."""
    if random_state is None or isinstance(random_state, Integral):
        return checked_seed(None if random_state is None else int(random_state))
    return int(check_random_state(random_state).randint(2**31))


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the nearest line outside of this package, scikit-learn and joblib, which call `fit` for the user."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGES):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
