"""Arrays in and out of the estimators: anything scikit-learn takes, tensors as they are, the same kind back."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from stepfit.kernels.points import LARGEST, as_tensor

# What k-means takes as it is; other numbers, and objects that are numbers, become float64.
_TAKEN_AS_THEY_ARE = [
    np.float64, np.float32, np.float16, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.bool_,
]  # fmt: skip


def checked(estimator: Any, X: Any, *, reset: bool) -> Tensor:
    """Return X as a finite float tensor (n, d), on its own device; with `reset`, as in fit, learn its features."""
    if not isinstance(X, Tensor):
        array = validate_data(estimator, X, reset=reset, dtype=[np.float64, np.float32])
        return checked_size(as_tensor(array, "X"), "X")
    x = checked_tensor(estimator, X, reset=reset)
    # Half precision has too few digits for sums; whole numbers are exact in float64.
    kind = torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else torch.float64
    return checked_size(x.to(kind), "X")


def shared_points(estimator: Any, X: Any, *, reset: bool) -> Tensor:
    """Return X, or the .npy file that it is the path of, as a tensor (n, d) that shares its memory, in its own dtype.

    Only the shape and the features are checked: `Points` looks at the values.
    """
    if isinstance(X, (str, PathLike)):
        X = as_tensor(X, "X")
    if isinstance(X, Tensor):
        return checked_tensor(estimator, X, reset=reset)
    return as_tensor(validate_data(estimator, X, reset=reset, dtype=_TAKEN_AS_THEY_ARE, ensure_all_finite=False), "X")


def checked_tensor(estimator: Any, X: Tensor, *, reset: bool) -> Tensor:
    """Check the shape of a tensor (n, d), and its features against those of fit; with `reset` learn them."""
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X has shape {tuple(X.shape)}; it must be (n, d): a row an example, at least one of each")
    if X.is_complex():
        raise ValueError(f"X has dtype {X.dtype}; Complex data not supported: real numbers are needed")
    if reset:
        estimator.n_features_in_ = X.shape[1]
        vars(estimator).pop("feature_names_in_", None)
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    return as_tensor(X, "X")


def checked_size(values: Tensor, name: str) -> Tensor:
    """Return the values after checking that all of them and their squares are finite."""
    low, high = values.aminmax()  # NaN goes through both
    if not (float(low) >= -LARGEST and float(high) <= LARGEST):
        raise ValueError(
            f"{name} contains NaN, infinity or a value over {LARGEST:g} in {values.dtype}: "
            "remove such rows, or divide by a constant"
        )
    return values


def linear_output(estimator: Any, X: Any) -> Tensor:
    """Return X @ coef_.T + intercept_ after fit, of X's dtype and on its device."""
    check_is_fitted(estimator)
    x = checked(estimator, X, reset=False)
    coef, intercept = (as_tensor(getattr(estimator, name), name).to(x) for name in ("coef_", "intercept_"))
    result = torch.inner(x, coef) + intercept
    if not (result.abs() <= torch.finfo(x.dtype).max / 2).all():  # so that differences do not overflow either
        raise ValueError(
            f"a prediction overflows {x.dtype}: X holds {float(x.abs().max()):.3g}; divide it by a constant"
        )
    return result


def cast_like(result: Tensor, X: Any) -> Any:
    """Return a result as a tensor where X is one, and otherwise as an array of numpy."""
    return result if isinstance(X, Tensor) else result.numpy()


def to_numpy(values: Any) -> Any:
    """Return a tensor as an array of numpy, and anything else as it is."""
    if not isinstance(values, Tensor):
        return values
    if values.is_meta:
        raise TypeError("a meta tensor came, which has a shape and no values; give one that has")
    return values.detach().cpu().numpy()


def required(y: Any, estimator: Any) -> Any:
    """Refuse a y that is missing, in the words that scikit-learn's tools look for."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    return to_numpy(y)


def weights(sample_weight: Any, x: Tensor) -> Tensor:
    """Return checked weights, (n,) float64, on x's device; ones for None."""
    if sample_weight is None:
        return x.new_ones(len(x), dtype=torch.float64)
    rows = np.empty((len(x), 0))  # all that scikit-learn's check asks of X is its length
    weight = _check_sample_weight(to_numpy(sample_weight), rows, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight is 0 everywhere; at least one row must count")
    with np.errstate(over="ignore"):
        if not np.isfinite(weight.sum()):
            raise ValueError(f"sample_weight holds {weight.max():.3g}, and its sum overflows: divide it by a constant")
    return as_tensor(weight, "sample_weight").to(x.device)
