"""warn(): a warning that points to the line of the user's program that called the estimator."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import joblib
import sklearn

import stepfit

_PACKAGES = tuple(str(Path(str(package.__file__)).parent) for package in (stepfit, sklearn, joblib))


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the nearest line outside of this package, scikit-learn and joblib, which call `fit` for the user."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGES):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
