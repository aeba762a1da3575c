"""What every estimator's fit shares: nothing is learned from a fit that fails, and seeds come from random_state."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from numbers import Integral
from typing import Any, TypeVar, cast

from sklearn.utils import check_random_state

from stepfit.steps import checked_seed

F = TypeVar("F", bound=Callable[..., Any])


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
    """Give a seed for our own generators; None draws one without a touch on the global generator."""
    if random_state is None or isinstance(random_state, Integral):
        return checked_seed(None if random_state is None else int(random_state))
    return int(check_random_state(random_state).randint(2**31))
