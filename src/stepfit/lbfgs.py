"""Logistic regression by L-BFGS: fit_logistic() and LogisticStep. One accepted point a step.

J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd edition, Springer, 2006: algorithms 3.5 and 3.6 (a line
search for the strong Wolfe conditions), 7.4 and 7.5 (L-BFGS).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stepfit.steps import Step, Steps, Stop, run

_PAIRS = 10  # moves remembered; what SciPy keeps too
_TRIALS = 50  # of one line search
_ENOUGH, _FLAT = 1e-4, 0.9  # c1 and c2 of the Wolfe conditions, as the book advises for quasi-Newton methods
# A fall of the loss that is no news: what scikit-learn takes for none too.
_ROUNDING = 64 * torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False, kw_only=True)
class LogisticStep(Step):
    """One accepted point. Loss, gradient and margin belong to `weight` and `bias`; index 0 is the start.

    Attributes
    ----------
    weight : Tensor of shape (logits, d)
        One row for two classes (the logit of the second), otherwise one a class; of x's dtype.
    bias : Tensor of shape (logits,)
        Zeros without an intercept.
    gradient : float
        The largest partial derivative of the loss, in size.
    margin : float or None
        Without a penalty, the smallest lead of a right logit over the best wrong one, over all rows with a weight.
        Above 0 every row is right: the classes are separable, and there is no optimum. None with a penalty.
    trials : int
        Points that the line search looked at; 0 at the start.
    """

    weight: Tensor
    bias: Tensor
    gradient: float
    margin: float | None
    trials: int


def fit_logistic(
    x: Tensor,
    y: Tensor,
    classes: int,
    *,
    C: float = 1.0,
    intercept: bool = True,
    sample_weight: Tensor | None = None,
    start: tuple[Tensor, Tensor] | None = None,
    tol: float = 1e-4,
    max_steps: int = 101,
) -> Steps[LogisticStep]:
    """Minimise (C sum_i w_i loss_i + |weight|^2 / 2) / (C sum_i w_i), loss_i being the cross-entropy of row i.

    Logits of the point and of the direction are kept, so a trial of the line search does not look at x: an iteration
    reads x twice, once for the direction's logits and once for the gradient. Logits and loss are float64 for any x.

    Parameters
    ----------
    x : Tensor of shape (n, d), float32 or float64
        The inputs, finite.
    y : Tensor of shape (n,), int64
        The class numbers, 0 to classes - 1.
    classes : int
        At least 2.
    C : float, default 1
        Inverse strength of the penalty; math.inf for none. The bias is never penalised.
    intercept : bool, default True
        Whether there is a bias.
    sample_weight : Tensor of shape (n,), float64, optional
        Not negative, and not all 0.
    start : (weight (logits, d), bias (logits,)), optional
        Where to begin; default zeros.
    tol : float, default 1e-4
        The run ends when no partial derivative exceeds it in size.
    max_steps : int, default 101
        The most steps: the start, and an update for each further one.

    Returns
    -------
    Steps of LogisticStep
        Each with a lower loss than the one before. `stop` of the last: TOLERANCE where the gradient fell under tol,
        CONVERGED where rounding allows no lower loss, MAX_STEPS.

    Raises
    ------
    ValueError
        When start has another shape, sample_weight is 0 everywhere, or C is so small that its inverse overflows.

    Examples
    --------
    >>> import torch
    >>> from stepfit.lbfgs import fit_logistic
    >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    >>> last = list(fit_logistic(x, y, 2, tol=1e-8))[-1]
    >>> round(-last.bias.item() / last.weight.item(), 4)
    1.5
    """
    logits = 1 if classes == 2 else classes
    if start is not None and (start[0].shape != (logits, x.shape[1]) or start[1].shape != (logits,)):
        raise ValueError(
            f"start has weight {tuple(start[0].shape)} and bias {tuple(start[1].shape)}; "
            f"{classes} classes of {x.shape[1]} features need ({logits}, {x.shape[1]}) and ({logits},)"
        )
    if sample_weight is None:
        sample_weight = x.new_ones(len(x), dtype=torch.float64)
    if not sample_weight.sum() > 0:
        raise ValueError("sample_weight is 0 everywhere; at least one row must count")
    scaled = C * float(sample_weight.sum())
    penalty = 1 / scaled if scaled > 0 else math.inf
    if penalty == math.inf:
        raise ValueError(f"C={C:g} times the sum of the weights is too small to divide by; raise C")
    search = _Search(x, y, logits, penalty, intercept, sample_weight, start, tol)
    settings = {
        "algorithm": "fit_logistic",
        "n": len(x),
        "d": x.shape[1],
        "classes": classes,
        "C": C,
        "intercept": intercept,
        "tol": tol,
        "max_steps": max_steps,
        "dtype": str(x.dtype).removeprefix("torch."),
    }
    return Steps(run(search.first, search.following, max_steps=max_steps), settings)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A point of a line: how far along, the loss and its slope there, and the loss's derivatives by the logits."""

    length: float
    loss: float
    slope: float
    rest: Tensor


class _Search:
    """Where a run is. A point is one matrix (logits, d + 1) in float64, the bias in its last column."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        logits: int,
        penalty: float,
        intercept: bool,
        sample_weight: Tensor,
        start: tuple[Tensor, Tensor] | None,
        tol: float,
    ) -> None:
        self.x, self.y, self.penalty, self.intercept, self.tol = x, y, penalty, intercept, tol
        self.share = (sample_weight / sample_weight.sum())[:, None]
        self.point = x.new_zeros(logits, x.shape[1] + 1, dtype=torch.float64)
        if start is not None:
            self.point[:, :-1], self.point[:, -1] = start[0], start[1]
        self.pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=_PAIRS)

    def first(self) -> LogisticStep:
        begun = perf_counter()
        self.logits = self._logits(self.point)
        self._accept(self._line(torch.zeros_like(self.point), self.logits)(0.0))
        return self._step(0, begun, 0, self._reason())

    def following(self, last: LogisticStep) -> LogisticStep:
        begun = perf_counter()
        direction = self._direction()
        if not float((direction * self.gradient).sum()) < 0:  # rounding has spoilt the pairs
            self.pairs.clear()
            direction = self._direction()
        logits = self._logits(direction)
        here = _Trial(0.0, self.loss, float((direction * self.gradient).sum()), self.rest)
        found, trials = _strong_wolfe(self._line(direction, logits), here)
        if found is here:
            return self._step(last.index + 1, begun, trials, Stop.CONVERGED)
        before, gradient = self.loss, self.gradient
        move = found.length * direction
        self.point = self.point + move
        self.logits = self.logits.add_(logits, alpha=found.length)
        self._accept(found)
        bend = self.gradient - gradient
        curvature = float((move * bend).sum())
        if curvature > 0:  # as the Wolfe conditions promise, but for rounding
            self.pairs.append((move, bend, curvature))
        stuck = before - self.loss <= _ROUNDING * max(before, 1.0)
        return self._step(last.index + 1, begun, trials, self._reason() or (Stop.CONVERGED if stuck else None))

    def _accept(self, trial: _Trial) -> None:
        self.loss, self.rest = trial.loss, trial.rest
        self.gradient = self.penalty * self.point
        self.gradient[:, :-1] += trial.rest.T.to(self.x.dtype) @ self.x
        self.gradient[:, -1] = trial.rest.sum(0) if self.intercept else 0.0

    def _reason(self) -> Stop | None:
        return Stop.TOLERANCE if float(self.gradient.abs().max()) <= self.tol else None

    def _step(self, index: int, begun: float, trials: int, stop: Stop | None) -> LogisticStep:
        return LogisticStep(
            index=index,
            loss=self.loss,
            seconds=perf_counter() - begun,
            stop=stop,
            weight=self.point[:, :-1].to(self.x.dtype, copy=True),
            bias=self.point[:, -1].to(self.x.dtype, copy=True),
            gradient=float(self.gradient.abs().max()),
            margin=self._margin(),
            trials=trials,
        )

    def _logits(self, point: Tensor) -> Tensor:
        return (self.x @ point[:, :-1].T.to(self.x.dtype)).double() + point[:, -1]

    def _margin(self) -> float | None:
        if self.penalty > 0:
            return None  # an optimum there is, and the pass over the logits is saved
        rows = self.y[:, None]
        if self.logits.shape[1] == 1:
            lead = self.logits * (2 * rows - 1)
        else:
            wrong = self.logits.scatter(1, rows, -math.inf)
            lead = self.logits.gather(1, rows) - wrong.amax(1, keepdim=True)
        return float(lead[self.share > 0].min())

    def _line(self, direction: Tensor, logits: Tensor) -> Callable[[float], _Trial]:
        """Give the trial of each length along a direction, of which these are the logits."""
        weight, move = self.point[:, :-1], direction[:, :-1]
        fixed, mixed, squared = (float((a * b).sum()) for a, b in ((weight, weight), (weight, move), (move, move)))

        def at(length: float) -> _Trial:
            losses, rest = _cross_entropy(torch.add(self.logits, logits, alpha=length), self.y)
            rest *= self.share
            norm = fixed + 2 * length * mixed + length * length * squared
            loss = float((losses * self.share).sum()) + self.penalty / 2 * norm
            slope = float((rest * logits).sum()) + self.penalty * (mixed + length * squared)
            return _Trial(length, loss, slope, rest)

        return at

    def _direction(self) -> Tensor:
        """Algorithm 7.4, the two-loop recursion: minus the gradient, times the inverse Hessian as the pairs know it."""
        q = -self.gradient
        if not self.pairs:
            # The gradient's length says nothing about that of the move; a long one would overflow the logits.
            return q / max(1.0, float(q.norm()))
        shares = []
        for move, bend, curvature in reversed(self.pairs):
            shares.append((move * q).sum() / curvature)
            q = q - shares[-1] * bend
        _, bend, curvature = self.pairs[-1]
        q = q * (curvature / bend.square().sum())
        for (move, bend, curvature), share in zip(self.pairs, reversed(shares)):
            q = q + (share - (bend * q).sum() / curvature) * move
        return q


def _cross_entropy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give the loss of each row, (n, 1), and its derivatives by the logits, (n, logits)."""
    if logits.shape[1] == 1:
        sign = (2 * y - 1)[:, None]
        lead = sign * logits
        return -logsigmoid(lead), -sign * torch.sigmoid(-lead)
    likely = torch.log_softmax(logits, 1)
    rows = y[:, None]
    losses = -likely.gather(1, rows)
    return losses, likely.exp_().scatter_add_(1, rows, likely.new_full((1, 1), -1.0).expand(rows.shape))


def _strong_wolfe(at: Callable[[float], _Trial], start: _Trial) -> tuple[_Trial, int]:
    """Algorithms 3.5 and 3.6 in one loop: until `high` is known the bracket is widened, then it is narrowed.

    `low` is the lowest trial so far that falls enough, and the start where there is none.
    """
    low, high, length = start, None, 1.0
    for trials in range(1, _TRIALS + 1):
        trial = at(length)
        # Turned round, so that a loss that is not a number is too high as well.
        if not (trial.loss <= start.loss + _ENOUGH * length * start.slope and trial.loss < low.loss):
            high = trial
        elif abs(trial.slope) <= -_FLAT * start.slope:
            return trial, trials
        else:
            outwards = 1.0 if high is None else high.length - low.length
            if trial.slope * outwards >= 0:
                high = low
            low = trial
        length = 2 * low.length if high is None else _between(low, high)
        if length in (low.length, low.length if high is None else high.length):
            break  # float64 has no number between them
    return low, trials


def _between(low: _Trial, high: _Trial) -> float:
    """Where the cubic through two trials is lowest (equation 3.59), kept off the ends; the middle without one."""
    width = high.length - low.length
    bend = low.slope + high.slope - 3 * (high.loss - low.loss) / width
    inside = bend * bend - low.slope * high.slope
    part = 0.5
    if math.isfinite(inside) and inside >= 0:
        root = math.copysign(math.sqrt(inside), width)
        below = high.slope - low.slope + 2 * root
        if below != 0:
            part = 1 - (high.slope + root - bend) / below
    return low.length + min(max(part, 0.1), 0.9) * width
