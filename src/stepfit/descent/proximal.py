"""Gradient descent on a penalised linear model: proximal_descent() by plain steps, momentum, Nesterov's or Adam.

The update rules are those of torch.optim. An l1 penalty has no gradient at 0, so each update ends with its proximal
step, which moves the weights towards 0 and sets small ones to exactly 0.

B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964 (momentum). Y. Nesterov, "A
method for solving the convex programming problem with convergence rate O(1/k^2)", 1983. D. P. Kingma and J. Ba, "Adam:
a method for stochastic optimization", 2015. N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor

from stepfit.descent.linear import LinearStep, Objective
from stepfit.steps import Steps, Stop, checked_seed, run

Method = Literal["sgd", "momentum", "nesterov", "adam"]
_Rule = Callable[[Tensor, Tensor], Tensor]  # (point, its gradient) to the next point

_GROWN = 1000  # a loss this many times the first is no accident


@dataclass(frozen=True, eq=False, kw_only=True)
class ProximalStep(LinearStep):
    """One point of gradient descent.

    Loss, gradient and margin are of all rows where an epoch begins, so of every step on a full batch and of the last
    one; in between, loss and gradient are of the rows that the next update uses.

    Attributes
    ----------
    lr : float
        The learning rate.
    lr_limit : float or None
        Up to here a run on the full batch never diverges, and above it a linear regression does. None for Adam, which
        has no such limit, and for a part of the rows.
    """

    lr: float
    lr_limit: float | None


def proximal_descent(
    objective: Objective,
    method: Method,
    *,
    lr: float | None = None,
    momentum: float = 0.9,
    batch_size: int | None = None,
    seed: int | None = None,
    start: Tensor | None = None,
    tol: float = 1e-4,
    max_epochs: int = 100,
) -> Steps[ProximalStep]:
    """Make an objective small by gradient descent.

    Parameters
    ----------
    objective : Objective
        The rows and the loss.
    method : "sgd", "momentum", "nesterov" or "adam"
        The update rule; Adam with the constants of torch.optim.
    lr : float, optional
        The learning rate. None takes 1/L, L being a bound on the curvature that an update can meet (times 1 - momentum
        on mini-batches, whose momentum adds up the curvature of several); Adam, whose moves have the length lr however
        steep the slope is, takes what moves no prediction by more than a tenth of its unit.
    momentum : float, default 0.9
        The share of the last move that is made again, of "momentum" and "nesterov".
    batch_size : int, optional
        The most rows of an update, drawn in a new order for each epoch and of nearly equal number; None takes all.
    seed : int, optional
        Of the order of the rows; None draws one.
    start : Tensor of shape (outputs, d + 1), optional
        Where to begin; zeros by default.
    tol : float, default 1e-4
        The run ends when no partial derivative over all rows exceeds it in size.
    max_epochs : int, default 100
        The most passes over the rows.

    Returns
    -------
    Steps of ProximalStep
        The start, and one step after each update. `stop` of the last: TOLERANCE, CONVERGED where updates move
        nothing any more, MAX_STEPS, DIVERGED with an event that says why.

    Raises
    ------
    ValueError
        At the call: a setting out of range, or values whose squares overflow.

    Examples
    --------
    >>> import torch
    >>> from stepfit.descent.linear import Objective, squared_error
    >>> from stepfit.descent.proximal import proximal_descent
    >>> x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    >>> *_, last = proximal_descent(Objective(x, 2 * x + 1, 1, squared_error), "nesterov", tol=1e-9, max_epochs=1000)
    >>> round(last.weight.item(), 4), round(last.bias.item(), 4), last.stop.name
    (2.0, 1.0, 'TOLERANCE')
    """
    n = len(objective.x)
    if lr is not None and not 0 < lr < math.inf:
        raise ValueError(f"lr is {lr}; it must be a positive number")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; it must be from 0 to under 1")
    if batch_size is not None and not 1 <= batch_size <= n:
        raise ValueError(f"batch_size is {batch_size}; there are {n} rows to learn from, so it must be from 1 to {n}")
    beta = momentum if method in ("momentum", "nesterov") else 0.0
    batches = math.ceil(n / (batch_size or n))
    curvature = objective.curvature(n // batches)
    limit = None
    if method == "adam":
        longest = torch.linalg.vector_norm(objective.x, 1, dim=1, dtype=torch.float64).max()
        auto = 0.1 * math.sqrt(objective.unit) / float(longest + 1)
    else:
        auto = (1 if batches == 1 else 1 - beta) / curvature if curvature > 0 else 1.0
        if batches == 1 and curvature > 0:
            limit = 2 * (1 + beta) / (curvature * (1 + 2 * beta if method == "nesterov" else 1))
    auto = auto or 1.0  # all targets are 0, and nothing will move
    seed = checked_seed(seed)
    descent = _Descent(objective, method, lr or auto, limit, auto, beta, batches, seed, start, tol)
    max_steps = max_epochs * batches + 1
    settings = {
        "algorithm": "proximal_descent",
        "method": method,
        "n": n,
        "d": objective.x.shape[1],
        "outputs": objective.outputs,
        "l1": objective.l1,
        "l2": objective.l2,
        "intercept": objective.intercept,
        "lr": lr or auto,
        "momentum": beta,
        "batch_size": batch_size,
        "seed": seed,
        "tol": tol,
        "max_epochs": max_epochs,
        "max_steps": max_steps,
        "dtype": str(objective.x.dtype).removeprefix("torch."),
    }
    return Steps(run(descent.first, descent.following, max_steps=max_steps), settings)


class _Descent:
    """Where a run is: a point, the gradient that the next update follows, and the order of the rows."""

    def __init__(
        self,
        objective: Objective,
        method: Method,
        lr: float,
        limit: float | None,
        auto: float,
        momentum: float,
        batches: int,
        seed: int,
        start: Tensor | None,
        tol: float,
    ) -> None:
        self.objective, self.lr, self.limit, self.auto = objective, lr, limit, auto
        self.batches, self.seed, self.tol = batches, seed, tol
        self.point = objective.start() if start is None else start
        if method == "adam":
            self.rule: _Rule = _Adam(objective, lr)
        else:
            self.rule = _Momentum(objective, lr, momentum, method == "nesterov", self.point)

    def first(self) -> ProximalStep:
        self.still = 0  # updates in a row that moved nothing
        return self._step(0, perf_counter())

    def following(self, last: ProximalStep) -> ProximalStep:
        begun = perf_counter()
        before, self.point = self.point, self.rule(self.point, self.gradient)
        self.still = self.still + 1 if before.equal(self.point) else 0
        return self._step(last.index + 1, begun)

    def _step(self, index: int, begun: float) -> ProximalStep:
        epoch, batch = divmod(index, self.batches)
        seen = whole = self.objective.look(self.point) if batch == 0 else None
        if self.batches > 1:
            if batch == 0:
                # From the seed and the epoch alone.
                draw = torch.Generator(device="cpu").manual_seed(self.seed + epoch)
                order = torch.randperm(len(self.objective.x), generator=draw, device="cpu")
                self.parts = order.to(self.objective.x.device).tensor_split(self.batches)
            part = self.objective.look(self.point, self.parts[batch])
            self.gradient = part.gradient
            seen = whole or part
        else:
            assert whole is not None
            self.gradient = whole.gradient
        assert seen is not None
        if index == 0:
            self.first_loss = seen.loss
        steepest = self.objective.steepest(self.point, seen.gradient)
        stop: Stop | None = None
        events: tuple[str, ...] = ()
        finite = math.isfinite(seen.loss) and math.isfinite(steepest)
        if not finite or (whole is not None and seen.loss > _GROWN * self.first_loss > 0):
            stop, events = Stop.DIVERGED, (self._why(seen.loss),)
        elif whole is not None and steepest <= self.tol:
            stop = Stop.TOLERANCE
        elif self.batches == 1 and self.still > 1:  # one may be the turn of a swing
            stop = Stop.CONVERGED
        weight, bias = self.objective.parts(self.point)
        return ProximalStep(
            index=index,
            loss=seen.loss,
            seconds=perf_counter() - begun,
            events=events,
            stop=stop,
            gradient=steepest,
            epoch=epoch,
            margin=None if whole is None else self.objective.margin(whole.logits),
            lr=self.lr,
            lr_limit=self.limit,
            weight=weight,
            bias=bias,
        )

    def _why(self, loss: float) -> str:
        grew = f"the loss went from {self.first_loss:.4g} to {loss:.4g}"
        advice = f"try lr={self.auto:.2g}, which is the automatic one, or features of similar scale"
        if self.limit is not None and self.lr > self.limit:
            return (
                f"{grew}: lr {self.lr:.4g} is above the limit {self.limit:.4g}, so each step overshoots by more than "
                f"the last; {advice}"
            )
        return f"{grew}; {advice}"


class _Momentum:
    """torch.optim.SGD; its velocity is told from the last point, so that a shrunken move counts as it was made."""

    def __init__(self, objective: Objective, lr: float, momentum: float, nesterov: bool, start: Tensor) -> None:
        self.objective, self.lr, self.momentum, self.nesterov = objective, lr, momentum, nesterov
        self.before = start

    def __call__(self, point: Tensor, gradient: Tensor) -> Tensor:
        downhill = point - self.lr * gradient
        if self.nesterov:  # the point is already ahead, by the last move
            here = self.objective.shrink(downhill, self.lr)
            ahead = here + self.momentum * (here - self.before)
            self.before = here
            return ahead
        following = self.objective.shrink(downhill + self.momentum * (point - self.before), self.lr)
        self.before = point
        return following


class _Adam:
    """torch.optim.Adam; the proximal step of each weight is as long as its own step."""

    first, second, least = 0.9, 0.999, 1e-8  # beta1, beta2 and eps

    def __init__(self, objective: Objective, lr: float) -> None:
        self.objective, self.lr, self.done = objective, lr, 0
        self.mean, self.square = objective.start(), objective.start()

    def __call__(self, point: Tensor, gradient: Tensor) -> Tensor:
        self.done += 1
        self.mean = self.first * self.mean + (1 - self.first) * gradient
        self.square = self.second * self.square + (1 - self.second) * gradient.square()
        size = (self.square / (1 - self.second**self.done)).sqrt() + self.least
        lengths = self.lr / size
        return self.objective.shrink(point - lengths * self.mean / (1 - self.first**self.done), lengths)
