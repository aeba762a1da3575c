"""What can be drawn: the rules that figures, the player and the command line share, and steps as arrays of numpy."""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stepfit.formats import counted
from stepfit.kernels.points import as_tensor

Floats = NDArray[np.float64]


def array(tensor: Tensor) -> Floats:
    """Copy a tensor of any dtype and device to float64 in numpy."""
    copy: Floats = tensor.detach().double().cpu().numpy()
    return copy


def layout(d: int) -> str:
    """Return how clusters of d features are drawn, "plane" or "wall" (of images); raise ValueError for any other d."""
    if d == 2:
        return "plane"
    if d > 4 and isqrt(d) ** 2 == d:
        return "wall"
    raise ValueError(
        f"x has {counted(d, 'feature')}; k-means can be drawn for 2 (a plane), "
        "or for a square number above 4, such as 784 (images)"
    )


def linear(step: Any) -> tuple[Floats, Floats] | None:
    """Return weight (outputs, d) and bias (outputs,) of a step of a linear model; None for any other model."""
    weight = step.params.get("weight")
    if weight is None or weight.ndim != 2 or not step.params.keys() <= {"weight", "bias"}:
        return None
    return array(weight), array(step.params["bias"]) if "bias" in step.params else np.zeros(len(weight))


def class_scores(step: Any, d: int) -> tuple[Floats, Floats] | None:
    """Return weight (classes, d) and bias (classes,) of scores, of which the largest is the class that a step predicts.

    A model of one output has two classes, and the score of class 0 is the threshold. None when the model is not linear
    in d features, or does not say what its output means.
    """
    line = linear(step)
    if line is None or line[0].shape[1] != d:
        return None
    weight, bias = line
    if len(weight) > 1:
        return line
    if step.threshold is None:
        return None
    return np.concatenate([np.zeros((1, d)), weight]), np.concatenate([[step.threshold], bias])


def class_numbers(y: Any, step: Any, classes: int) -> NDArray[np.int64] | None:
    """Return the class of each row, (n,), as 0 to classes - 1; None when y does not hold that many classes.

    Classes of other names, such as 3 and 7, are numbered in order where the loss is one of classes: squared errors,
    whose threshold is 0.5, are those of 0 and 1 themselves.
    """
    y = as_tensor(y, "y")
    if y.ndim > 1 and y.shape[1] > 1:
        return None
    kinds, numbers = np.unique(array(y.reshape(-1)), return_inverse=True)
    if np.isin(kinds, np.arange(classes)).all():
        return kinds[numbers].astype(np.int64)
    return numbers if not step.threshold and len(kinds) == classes and (kinds == kinds.round()).all() else None
