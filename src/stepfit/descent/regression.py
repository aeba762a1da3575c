"""linear_regression() and logistic_regression(): gradient descent on a linear model, as steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from stepfit.descent.engine import DescentStep, Metric, run_descent
from stepfit.descent.linear import LinearProblem, checked_rows, default_metrics
from stepfit.descent.solvers import GradientDescent
from stepfit.kernels.points import as_tensor
from stepfit.steps import Steps, checked_seed


def linear_regression(
    x: Any,
    y: Any,
    *,
    lr: float | Literal["auto"] = 0.1,
    momentum: float = 0.0,
    start: tuple[Any, Any] | None = None,
    max_steps: int = 100,
    batch_size: int | None = None,
    test: tuple[Any, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    seed: int | None = None,
    resume: DescentStep | None = None,
) -> Steps[DescentStep]:
    """Fit y = x @ weight.T + bias by gradient descent on the mean squared error.

    Parameters
    ----------
    x : array-like of shape (n, d)
        The inputs. float64 stays float64; other numbers become float32.
    y : array-like of shape (n,) or (n, 1)
        The targets. Where they are 0 and 1, train_accuracy and test_accuracy use the threshold 0.5.
    lr : float or "auto", default 0.1
        Learning rate; above `lr_limit` of the steps the run diverges. "auto" is half of that limit (with momentum
        too), and with mini-batches a rate that is safe for any batch.
    momentum : float, default 0
        As in torch.optim.SGD.
    start : (weight (1, d), bias (1,)), optional
        Where to begin; default: uniform in +-1/sqrt(d) from `seed`, the range of nn.Linear.
    max_steps, batch_size, test, metrics, seed, resume
        As in `descend`.

    Returns
    -------
    Steps of DescentStep
        With parameters "weight" (1, d) and "bias" (1,), in the dtype of x; between steps they are float64. Where x is
        float64 and nothing asks for predictions, steps come from sums over the rows and cost O(d^2) each.

    Raises
    ------
    TypeError, ValueError
        At the call, when x is no table of finite numbers, x and y differ in length, or an option is out of range.

    Examples
    --------
    >>> import stepfit
    >>> steps = stepfit.linear_regression([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0], lr=0.3, max_steps=200, seed=0)
    >>> last = list(steps)[-1]
    >>> round(last.params["weight"].item(), 4), round(last.params["bias"].item(), 4), last.stop.name
    (2.0, 1.0, 'CONVERGED')
    """
    options = {"max_steps": max_steps, "batch_size": batch_size, "seed": seed, "resume": resume}
    return _regression("MSELoss", x, y, lr, momentum, start, test, metrics, options)


def logistic_regression(
    x: Any,
    y: Any,
    *,
    lr: float | Literal["auto"] = 1.0,
    momentum: float = 0.0,
    start: tuple[Any, Any] | None = None,
    max_steps: int = 100,
    batch_size: int | None = None,
    test: tuple[Any, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    seed: int | None = None,
    resume: DescentStep | None = None,
) -> Steps[DescentStep]:
    """Fit the logit x @ weight.T + bias of the class y by gradient descent on the cross-entropy.

    Parameters
    ----------
    x : array-like of shape (n, d)
        The inputs.
    y : array-like of shape (n,) or (n, 1)
        The classes, 0 and 1. A logit above 0 predicts 1.
    lr : float or "auto", default 1
        Learning rate; "auto" is one over a bound on the curvature of the loss.
    momentum, start, max_steps, batch_size, test, metrics, seed, resume
        As in `linear_regression`.

    Returns
    -------
    Steps of DescentStep
        With parameters "weight" (1, d) and "bias" (1,).

    Raises
    ------
    TypeError, ValueError
        As `linear_regression`, and when y holds anything but 0 and 1.

    Examples
    --------
    >>> import stepfit
    >>> steps = stepfit.logistic_regression([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], seed=0)
    >>> list(steps)[-1].metrics["train_accuracy"]
    1.0
    """
    options = {"max_steps": max_steps, "batch_size": batch_size, "seed": seed, "resume": resume}
    return _regression("BCEWithLogitsLoss", x, y, lr, momentum, start, test, metrics, options)


def _regression(
    loss: str, x: Any, y: Any, lr: Any, momentum: float, start: Any, test: Any, metrics: Any, options: dict[str, Any]
) -> Steps[DescentStep]:
    inputs, targets = _rows(x, y, "x", "y", loss)
    d, tested = inputs.shape[1], None
    if test is not None:
        if not isinstance(test, (tuple, list)) or len(test) != 2:
            raise TypeError("test must be the pair (x_test, y_test)")
        x_test, y_test = _rows(test[0], test[1], "x_test", "y_test", loss)
        if x_test.shape[1] != d:
            raise ValueError(f"x_test has {x_test.shape[1]} features and x has {d}; both need the same ones")
        tested = x_test.to(inputs), y_test.to(inputs.device), None
    metrics = default_metrics(loss, targets) if metrics is None else metrics
    problem = LinearProblem(inputs, targets, loss, test=tested, metrics=metrics)
    solver = GradientDescent(problem, "momentum" if momentum else "sgd", lr, momentum, options["batch_size"])
    if start is None:
        if options["resume"] is None:
            options["seed"] = checked_seed(options["seed"])
        draw = torch.empty(d + 1, dtype=torch.float64, device="cpu")
        draw.uniform_(-(d**-0.5), d**-0.5, generator=torch.Generator(device="cpu").manual_seed(options["seed"] or 0))
        weight, bias = draw[:d], draw[d:]
    else:
        weight, bias = as_tensor(start[0], "start weight"), as_tensor(start[1], "start bias")
        if weight.numel() != d or bias.numel() != 1:
            raise ValueError(
                f"start has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; x needs (1, {d}) and (1,)"
            )
    point = problem.point(weight.reshape(1, d).to(inputs.device), bias.reshape(1).to(inputs.device))
    return run_descent(problem, solver, point, **options)


def _rows(x: Any, y: Any, x_name: str, y_name: str, loss: str) -> tuple[Tensor, Tensor]:
    """Return x (n, d) in float32 or float64, and y (n, 1) in float64."""
    inputs, target = as_tensor(x, x_name), as_tensor(y, y_name)
    if inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(f"{x_name} has shape {tuple(inputs.shape)}; it must be (n, d): a row an example")
    if target.ndim not in (1, 2) or (target.ndim == 2 and target.shape[1] != 1):
        raise ValueError(f"{y_name} has shape {tuple(target.shape)}; it must be (n,) or (n, 1)")
    strange = target[(target != 0) & (target != 1)]
    if len(strange) and loss != "MSELoss":
        raise ValueError(f"{y_name} holds {strange[0].item()}; logistic regression wants the classes 0 and 1")
    inputs, target = checked_rows(inputs, target.reshape(-1, 1), x_name, y_name)
    wide = inputs.dtype if inputs.dtype in (torch.float32, torch.float64) else torch.float32
    return inputs.to(wide), target.to(inputs.device, torch.float64)
