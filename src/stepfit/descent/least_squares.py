"""The mean squared error of a linear model from sums over the rows: after one pass, a step costs O(d^2)."""

from __future__ import annotations

import torch
from torch import Tensor


def gram(x: Tensor, bias: bool) -> Tensor:
    """Give X'X in float64, X having a column of ones where there is a bias; without that copy of x."""
    x = x.double()
    squares = x.T @ x
    if not bias:
        return squares
    totals = x.sum(0, keepdim=True)
    return torch.cat([torch.cat([squares, totals.T], 1), torch.cat([totals, totals.new_tensor([[len(x)]])], 1)])


class LeastSquares:
    """Loss and gradient of y = x @ weight.T + bias without a look at the rows.

    With p for weight and bias in a column, an anchor a, and r = y - X a, the squared errors at p = a + m add up to
    r'r - 2 m'X'r + m'X'X m. That is exact to the size of r'r, so when the loss has fallen well below that, the anchor
    is moved to p, which is one more pass: the loss keeps its digits near the optimum, and never falls below 0. A loss
    that falls from 1 to 1e-30 does so some 50 times at most.

    Parameters
    ----------
    weight, bias : Tensor of shape (1, d) and (1,)
        Where the loss is wanted; others move them.
    x, y : Tensor of shape (n, d) and (n, 1), float64
        The rows.
    squares : Tensor of shape (d + 1, d + 1)
        X'X, as `gram` gives it.
    """

    def __init__(self, weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, squares: Tensor) -> None:
        self._weight, self._bias = weight, bias
        self._x, self._y, self._squares = x, y, squares
        self._move(self._point())

    def backward(self) -> Tensor:
        """Give the loss, and the parameters their gradients, as loss.backward() would."""
        point, n = self._point(), len(self._x)
        loss, gradient = self._at(point)
        if loss < self._error / 4:
            self._move(point)
            loss, gradient = self._at(point)
        gradient = gradient * (2 / n)
        self._weight.grad, self._bias.grad = gradient[:-1].T, gradient[-1]
        return loss / n

    def _point(self) -> Tensor:
        return torch.cat([self._weight.detach(), self._bias.detach()[None]], 1).T

    def _move(self, anchor: Tensor) -> None:
        rest = self._y - (self._x @ anchor[:-1] + anchor[-1])
        self._anchor, self._error = anchor, (rest.T @ rest)[0, 0]
        self._slope = torch.cat([self._x.T @ rest, rest.sum(0, keepdim=True)])

    def _at(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors added up, and half of their gradient."""
        moved = point - self._anchor
        bend = self._squares @ moved
        return self._error + (moved.T @ (bend - 2 * self._slope))[0, 0], bend - self._slope
