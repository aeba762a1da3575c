"""The torch kernel, for any device: screen in float32, bound the error, settle the few candidates in float64.

A center is a candidate for a row when its score lies within the error bound of the best. Most rows have one, and it is
the answer; the others are settled as the reference kernel does it. So the labels are exact at the price of float32.
The n x k scores are never held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from stepfit.kernels import fixed
from stepfit.kernels.fixed import Workspace
from stepfit.kernels.points import Points
from stepfit.kernels.reference import all_distances, closer, distances, squared_distance  # float64 has its price

# Scores of a block that fit the caches; elsewhere a launch costs more than memory.
_BLOCK_VALUES = {"cpu": 2**20}
_SETTLE_VALUES = 2**21

__all__ = ["Workspace", "all_distances", "assign", "assign_and_sum", "closer", "distances"]


def assign(points: Points, centers: Tensor) -> Tensor:
    """Label each point with its nearest center, exactly as the reference kernel."""
    labels = torch.empty(points.n, dtype=torch.int32, device=points.device)
    for here, _, nearest in _nearest(points, centers):
        labels[here] = nearest
    return labels


def assign_and_sum(points: Points, centers: Tensor, workspace: Workspace | None = None) -> fixed.Totals:
    """One pass over the data; see the door in kernels/__init__.py. Only rows whose label changed touch the sums."""
    labels = torch.empty(points.n, dtype=torch.int32, device=points.device)
    weighted, last, changed = points.weight is not None, workspace.last if workspace else None, points.n
    totals = last.copy(labels) if last else fixed.Totals.zeros(labels, *centers.shape, weighted=weighted)
    for here, block, nearest in _nearest(points, centers):
        labels[here] = nearest
        weight = None if points.weight is None else points.weight[here]
        if last is None:
            totals.add(block, weight, points.scale, to=nearest)
            continue
        before = last.labels[here]
        moved = (nearest != before).nonzero()[:, 0]
        changed += len(moved) - len(block)
        if len(moved):
            moved_weight = None if weight is None else weight[moved]
            totals.add(block[moved], moved_weight, points.scale, to=nearest[moved], out_of=before[moved])
    totals = replace(totals, changed=changed)
    if workspace is not None:
        workspace.last = totals
    return totals


def _nearest(points: Points, centers: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield (which rows, those rows, their labels) block by block."""
    rows = max(1, _BLOCK_VALUES.get(points.device.type, 2**25) // (points.d + len(centers)))
    missing = centers.isnan().any(1)
    screen = None if missing.any() else _Screen(points, centers)
    for here, block in points.blocks(rows):
        if screen is None:  # NaN counts as nearest, as in torch.argmin
            lowest = int(missing.int().argmax())
            yield here, block, torch.full((len(block),), lowest, dtype=torch.int32, device=block.device)
        else:
            yield here, block, screen.nearest(block)


class _Screen:
    """float32 scores |c|^2/2 - x.c and their error bounds, for points and centers moved and scaled to lie near 1.

    The bound on one score has a term for each place where something is lost:

    - (d + 8) 2^-24 (|x||c| + |c|^2/2): the additions of the product, which begin at |c|^2/2 (N. J. Higham, "Accuracy
      and Stability of Numerical Algorithms", 2002, section 3.1), the rounding of x and c to float32, and the norms;
    - (d + 4) 2^-53 (|x|^2 + |c|^2): the float64 sums that define the answer are rounded too;
    - d 2^-74 (1 + |c|): products that underflow.
    """

    def __init__(self, points: Points, centers: Tensor) -> None:
        self.centers = centers
        exact = centers.double()
        self.narrow = points.x.dtype not in fixed.WIDE
        # Without the offset that all points share, float32 tells them apart better. Any shift is right.
        self.shift = exact.mean(0).to(torch.float32 if self.narrow else torch.float64)
        moved = exact - self.shift.double()
        exponent = int(torch.frexp(moved.abs().max()).exponent)
        self.scale = 2.0 ** -min(max(exponent, -100), 100 if self.narrow else 450)
        moved *= self.scale
        norms = torch.linalg.vector_norm(moved, dim=1)
        self.columns = moved.float().T.contiguous()
        self.halves = (norms.square() / 2).float()
        d = centers.shape[1]
        unit = (d + 8) * 2.0**-24
        self.relative = 1.01 * unit / (1 - unit) ** 2 if unit < 0.5 else float("inf")
        self.settle = (d + 4) * 2.0**-53
        slack = self.relative * norms.square() / 2 + self.settle * norms.square() + d * 2.0**-74 * (1 + norms)
        self.slack = (1.01 * slack).float()
        self.norms = (1.01 * self.relative * norms).float()

    def nearest(self, block: Tensor) -> Tensor:
        """Label some rows, (rows, d) to (rows,) int32."""
        x = block.float() - self.shift if self.narrow else block.double() - self.shift
        x = (x * self.scale).float()
        size = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        with _full_precision(x.device):
            scores = torch.addmm(self.halves, x, self.columns, alpha=-1)
        bound = torch.addcmul(self.slack + 1.01 * self.settle * size.square(), size, self.norms)
        highest = (scores + bound).amin(1, keepdim=True)
        # Written so that a score that is not finite makes a candidate too.
        candidates = ~(scores - bound > highest)
        labels = candidates.int().argmax(1)
        open_rows = (candidates.sum(1) > 1).nonzero()[:, 0]
        if len(open_rows):
            labels[open_rows] = self._settle(block[open_rows], candidates[open_rows])
        return labels.int()

    def _settle(self, block: Tensor, candidates: Tensor) -> Tensor:
        row, center = candidates.nonzero(as_tuple=True)
        distances = torch.full(candidates.shape, float("inf"), dtype=torch.float64, device=block.device)
        pairs = max(1, _SETTLE_VALUES // block.shape[1])
        for first in range(0, len(row), pairs):
            i, j = row[first : first + pairs], center[first : first + pairs]
            distances[i, j] = squared_distance(block[i], self.centers[j])
        return distances.argmin(1)  # the lowest index on a tie


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Keep TF32, bfloat16 and autocast, if the caller turned them on, out of the products: the bound is for float32."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
