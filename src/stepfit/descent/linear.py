"""A linear model and its loss: Objective (rows, weights, penalties, curvature), and LinearStep, one of its points."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stepfit.steps import Step

# Of each row: its loss, (n, 1), and the derivatives of that by its logits, (n, outputs).
RowLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_ROUNDS = range(100)  # of the power iteration
_FEWEST = 10  # of them: a start that is nearly at right angles to the widest direction has left it by then


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearStep(Step):
    """One point of a run. Loss, gradient and margin belong to `weight` and `bias`; index 0 is the start.

    Attributes
    ----------
    weight : Tensor of shape (outputs, d)
        One row a target; for two classes one row (the logit of the second), otherwise one a class; of x's dtype.
    bias : Tensor of shape (outputs,)
        Zeros without an intercept.
    gradient : float
        The largest partial derivative of the loss, in size. With an l1 penalty, which has a kink at 0, the smallest
        that the kink allows; 0 at an optimum in any case.
    epoch : int
        Passes over the rows so far.
    margin : float or None
        Without a penalty, the smallest lead of a right logit over the best wrong one, over all rows with a weight.
        Above 0 every row is right: the classes are separable, and there is no optimum. None where it was not measured.
    held_out : float or None
        The loss of the rows held out, without penalties; None where none are, or it was not measured.
    """

    kind: ClassVar[str] = "descent"
    metrics: ClassVar[dict[str, Any]] = {}
    lr: ClassVar[Any] = None
    lr_limit: ClassVar[Any] = None
    threshold: ClassVar[Any] = None
    params = property(lambda self: {"weight": self.weight, "bias": self.bias})

    weight: Tensor
    bias: Tensor
    gradient: float
    epoch: int
    margin: float | None = None
    held_out: float | None = None

    def distance(self, other: LinearStep) -> float:
        """Give the Euclidean distance of weight and bias to those of another step, such as the optimum."""
        weights = (self.weight.double() - other.weight.double()).norm()
        return math.hypot(float(weights), float((self.bias.double() - other.bias.double()).norm()))


def squared_error(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give half the squared error of each row; y is (n, outputs)."""
    rest = logits - y
    return rest.square().sum(1, keepdim=True) / 2, rest


def cross_entropy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give minus the log of the probability of each row's class; y is (n,), and one logit is that of class 1."""
    if logits.shape[1] == 1:
        sign = (2 * y - 1)[:, None]
        lead = sign * logits
        return -logsigmoid(lead), -sign * torch.sigmoid(-lead)
    likely = torch.log_softmax(logits, 1)
    rows = y[:, None]
    losses = -likely.gather(1, rows)
    return losses, likely.exp_().scatter_add_(1, rows, likely.new_full((1, 1), -1.0).expand(rows.shape))


@dataclass(frozen=True, eq=False)
class Look:
    """What there is to see at a point: the loss, the gradient of its smooth part, and the logits."""

    loss: float
    gradient: Tensor
    logits: Tensor


class Objective:
    """sum_i w_i loss_i / sum_i w_i + l1 |weight|_1 + l2 |weight|^2 / 2. The bias is never penalised.

    A point is one matrix (outputs, d + 1) in float64, the bias in its last column. Products with x are of x's dtype,
    all else is float64. x is never copied.

    Parameters
    ----------
    x : Tensor of shape (n, d), float32 or float64
        The inputs, finite.
    y : Tensor
        What `losses` takes.
    outputs : int
        Logits of a row.
    losses : squared_error or cross_entropy
        The loss of each row.
    l1, l2 : float, default 0
        Strength of the penalties.
    intercept : bool, default True
        Whether there is a bias.
    sample_weight : Tensor of shape (n,), float64, optional
        Not negative, and not all 0.

    Raises
    ------
    ValueError
        When sample_weight is 0 everywhere, or its sum overflows.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        outputs: int,
        losses: RowLoss,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        intercept: bool = True,
        sample_weight: Tensor | None = None,
    ) -> None:
        if sample_weight is None:
            sample_weight = x.new_ones(len(x), dtype=torch.float64)
        if sample_weight.sum() == 0:
            raise ValueError("sample_weight is 0 everywhere; at least one row must count")
        if not sample_weight.sum().isfinite():
            raise ValueError("the weights of rows and classes have a sum that overflows; divide them by a constant")
        self.x, self.y, self.outputs, self.losses = x, y, outputs, losses
        self.l1, self.l2, self.intercept = l1, l2, intercept
        self.share = (sample_weight / sample_weight.sum())[:, None]
        classes = losses is cross_entropy
        # The largest second derivative of a row's loss by its logits.
        self.bend = 1.0 if not classes else 0.25 if outputs == 1 else 0.5
        # A loss of the size that losses have here: that of weights of 0 where y has a unit.
        self.unit = 1.0 if classes else float((losses(torch.zeros_like(y), y)[0] * self.share).sum())

    def start(self, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Give the point of a weight and a bias; zeros without."""
        point = self.x.new_zeros(self.outputs, self.x.shape[1] + 1, dtype=torch.float64)
        if weight is None or bias is None:
            return point
        wanted = (self.outputs, self.x.shape[1])
        if weight.shape != wanted or bias.shape != wanted[:1]:
            raise ValueError(
                f"start has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; {wanted[0]} logit(s) of "
                f"{wanted[1]} features need {wanted} and {wanted[:1]}"
            )
        point[:, :-1], point[:, -1] = weight, bias
        return point

    def parts(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Give weight and bias of a point, copies of x's dtype."""
        return point[:, :-1].to(self.x.dtype, copy=True), point[:, -1].to(self.x.dtype, copy=True)

    def logits(self, point: Tensor) -> Tensor:
        """Give (n, outputs)."""
        return _logits(self.x, point)

    def gradient(self, point: Tensor, rest: Tensor) -> Tensor:
        """Give the derivatives of the smooth part; rest is share times the derivatives by the logits."""
        return self._gradient(self.x, point, rest)

    def look(self, point: Tensor, rows: Tensor | None = None) -> Look:
        """Give loss and gradient at a point, on all rows or as some of them estimate it."""
        x, y, share = self.x, self.y, self.share
        if rows is not None:
            x, y, share = x[rows], y[rows], share[rows] * (len(x) / len(rows))
        logits = _logits(x, point)
        losses, rest = self.losses(logits, y)
        weight = point[:, :-1]
        loss = float((losses * share).sum())
        if self.l2 > 0:  # 0 times a square that overflows would be no number
            loss += self.l2 / 2 * float(weight.square().sum())
        if self.l1 > 0:
            loss += self.l1 * float(weight.abs().sum())
        return Look(loss, self._gradient(x, point, rest * share), logits)

    def steepest(self, point: Tensor, gradient: Tensor) -> float:
        """Give the largest partial derivative in size; where a weight is 0, l1 takes off what it can."""
        weight, partial = point[:, :-1], gradient[:, :-1]
        kinked = torch.where(weight == 0, (partial.abs() - self.l1).clamp(min=0), partial + self.l1 * weight.sign())
        return float(torch.maximum(kinked.abs().amax(), gradient[:, -1].abs().amax()))

    def shrink(self, point: Tensor, lengths: float | Tensor) -> Tensor:
        """Give the point after the l1 penalty's step of these lengths: weights nearer to 0, and exactly 0 at most."""
        if self.l1 == 0:
            return point
        nearer = (point.abs() - self.l1 * lengths).clamp(min=0) * point.sign()
        nearer[:, -1] = point[:, -1]
        return nearer

    def curvature(self, fewest: int) -> float:
        """Give a bound on the second derivative of the smooth part, along any direction, as any `fewest` rows see it.

        The largest eigenvalue of X'WX (X with a column of ones for the bias) is found by the power iteration, so x is
        only read. A part of the rows may see the whole curvature, n / fewest times as much, but never more than that
        of its worst row.
        """
        n = len(self.x)
        lengths = torch.linalg.vector_norm(self.x, dim=1, dtype=torch.float64).square() + float(self.intercept)
        worst = float((n * self.share[:, 0] * lengths).max())
        largest = self.bend * min(n / fewest * self._widest(), worst) + self.l2
        if not math.isfinite(largest):
            raise ValueError(f"the squares of X overflow {self.x.dtype}: divide X by a constant")
        return largest

    def margin(self, logits: Tensor) -> float | None:
        """Give the smallest lead of a right logit; None with a penalty, under which there is an optimum anyway."""
        if self.losses is not cross_entropy or self.l1 > 0 or self.l2 > 0:
            return None
        rows = self.y[:, None]
        if logits.shape[1] == 1:
            lead = logits * (2 * rows - 1)
        else:
            wrong = logits.scatter(1, rows, -math.inf)
            lead = logits.gather(1, rows) - wrong.amax(1, keepdim=True)
        return float(lead[self.share > 0].min())

    def _gradient(self, x: Tensor, point: Tensor, rest: Tensor) -> Tensor:
        gradient = self.l2 * point
        gradient[:, :-1] += rest.T.to(x.dtype) @ x
        gradient[:, -1] = rest.sum(0) if self.intercept else 0.0
        return gradient

    def _widest(self) -> float:
        """The largest eigenvalue of X'WX, by the power iteration from a fixed start: lengths that only grow."""
        draw = torch.Generator(device="cpu").manual_seed(0)
        point = torch.randn(1, self.x.shape[1] + 1, generator=draw, dtype=torch.float64, device="cpu").to(self.x.device)
        point[:, -1] *= float(self.intercept)
        length = 0.0
        for done in _ROUNDS:
            point = point / point.norm()
            rest = _logits(self.x, point) * self.share
            point = torch.cat([rest.T.to(self.x.dtype) @ self.x, rest.sum(0, keepdim=True) * float(self.intercept)], 1)
            before, length = length, float(point.double().norm())
            if length == 0 or (done >= _FEWEST and length - before <= 1e-3 * length):
                break
        return length


def _logits(x: Tensor, point: Tensor) -> Tensor:
    return (x @ point[:, :-1].T.to(x.dtype)).double() + point[:, -1].double()
