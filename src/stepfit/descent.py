"""Gradient descent: descend(), linear_regression(), logistic_regression() and DescentStep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stepfit.steps import Step


@dataclass(frozen=True, eq=False, kw_only=True)
class DescentStep(Step):
    """One update. The loss is measured at `params`, before the update, on the rows that the update uses.

    Attributes
    ----------
    params, grads, next_params : Mapping from str to Tensor
        By parameter name ("weight", "bias" in the two regressions): before the update, its gradient, after it.
    metrics : Mapping from str to float
        train_accuracy, test_accuracy, test_loss, or your own; all measured at `params`.
    epoch : int
        Passes over the data so far; equals `index` on a full batch.
    lr : float
        The learning rate of the first parameter group.
    lr_limit : float or None
        2 / lambda_max, above which full-batch gradient descent on a linear model diverges; None where unknown.
    """

    params: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    next_params: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    epoch: int
    lr: float
    lr_limit: float | None
