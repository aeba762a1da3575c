"""loss_surface(): the loss over the two weights of a straight line, the ground that gradient descent walks on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from stepfit.descent.engine import DescentStep
from stepfit.kernels.points import as_tensor
from stepfit.recording import Recording
from stepfit.viewers.drawable import Floats

# The mean over the points of the loss at `output`, by the name that run.settings["loss"] gives.
LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "MSELoss": lambda output, y: ((output - y) ** 2).mean(-1),
    "BCEWithLogitsLoss": lambda logit, y: (np.logaddexp(0, logit) - y * logit).mean(-1),
}


class Surface(NamedTuple):
    """The loss on a square of weights, ready for `plt.contour(*surface)`.

    Attributes
    ----------
    w1, w2 : array of shape (size,)
        The two weights; both sides are equally long, so that the gradient crosses the contours at a right angle.
    loss : array of shape (size, size)
        loss[i, j] is the loss at (w1[j], w2[i]), with the bias of the last step.
    """

    w1: Floats
    w2: Floats
    loss: Floats


def loss_surface(run: Recording[DescentStep], x: Any, y: Any, size: int = 96) -> Surface:
    """Compute the loss around the path of a recorded run, in float64.

    Parameters
    ----------
    run : Recording of DescentStep
        From `linear_regression` or `logistic_regression` on two features.
    x : array-like of shape (n, 2)
        The points that the run was trained on.
    y : array-like of shape (n,) or (n, 1)
        Their targets.
    size : int, default 96
        Values along each side.

    Returns
    -------
    Surface
        Twice as wide as the path of the run, which lies in its middle.

    Raises
    ------
    ValueError
        When the run has another number of weights than two, or a loss that is not known here.

    Examples
    --------
    >>> import stepfit
    >>> x, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1]
    >>> run = stepfit.record(stepfit.linear_regression(x, y, lr=0.3, start=([[0.0, 0.0]], [0.0])))
    >>> w1, w2, loss = loss_surface(run, x, y, size=5)
    >>> loss.shape, bool(loss.min() < run[0].loss)
    ((5, 5), True)
    """
    x = as_tensor(x, "x").double().cpu().numpy()
    y = as_tensor(y, "y").double().cpu().numpy().reshape(-1)
    params = path(run)
    if params.shape[1] != 3 or x.shape != (len(y), 2):
        raise ValueError(
            f"x has shape {x.shape}, y {len(y)} values and the run {params.shape[1] - 1} weights; "
            f"a surface is drawn over two weights, for x of shape ({len(y)}, 2)"
        )
    name = run.settings["loss"]
    if name not in LOSSES:
        raise ValueError(f"the run's loss is {name}; a surface is known for {' and '.join(LOSSES)}")
    params = params[np.isfinite(params).all(1)]  # a run that diverged may end in infinity
    low, high = params[:, :2].min(0), params[:, :2].max(0)
    half = float((high - low).max()) or 1.0
    w1, w2 = (np.linspace(middle - half, middle + half, size) for middle in (low + high) / 2)
    with np.errstate(over="ignore", invalid="ignore"):
        across = np.outer(w1, x[:, 0]) + params[-1, 2]
        # A row at a time: (size, n) values in memory, never (size, size, n).
        loss = np.stack([LOSSES[name](across + w * x[:, 1], y) for w in w2])
    return Surface(w1, w2, loss)


def path(run: Recording[DescentStep]) -> Floats:
    """Return the weights and the bias of each step in one array (steps, weights + 1), float64."""
    if run.last.params.keys() != {"weight", "bias"}:
        raise ValueError(
            f"the run has the parameters {', '.join(run.last.params)}; weight and bias of a line are needed"
        )
    rows = [torch.cat([step.params["weight"].reshape(-1), step.params["bias"]]) for step in run]
    return torch.stack(rows).double().cpu().numpy()
