"""L-BFGS on a linear model without an l1 penalty: lbfgs() and LbfgsStep. One accepted point a step.

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

from stepfit.descent.linear import LinearStep, Objective
from stepfit.steps import Steps, Stop, run

_PAIRS = 10  # moves remembered; what SciPy keeps too
_TRIALS = 50  # of one line search
_ENOUGH, _FLAT = 1e-4, 0.9  # c1 and c2 of the Wolfe conditions, as the book advises for quasi-Newton methods
# A fall of the loss that is no news: what scikit-learn takes for none too.
_ROUNDING = 64 * torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False, kw_only=True)
class LbfgsStep(LinearStep):
    """One accepted point; an epoch is a step.

    Attributes
    ----------
    trials : int
        Points that the line search looked at; 0 at the start.
    """

    trials: int


def lbfgs(
    objective: Objective, *, start: Tensor | None = None, tol: float = 1e-4, max_steps: int = 101
) -> Steps[LbfgsStep]:
    """Make an objective small by L-BFGS.

    Logits of the point and of the direction are kept, so a trial of the line search does not look at x: an iteration
    reads x twice, once for the direction's logits and once for the gradient. Logits and loss are float64 for any x.

    Parameters
    ----------
    objective : Objective
        The rows and the loss.
    start : Tensor of shape (outputs, d + 1), optional
        Where to begin; zeros by default.
    tol : float, default 1e-4
        The run ends when no partial derivative exceeds it in size.
    max_steps : int, default 101
        The most steps: the start, and an update for each further one.

    Returns
    -------
    Steps of LbfgsStep
        Each with a lower loss than the one before. `stop` of the last: TOLERANCE where the gradient fell under tol,
        CONVERGED where rounding allows no lower loss, MAX_STEPS.

    Raises
    ------
    ValueError
        When the objective has an l1 penalty.

    Examples
    --------
    >>> import torch
    >>> from stepfit.descent.lbfgs import lbfgs
    >>> from stepfit.descent.linear import Objective, cross_entropy
    >>> x, y = torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 1, 0, 1])
    >>> *_, last = lbfgs(Objective(x, y, 1, cross_entropy, l2=0.25), tol=1e-8)
    >>> round(-last.bias.item() / last.weight.item(), 4)
    1.5
    """
    if objective.l1 > 0:
        raise ValueError(f"l1 is {objective.l1:g}; L-BFGS needs a loss without kinks, proximal_descent takes any")
    search = _Search(objective, objective.start() if start is None else start, tol)
    settings = {
        "algorithm": "lbfgs",
        "n": len(objective.x),
        "d": objective.x.shape[1],
        "outputs": objective.outputs,
        "l2": objective.l2,
        "intercept": objective.intercept,
        "tol": tol,
        "max_steps": max_steps,
        "dtype": str(objective.x.dtype).removeprefix("torch."),
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
    """Where a run is: a point, its logits, loss and gradient, and the pairs (move, change of the gradient)."""

    def __init__(self, objective: Objective, point: Tensor, tol: float) -> None:
        self.objective, self.point, self.tol = objective, point, tol
        self.pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=_PAIRS)

    def first(self) -> LbfgsStep:
        begun = perf_counter()
        self.logits = self.objective.logits(self.point)
        self._accept(self._line(torch.zeros_like(self.point), self.logits)(0.0))
        return self._step(0, begun, 0, self._reason())

    def following(self, last: LbfgsStep) -> LbfgsStep:
        begun = perf_counter()
        direction = self._direction()
        if not float((direction * self.gradient).sum()) < 0:  # rounding has spoilt the pairs
            self.pairs.clear()
            direction = self._direction()
        logits = self.objective.logits(direction)
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
        stuck = before - self.loss <= _ROUNDING * max(before, self.objective.unit)
        return self._step(last.index + 1, begun, trials, self._reason() or (Stop.CONVERGED if stuck else None))

    def _accept(self, trial: _Trial) -> None:
        self.loss, self.rest = trial.loss, trial.rest
        self.gradient = self.objective.gradient(self.point, trial.rest)

    def _reason(self) -> Stop | None:
        return Stop.TOLERANCE if float(self.gradient.abs().max()) <= self.tol else None

    def _step(self, index: int, begun: float, trials: int, stop: Stop | None) -> LbfgsStep:
        weight, bias = self.objective.parts(self.point)
        return LbfgsStep(
            index=index,
            loss=self.loss,
            seconds=perf_counter() - begun,
            stop=stop,
            gradient=float(self.gradient.abs().max()),
            epoch=index,
            margin=self.objective.margin(self.logits),
            trials=trials,
            weight=weight,
            bias=bias,
        )

    def _line(self, direction: Tensor, logits: Tensor) -> Callable[[float], _Trial]:
        """Give the trial of each length along a direction, of which these are the logits."""
        objective, l2 = self.objective, self.objective.l2
        weight, move = self.point[:, :-1], direction[:, :-1]
        fixed, mixed, squared = (float((a * b).sum()) for a, b in ((weight, weight), (weight, move), (move, move)))

        def at(length: float) -> _Trial:
            losses, rest = objective.losses(torch.add(self.logits, logits, alpha=length), objective.y)
            rest *= objective.share
            loss, slope = float((losses * objective.share).sum()), float((rest * logits).sum())
            if l2 > 0:
                loss += l2 / 2 * (fixed + 2 * length * mixed + length * length * squared)
                slope += l2 * (mixed + length * squared)
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
