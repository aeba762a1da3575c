"""loss_surface(): the loss over the two weights of a straight line, the ground that gradient descent walks on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from stepfit.descent.engine import DescentStep
from stepfit.descent.linear import ROW_LOSSES, THRESHOLDS
from stepfit.kernels.points import as_tensor
from stepfit.recording import Recording
from stepfit.viewers.drawable import Floats, linear

# The losses of one output that has a threshold: those of the two regressions.
SURFACES = tuple(name for name in ROW_LOSSES if name in THRESHOLDS)


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
    points, targets = as_tensor(x, "x").double().cpu(), as_tensor(y, "y").double().cpu().reshape(-1, 1)
    params = path(run)
    if params.shape[1] != 3 or points.shape != (len(targets), 2):
        raise ValueError(
            f"x has shape {tuple(points.shape)}, y {len(targets)} values and the run {params.shape[1] - 1} weights; "
            f"a surface is drawn over two weights, for x of shape ({len(targets)}, 2)"
        )
    name = run.settings["loss"]
    if name not in SURFACES:
        raise ValueError(f"the run's loss is {name}; a surface is known for {' and '.join(SURFACES)}")
    params = params[np.isfinite(params).all(1)]  # a run that diverged may end in infinity
    low, high = params[:, :2].min(0), params[:, :2].max(0)
    half = float((high - low).max()) or 1.0
    w1, w2 = (torch.linspace(float(m) - half, float(m) + half, size, dtype=torch.float64) for m in (low + high) / 2)
    across = torch.outer(w1, points[:, 0]) + params[-1, 2]
    everyone = targets[:, 0].repeat(size)[:, None]
    # A row at a time: (size, n) values in memory, never (size, size, n).
    rows = [ROW_LOSSES[name]((across + w * points[:, 1]).reshape(-1, 1), everyone)[0] for w in w2]
    loss = torch.stack([row.reshape(size, -1).mean(1) for row in rows])
    for strength, power in ((run.settings.get("l1", 0.0), 1), (run.settings.get("l2", 0.0) / 2, 2)):
        loss += strength * (w1.abs() ** power + w2.abs()[:, None] ** power)
    return Surface(w1.numpy(), w2.numpy(), loss.numpy())


def path(run: Recording[DescentStep]) -> Floats:
    """Return the weights and the bias of each step in one array (steps, weights + 1), float64."""
    lines = [linear(step) for step in run]
    found = [np.append(*line) for line in lines if line is not None]
    if len(found) < len(run):
        raise ValueError(
            f"the run has the parameters {', '.join(run.last.params)}; weight and bias of a line are needed"
        )
    return np.stack(found)
