"""A linear model and its loss: LinearProblem, with rows, weights, penalties, curvature, and sums in place of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stepfit.descent.engine import DescentStep, Look, Metric, Problem, State
from stepfit.kernels.points import FLOATS, as_tensor
from stepfit.steps import carried

# Logits (n, outputs) and targets to the loss of each row, (n, 1), and its derivatives by the logits, (n, outputs).
RowLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

_EXACT_FEATURES = 1024  # up to here the largest eigenvalue is computed exactly
_POWER_ROUNDS, _FEWEST_POWER_ROUNDS = 100, 10  # a start nearly at right angles to the answer has left it by then
_BLOCK_BYTES = 2**25


def squared_error(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared error of each row, as nn.MSELoss; y is (n, outputs)."""
    rest = logits - y
    return rest.square().mean(1, keepdim=True), rest * (2 / rest.shape[1])


def logistic_loss(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return minus the log of the probability of each row's class, as nn.BCEWithLogitsLoss; y is (n, 1) of 0 and 1."""
    sign = 2 * y - 1
    lead = sign * logits
    return -logsigmoid(lead), -sign * torch.sigmoid(-lead)


def cross_entropy(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return minus the log of the probability of each row's class, as nn.CrossEntropyLoss; y is (n,), from 0."""
    logs, classes = torch.log_softmax(logits, 1), y[:, None]
    losses = -logs.gather(1, classes)
    return losses, logs.exp_().scatter_add_(1, classes, logs.new_full((1, 1), -1.0).expand(classes.shape))


# By the name of torch's loss: the loss of rows, its largest second derivative by the logits of a row (for MSELoss times
# the outputs), and the prediction above which a row is said to be of class 1.
ROW_LOSSES: dict[str, RowLoss] = {
    "MSELoss": squared_error,
    "BCEWithLogitsLoss": logistic_loss,
    "CrossEntropyLoss": cross_entropy,
}
CURVATURES = {"MSELoss": 2.0, "BCEWithLogitsLoss": 0.25, "CrossEntropyLoss": 0.5}
THRESHOLDS = {"MSELoss": 0.5, "BCELoss": 0.5, "BCEWithLogitsLoss": 0.0}


def default_metrics(loss: str, y: Tensor) -> dict[str, Metric]:
    """Return the accuracy where the loss says what counts as a hit, and nothing elsewhere."""
    if loss == "CrossEntropyLoss" and y.dtype == torch.int64:
        return {"accuracy": lambda prediction, target: (prediction.argmax(1) == target).double().mean().item()}
    threshold = THRESHOLDS.get(loss)
    if threshold is None or not ((y == 0) | (y == 1)).all():
        return {}
    return {"accuracy": lambda prediction, target: ((prediction > threshold) == (target > 0.5)).double().mean().item()}


def checked_rows(x: Any, y: Any, x_name: str, y_name: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets as tensors, or raise ValueError: not as many rows, none, or a value not finite."""
    inputs, targets = as_tensor(x, x_name), as_tensor(y, y_name)
    if inputs.ndim == 0 or not len(inputs) or targets.ndim == 0 or len(inputs) != len(targets):
        raise ValueError(
            f"{x_name} has shape {tuple(inputs.shape)} and {y_name} {tuple(targets.shape)}; "
            "both need the same number of rows, at least one"
        )
    for name, values in ((x_name, inputs), (y_name, targets)):
        if values.dtype in FLOATS and not values.isfinite().all():
            where = tuple((~values.isfinite()).nonzero()[0].tolist())
            raise ValueError(f"{name} has {values[where].item()} at {where}; every value must be finite")
    return inputs, targets


class LinearProblem(Problem):
    """sum_i w_i loss_i / sum_i w_i + l1 |weight|_1 + l2 |weight|^2 / 2. The bias is never penalised.

    x is (n, d), float32 or float64; y is (n, outputs) float64, or the class of each row, (n,) int64, for
    CrossEntropyLoss. `loss` is the name of torch's. With `standardize`, points and penalties are about (x - mean) /
    standard deviation; the parameters of steps are about x all the same. `test` are (x, y, weights or None) that are
    never learned from, measured without penalties. ValueError is raised when the weights are all 0 or overflow.

    A point is one float64 matrix (outputs, d + 1) with the bias in its last column. Products with x are of x's dtype;
    all else is float64.
    """

    watches_epochs = True

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        loss: str,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        intercept: bool = True,
        sample_weight: Tensor | None = None,
        standardize: bool = False,
        test: tuple[Tensor, Tensor, Tensor | None] | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> None:
        self.share, self.total = _shares(x, sample_weight)
        self.dtype, (self.n, self.d) = x.dtype, x.shape
        self.outputs = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
        self.y, self.loss, self.row_losses, self.threshold = y, loss, ROW_LOSSES[loss], THRESHOLDS.get(loss)
        self.l1, self.l2, self.intercept = l1, l2, intercept
        self.curvature_of_rows = CURVATURES[loss] / (self.outputs if loss == "MSELoss" else 1)
        # A loss of the size that losses have here: that of weights of 0 where y has a unit.
        self.unit = float((squared_error(torch.zeros_like(y), y)[0] * self.share).sum()) if loss == "MSELoss" else 1.0
        self.mean, self.scale = x.new_zeros(self.d, dtype=torch.float64), x.new_ones(self.d, dtype=torch.float64)
        if standardize:
            wide = x.double()
            mean = (self.share * wide).sum(0)
            self.scale = (self.share * (wide - mean).square()).sum(0).sqrt()
            # What rounding leaves of a constant feature is no spread.
            self.scale[self.scale <= 10 * torch.finfo(x.dtype).eps * mean.abs()] = 1.0
            self.mean = mean if intercept else self.mean
            x = ((wide - self.mean) / self.scale).to(x.dtype)
        self.x = x
        self.test = None if test is None else (test[0], test[1], _shares(test[0], test[2])[0])
        self.metrics = {} if metrics is None else metrics
        self.settings = {"model": "Linear", "loss": loss, "l1": l1, "l2": l2, "intercept": intercept}
        self._sums: tuple[Tensor, Tensor, Tensor] | None = None

    # Points and parameters

    def point(self, weight: Any = None, bias: Any = None) -> Tensor:
        """Return the point of a weight (outputs, d) and a bias (outputs,) for x as it came; zeros without."""
        point = self.x.new_zeros(self.outputs, self.d + 1, dtype=torch.float64)
        if weight is None:
            return point
        wanted = (self.outputs, self.d)
        if weight.shape != wanted or bias.shape != wanted[:1]:
            raise ValueError(
                f"start has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}; {wanted[0]} logit(s) of "
                f"{wanted[1]} features need {wanted} and {wanted[:1]}"
            )
        point[:, :-1], point[:, -1] = weight * self.scale, bias + weight.double() @ self.mean
        return point

    def params(self, point: Tensor) -> dict[str, Tensor]:
        """Return weight (outputs, d) and bias (outputs,) of a point, for x as it came, in its dtype."""
        weight = point[:, :-1] / self.scale
        return {"weight": weight.to(self.dtype), "bias": (point[:, -1] - weight @ self.mean).to(self.dtype)}

    def grads(self, gradient: Tensor) -> dict[str, Tensor]:
        """Return the derivatives by weight and bias, given those by the point."""
        slope = gradient[:, :-1] * self.scale + gradient[:, -1:] * self.mean
        return {"weight": slope.to(self.dtype), "bias": gradient[:, -1].to(self.dtype, copy=True)}

    def resumed(self, step: DescentStep) -> Tensor:
        """Return the point after a step, of this problem or of another engine's."""
        point = carried(step)["point"]
        return point if isinstance(point, Tensor) else self.point(step.next_params["weight"], step.next_params["bias"])

    # The loss

    def look(self, point: Tensor, rows: Tensor | None = None, anchor: Tensor | None = None) -> Look:
        """Return loss and gradient at a point: on all rows, from sums about an anchor, or as some rows estimate it."""
        if anchor is not None:
            return self._look_at_sums(point, anchor)
        if rows is None:
            logits = _logits(self.x, point)
            return self.look_from(point, logits, *self.evaluate(point, logits))
        x, share = self.x[rows], self.share[rows] * (self.n / len(rows))
        logits = _logits(x, point)
        loss, rest = self.evaluate(point, logits, self.y[rows], share)
        return Look(loss, self._gradient(point, rest, x), logits)

    def look_from(self, point: Tensor, logits: Tensor, loss: float, rest: Tensor) -> Look:
        """Return the look at a point on all rows, whose logits, loss and derivatives by the logits are known."""
        gradient = self._gradient(point, rest, self.x)
        return Look(loss, gradient, logits, self._steepest(point, gradient), self._margin(logits))

    def logits(self, point: Tensor) -> Tensor:
        """Return (n, outputs), float64."""
        return _logits(self.x, point)

    def evaluate(
        self, point: Tensor, logits: Tensor, y: Tensor | None = None, share: Tensor | None = None
    ) -> tuple[float, Tensor]:
        """Return the loss at a point whose logits are known, and its derivatives by the logits, (n, outputs)."""
        share = self.share if share is None else share
        losses, rest = self.row_losses(logits, self.y if y is None else y)
        return float((losses * share).sum()) + self._penalty(point), rest.mul_(share)

    def _penalty(self, point: Tensor) -> float:
        weight, penalty = point[:, :-1], 0.0
        if self.l2 > 0:  # 0 times a square that overflows would be NaN
            penalty += self.l2 / 2 * float(weight.square().sum())
        return penalty + (self.l1 * float(weight.abs().sum()) if self.l1 > 0 else 0.0)

    def _gradient(self, point: Tensor, rest: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of the smooth part, (outputs, d + 1), given the derivatives by the logits of x."""
        gradient = self.l2 * point
        gradient[:, :-1] += rest.T.to(x.dtype) @ x
        gradient[:, -1] = rest.sum(0) if self.intercept else 0.0
        return gradient

    def _steepest(self, point: Tensor, gradient: Tensor) -> float:
        """Return the largest partial derivative in size; where a weight is 0, l1 takes off what it can."""
        weight, partial = point[:, :-1], gradient[:, :-1]
        if self.l1 > 0:
            kinked = (partial.abs() - self.l1).clamp(min=0)
            partial = torch.where(weight == 0, kinked, partial + self.l1 * weight.sign())
        return float(torch.maximum(partial.abs().amax(), gradient[:, -1].abs().amax()))

    def _margin(self, logits: Tensor) -> float | None:
        """Return the smallest lead of a right logit; None with a penalty, under which there is a minimum anyway."""
        if self.loss == "MSELoss" or self.l1 > 0 or self.l2 > 0:
            return None
        if self.outputs == 1:
            lead = logits * (2 * self.y - 1)
        else:
            rows = self.y[:, None]
            lead = logits.gather(1, rows) - logits.scatter(1, rows, -math.inf).amax(1, keepdim=True)
        return float(lead[self.share > 0].min())

    def shrink(self, point: Tensor, lengths: float | Tensor) -> Tensor:
        """Apply the proximal operator of the l1 penalty to a point, for steps of these lengths."""
        if self.l1 == 0:
            return point
        nearer = (point.abs() - self.l1 * lengths).clamp(min=0) * point.sign()
        nearer[:, -1] = point[:, -1]
        return nearer

    def predict_test(self, point: Tensor, state: State) -> tuple[Tensor, float]:
        """Return the predictions for the test rows, (m, outputs), and their loss without penalties."""
        x, y, share = self.test
        weight = point[:, :-1] / self.scale
        logits = _logits(x, torch.cat([weight, point[:, -1:] - weight @ self.mean[:, None]], 1))
        return logits, float((self.row_losses(logits, y)[0] * share).sum())

    # Curvature

    def curvature(self, fewest: int | None = None) -> float:
        """Return a bound on the second derivative of the smooth part along any direction, as any `fewest` rows see it.

        Of a squared error over all rows it is the largest curvature itself. Some of the rows may see all of it, so
        n / fewest times as much, but never more than that of the row with the largest. It is not finite where squares
        overflow. Above 1,024 rows and features it comes from the power iteration, right to about 1e-3.
        """
        fewest = self.n if fewest is None else fewest
        largest = self.n / fewest * self._largest_eigenvalue()
        if fewest < self.n:
            lengths = torch.linalg.vector_norm(self.x, dim=1, dtype=torch.float64).square() + float(self.intercept)
            largest = min(largest, float((self.n * self.share[:, 0] * lengths).max()))
        return self.curvature_of_rows * largest + self.l2

    def _largest_eigenvalue(self) -> float:
        """Return that of X'WX, W being the shares and X having a column of ones where there is an intercept."""
        if self.d < _EXACT_FEATURES:
            squares = self._gram
        elif self.n <= _EXACT_FEATURES:
            x, roots = self.x.double(), self.share.sqrt()
            squares = roots * (x @ x.T + float(self.intercept)) * roots.T
        else:
            return self._power_iteration()
        return float(torch.linalg.eigvalsh(squares.cpu())[-1]) if squares.isfinite().all() else math.inf

    @cached_property
    def _gram(self) -> Tensor:
        """X'WX, (d + 1, d + 1); its last row and column are 0 without an intercept."""
        squares = self.x.new_zeros(self.d + 1, self.d + 1, dtype=torch.float64)
        rows, one = max(1, _BLOCK_BYTES // (8 * self.d)), float(self.intercept)
        for x, share in zip(torch.split(self.x, rows), torch.split(self.share, rows)):
            x = x.double()
            squares[:-1, :-1] += x.T @ (x * share)
            squares[-1, :-1] += (x * share).sum(0) * one
        squares[:-1, -1] = squares[-1, :-1]
        squares[-1, -1] = one * float(self.share.sum())
        return squares

    def _power_iteration(self) -> float:
        draw = torch.Generator(device="cpu").manual_seed(0)
        point = torch.randn(1, self.d + 1, generator=draw, dtype=torch.float64, device="cpu").to(self.x.device)
        length = 0.0
        for done in range(_POWER_ROUNDS):
            point[:, -1] *= float(self.intercept)
            point = point / point.norm()
            rest = _logits(self.x, point) * self.share
            point = torch.cat([(rest.T.to(self.dtype) @ self.x).double(), rest.sum(0, keepdim=True)], 1)
            before, length = length, float(point[:, : self.d + self.intercept].norm())
            if length == 0 or (done >= _FEWEST_POWER_ROUNDS and length - before <= 1e-3 * length):
                break
        return length

    # The squared error from sums

    @cached_property
    def has_sums(self) -> bool:
        """Whether sums over the rows say all that a look at all rows has to, for less: each then costs O(d^2).

        Of float32 rows, sums would be more exact than the rows are. Metrics need predictions, and so the rows.
        """
        few = self.dtype == torch.float64 and self.d < min(self.n, _EXACT_FEATURES)
        asked = bool(self.metrics) or self.test is not None
        return self.loss == "MSELoss" and few and not asked and bool(self._gram.isfinite().all())

    def _look_at_sums(self, point: Tensor, anchor: Tensor) -> Look:
        """Return the look at a point from the sums at an anchor.

        With an anchor a, the rest r = y - X a and p = a + m, the squared errors at p add up to r'Wr - 2 m'X'Wr +
        m'X'WX m. That is exact to the size of r'Wr, so when the loss has fallen well below that, the anchor moves to p,
        which costs one pass: the loss keeps its digits near the minimum and never falls below 0.
        """
        for candidate in (anchor, point):
            if self._sums is None or self._sums[0] is not candidate:
                rest = self.y - _logits(self.x, candidate)
                weighted = rest * self.share
                slope = torch.cat([weighted.T @ self.x, weighted.sum(0)[:, None] * float(self.intercept)], 1)
                self._sums = candidate, (rest * weighted).sum(), slope
            anchor, error, slope = self._sums
            moved = point - anchor
            change = moved @ self._gram
            loss = error + (moved * (change - 2 * slope)).sum()
            if not loss < error / 4:
                break
        gradient = (change - slope) * (2 / self.outputs)
        gradient[:, :-1] += self.l2 * point[:, :-1]
        total = float(loss) / self.outputs + self._penalty(point)
        return Look(total, gradient, steepest=self._steepest(point, gradient), anchor=anchor)


def _shares(x: Tensor, sample_weight: Tensor | None) -> tuple[Tensor, float]:
    """Return the part of each row in the mean, (n, 1) float64, and the sum of the weights."""
    if sample_weight is None:
        return x.new_full((len(x), 1), 1 / len(x), dtype=torch.float64), float(len(x))
    total = sample_weight.sum()
    if total == 0:
        raise ValueError("sample_weight is 0 everywhere; at least one row must count")
    if not total.isfinite():
        raise ValueError("the weights of rows and classes have a sum that overflows; divide them by a constant")
    return (sample_weight / total)[:, None], float(total)


def _logits(x: Tensor, point: Tensor) -> Tensor:
    """Return (n, outputs), float64."""
    return (x @ point[:, :-1].T.to(x.dtype)).double() + point[:, -1]
