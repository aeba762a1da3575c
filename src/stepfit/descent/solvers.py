"""Solvers of linear problems: GradientDescent (plain, momentum, Nesterov's, Adam), Lbfgs, and the closed form.

The update rules are those of torch.optim. An l1 penalty has no gradient at 0, so each update of gradient descent ends
with its proximal operator, which moves the weights towards 0 and sets small ones to exactly 0.

B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964 (momentum). Y. Nesterov, "A
method for solving the convex programming problem with convergence rate O(1/k^2)", 1983. D. P. Kingma and J. Ba, "Adam:
a method for stochastic optimization", 2015. N. Parikh and S. Boyd, "Proximal algorithms", 2014, section 4. J. Nocedal
and S. J. Wright, "Numerical optimization", 2nd edition, 2006: algorithms 3.5 and 3.6 (a line search for the strong
Wolfe conditions), 7.4 and 7.5 (L-BFGS). G. H. Golub and C. F. Van Loan, "Matrix computations", 4th edition, 2013,
section 5.5 (least squares by the singular value decomposition).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from stepfit.descent.engine import Move, State
from stepfit.descent.linear import LinearProblem
from stepfit.steps import Stop

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # of torch.optim.Adam
_PAIRS = 10  # moves that L-BFGS remembers, as many as SciPy's does
_MOST_TRIALS = 50  # of one line search
_DECREASE, _FLATNESS = 1e-4, 0.9  # c1 and c2 of the Wolfe conditions, as the book advises for quasi-Newton methods
_ROUNDING = 64 * torch.finfo(torch.float64).eps  # relative to the loss: a smaller fall is rounding


class GradientDescent:
    """Gradient descent by an update rule of torch.optim: "sgd", "momentum", "nesterov" or "adam".

    lr="auto" is 1/L, L being a bound on the curvature that an update can meet (times 1 - momentum on mini-batches,
    where momentum adds up the curvature of several). Adam's moves have the length lr however steep the slope is, so
    for it "auto" moves no prediction by more than a tenth of the size of the targets. `limit` is the rate below which
    no run on all rows diverges, and above which a linear regression does. ValueError is raised when lr or momentum is
    out of range, or lr is "auto" and squares of x overflow.
    """

    def __init__(
        self, problem: LinearProblem, method: str, lr: float | str, momentum: float = 0.0, batch_size: int | None = None
    ) -> None:
        if lr != "auto" and not (isinstance(lr, Real) and 0 < lr < math.inf):
            raise ValueError(f"lr is {lr!r}; it must be a positive number, or 'auto'")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; it must be from 0 to under 1")
        self.adam, self.nesterov = method == "adam", method == "nesterov"
        self.momentum = momentum if method in ("momentum", "nesterov") else 0.0
        self.plain = self.momentum == 0 and not self.adam
        self.batches = math.ceil(problem.n / min(batch_size or problem.n, problem.n))
        self.limit, self.auto = None, 1.0
        if self.adam:
            longest = float(torch.linalg.vector_norm(problem.x, 1, dim=1, dtype=torch.float64).max())
            self.auto = 0.1 * math.sqrt(problem.unit) / (longest + 1) or 1.0
        else:
            curvature = problem.curvature(problem.n // self.batches)
            if lr == "auto" and curvature == math.inf:
                raise ValueError(f"the squares of x overflow {problem.dtype}: divide x by a constant")
            if 0 < curvature < math.inf:
                self.auto = (1 if self.batches == 1 else 1 - self.momentum) / curvature
                steeper = curvature * (1 + 2 * self.momentum if self.nesterov else 1)
                self.limit = 2 * (1 + self.momentum) / steeper if self.batches == 1 else None
        self.lr = self.auto if lr == "auto" else float(lr)
        self.lr_limit = self.limit if self.plain and problem.loss == "MSELoss" else None
        name = "Adam" if self.adam else "SGD"
        self.settings = {"optimizer": name, "momentum": self.momentum, "nesterov": self.nesterov}

    def init(self, problem: LinearProblem, point: Tensor) -> tuple[Tensor, State]:
        """Return the start; there are no velocity and no moments yet."""
        if self.adam:
            return point, {"mean": torch.zeros_like(point), "square": torch.zeros_like(point), "updates": 0}
        state = {} if self.plain else {"before": point}
        return point, state | ({"anchor": point} if self.batches == 1 and problem.has_sums else {})

    def step(self, problem: LinearProblem, point: Tensor, rows: Tensor | None, state: State) -> Move:
        """Return the next point and what is carried to it."""
        look = problem.look(point, rows, state.get("anchor"))
        if self.adam:
            updates = state["updates"] + 1
            mean = _BETA1 * state["mean"] + (1 - _BETA1) * look.gradient
            square = _BETA2 * state["square"] + (1 - _BETA2) * look.gradient.square()
            lengths = self.lr / ((square / (1 - _BETA2**updates)).sqrt() + _EPS)
            following = problem.shrink(point - lengths * mean / (1 - _BETA1**updates), lengths)
            return Move(look, following, {**state, "mean": mean, "square": square, "updates": updates})
        downhill = point - self.lr * look.gradient
        if self.plain:
            return Move(look, problem.shrink(downhill, self.lr), state)
        # The velocity is told from the last point, so that a move that was shrunken counts as it was made.
        if self.nesterov:  # `point` is already ahead, by a part of the last move
            here = problem.shrink(downhill, self.lr)
            return Move(look, here + self.momentum * (here - state["before"]), {**state, "before": here})
        following = problem.shrink(downhill + self.momentum * (point - state["before"]), self.lr)
        return Move(look, following, {**state, "before": point})


class ClosedForm:
    """Least squares with an l2 penalty by the singular value decomposition: one step, at the answer.

    Singular values up to `tol` times the largest count as 0: what they stand for is not learned, and the weight is the
    shortest of all that fit equally well.
    """

    lr = lr_limit = limit = auto = None
    settings: Mapping[str, Any] = {"optimizer": "SVD"}

    def __init__(self, tol: float) -> None:
        self.tol = tol

    def init(self, problem: LinearProblem, point: Tensor) -> tuple[Tensor, State]:
        """Return the answer, the rank of x, and its singular values as weighted (and centered, with an intercept)."""
        x, y = problem.x, problem.y.to(problem.dtype)
        center, level = torch.zeros_like(x[0]), torch.zeros_like(y[0])
        if problem.intercept:
            center, level = ((problem.share * values).sum(0).to(problem.dtype) for values in (x, y))
        root = problem.share.sqrt().to(problem.dtype)
        centered = root * (x - center)
        if not centered.isfinite().all():
            raise ValueError(
                f"X minus its mean overflows {problem.dtype}: X holds {float(x.abs().max()):.3g}; divide it"
            )
        u, singular, v = torch.linalg.svd(centered, full_matrices=False)
        rank = int((singular > self.tol * singular[0]).sum())
        kept = singular[:rank]
        inverse = 1 / (kept + problem.l2 / problem.curvature_of_rows / kept)
        weight = (u[:, :rank].T @ (root * (y - level))).T * inverse @ v[:rank]
        bias, singular = level - weight @ center, singular * math.sqrt(problem.total)
        if not all(part.isfinite().all() for part in (weight, bias, singular)):
            raise ValueError(
                f"coef_, intercept_ or singular_ overflows {problem.dtype}: X varies by {float(kept[0]):.3g}, y by "
                f"{float((y - level).abs().max()):.3g}, and the weights sum to {problem.total:.3g}; bring them near 1"
            )
        return torch.cat([weight, bias[:, None]], 1).double(), {"rank": rank, "singular": singular}

    def step(self, problem: LinearProblem, point: Tensor, rows: Tensor | None, state: State) -> Move:
        """Stay at the answer."""
        spare = problem.d - state["rank"]
        event = (
            f"{spare} of {problem.d} features are constant or follow from the others (rank {state['rank']}): many "
            "coef_ fit equally well, and this is the shortest"
        )
        return Move(problem.look(point), point, state, Stop.CONVERGED, (event,) if spare else ())


@dataclass(frozen=True, eq=False)
class _Trial:
    """A point of a line: how far along, the loss, its derivatives by the logits, its slope there, the logits."""

    length: float
    loss: float
    rest: Tensor
    slope: float
    logits: Tensor


class Lbfgs:
    """L-BFGS on a linear problem without an l1 penalty.

    Logits of the point and of the direction are kept, so a trial of the line search does not read x: a step reads x
    twice, once for the logits of the direction and once for the gradient.
    """

    lr = lr_limit = limit = auto = None
    settings: Mapping[str, Any] = {"optimizer": "LBFGS"}

    def __init__(self, problem: LinearProblem) -> None:
        if problem.l1 > 0:
            raise ValueError(f"l1 is {problem.l1:g}; L-BFGS needs a loss without kinks, gradient descent takes any")
        self._accepted: _Trial | None = None  # by the last line search: its loss need not be computed again

    def init(self, problem: LinearProblem, point: Tensor) -> tuple[Tensor, State]:
        """Return the start and its logits; there are no pairs yet."""
        return point, {"logits": problem.logits(point), "pairs": [], "move": None, "gradient": None, "loss": None}

    def step(self, problem: LinearProblem, point: Tensor, rows: Tensor | None, state: State) -> Move:
        """Search along the direction of L-BFGS."""
        logits, pairs = state["logits"], list(state["pairs"])
        here = self._accepted
        if here is None or here.logits is not logits:
            here = _Trial(0.0, *problem.evaluate(point, logits), 0.0, logits)
        look = problem.look_from(point, logits, here.loss, here.rest)
        gradient: Tensor = look.gradient
        if state["move"] is not None:
            change = gradient - state["gradient"]
            if float((state["move"] * change).sum()) > 0:  # as the Wolfe conditions promise, but for rounding
                pairs = [*pairs, [state["move"], change]][-_PAIRS:]
        stop = None
        if state["loss"] is not None and state["loss"] - here.loss <= _ROUNDING * max(state["loss"], problem.unit):
            stop = Stop.CONVERGED
        carry = {**state, "pairs": pairs, "gradient": gradient, "loss": here.loss}
        direction = _direction(gradient, pairs)
        slope = float((direction * gradient).sum())
        if pairs and not slope < 0:  # rounding has spoilt the pairs
            carry["pairs"], direction = [], _direction(gradient, [])
            slope = float((direction * gradient).sum())
        if not slope < 0:
            return Move(look, point, carry, Stop.CONVERGED)
        far = problem.logits(direction)

        def at(length: float) -> _Trial:
            there, reached = torch.add(logits, far, alpha=length), point + length * direction
            loss, rest = problem.evaluate(reached, there)
            slope = float((rest * far).sum())
            if problem.l2 > 0:
                slope += problem.l2 * float((reached[:, :-1] * direction[:, :-1]).sum())
            return _Trial(length, loss, rest, slope, there)

        start = replace(here, length=0.0, slope=slope)
        found = _strong_wolfe(at, start)
        if found is start:
            return Move(look, point, carry | {"move": None}, Stop.CONVERGED)
        self._accepted = found
        move = found.length * direction
        return Move(look, point + move, carry | {"move": move, "logits": found.logits}, stop)


def _direction(gradient: Tensor, pairs: list[list[Tensor]]) -> Tensor:
    """Algorithm 7.4, the two-loop recursion: minus the gradient, times the inverse Hessian as the pairs know it."""
    q = -gradient
    if not pairs:
        # The gradient's length says nothing about that of the move; a long one would overflow the logits.
        return q / max(1.0, float(q.norm()))
    curvatures = [(move * change).sum() for move, change in pairs]
    shares = []
    for (move, change), curvature in zip(reversed(pairs), reversed(curvatures)):
        shares.append((move * q).sum() / curvature)
        q = q - shares[-1] * change
    q = q * (curvatures[-1] / pairs[-1][1].square().sum())
    for (move, change), curvature, share in zip(pairs, curvatures, reversed(shares)):
        q = q + (share - (change * q).sum() / curvature) * move
    return q


def _strong_wolfe(at: Callable[[float], _Trial], start: _Trial) -> _Trial:
    """Algorithms 3.5 and 3.6 in one loop: until `high` is known the bracket is widened, then it is narrowed.

    `low` is the lowest trial so far that falls enough, and the start where there is none.
    """
    low, high, length = start, None, 1.0
    for _ in range(_MOST_TRIALS):
        trial = at(length)
        # Written so that a loss that is not a number is too high as well.
        if not (trial.loss <= start.loss + _DECREASE * length * start.slope and trial.loss < low.loss):
            high = trial
        elif abs(trial.slope) <= -_FLATNESS * start.slope:
            return trial
        else:
            outwards = 1.0 if high is None else high.length - low.length
            if trial.slope * outwards >= 0:
                high = low
            low = trial
        length = 2 * low.length if high is None else _cubic_minimum(low, high)
        if length in (low.length, low.length if high is None else high.length):
            break  # float64 has no number between them
    return low


def _cubic_minimum(low: _Trial, high: _Trial) -> float:
    """Return where the cubic through two trials is lowest (equation 3.59), off the ends; the middle without one."""
    width = high.length - low.length
    d1 = low.slope + high.slope - 3 * (high.loss - low.loss) / width
    inside = d1 * d1 - low.slope * high.slope
    part = 0.5
    if math.isfinite(inside) and inside >= 0:
        d2 = math.copysign(math.sqrt(inside), width)
        below = high.slope - low.slope + 2 * d2
        if below != 0:
            part = 1 - (high.slope + d2 - d1) / below
    return low.length + min(max(part, 0.1), 0.9) * width
