"""The meaning of right: labels in plain float64, sums in Python integers. Never optimised; every kernel equals it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stepfit.kernels import fixed
from stepfit.kernels.fixed import Workspace
from stepfit.kernels.points import Points


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Sum over t of (a[..., t] - b[..., t])^2 in float64, added in the order t = 0..d-1; the rest broadcasts."""
    a, b = a.movedim(-1, 0).double().contiguous(), b.movedim(-1, 0).double().contiguous()
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for at, bt in zip(a, b):
        difference = at - bt
        total = total + difference * difference
    return total


def assign(points: Points, centers: Tensor) -> Tensor:
    """Label each point with its nearest center; on a tie the lowest, and NaN counts as nearest, as in torch.argmin."""
    labels = torch.empty(points.n, dtype=torch.int32, device=points.device)
    for here, block in points.blocks(max(1, 2**20 // len(centers))):
        labels[here] = squared_distance(block[:, None], centers[None]).argmin(1).int()
    return labels


def distances(points: Points, centers: Tensor, labels: Tensor) -> Tensor:
    """Squared distances of points to their centers, (n,) float64."""
    out = torch.empty(points.n, dtype=torch.float64, device=points.device)
    for here, block in points.blocks():
        out[here] = squared_distance(block, centers[labels[here].long()])
    return out


def all_distances(x: Tensor, centers: Tensor) -> Tensor:
    """Squared distances of rows to all centers: (n, d), (k, d) to (n, k) float64."""
    out = torch.empty(len(x), len(centers), dtype=torch.float64, device=x.device)
    for here in _blocks(x, centers):
        out[here] = squared_distance(x[here][:, None], centers[None])
    return out


def closer(x: Tensor, centers: Tensor, limits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which centers lie nearer to a row than its limit: (n, d), (k, d), (n,) to rows, centers and squared distances."""
    found = []
    for here in _blocks(x, centers):
        distances = squared_distance(x[here][:, None], centers[None])
        row, center = (distances < limits[here][:, None]).nonzero(as_tuple=True)
        found.append((here.start + row, center, distances[row, center]))
    rows, near, distances = (torch.cat(part) for part in zip(*found))
    return rows, near, distances


def _blocks(x: Tensor, centers: Tensor) -> Iterator[slice]:
    rows = max(1, 2**20 // len(centers))
    for first in range(0, len(x), rows):
        yield slice(first, first + rows)


def assign_and_sum(points: Points, centers: Tensor, workspace: Workspace | None = None) -> fixed.Totals:
    """One pass over the data; see the door in kernels/__init__.py."""
    labels, last = assign(points, centers), workspace.last if workspace else None
    k, d = centers.shape
    counts, sums, squares, masses = [0] * k, [[0] * d for _ in range(k)], 0, [0] * k
    for here, block in points.blocks():
        weight = None if points.weight is None else points.weight[here]
        some = block, weight, points.scale
        listed = [[part.round().tolist() for part in kind] for kind in fixed.parts(*some)]
        squares += sum(int(value) for part in fixed.square_parts(*some) for value in part.round().flatten().tolist())
        for i, label in enumerate(labels[here].tolist()):
            counts[label] += 1
            for part in listed[0]:
                for t, value in enumerate(part[i]):
                    sums[label][t] += int(value)
            masses[label] += sum(int(part[i]) for part in listed[1])
    changed = points.n if last is None else int((labels != last.labels).sum())

    def limbs(integers: list[int], width: int, count: int = fixed.LIMBS) -> Tensor:
        low = [[i >> width * j & 2**width - 1 for i in integers] for j in range(count - 1)]
        high = [i >> width * (count - 1) for i in integers]
        return torch.tensor([*low, high], dtype=torch.int64, device=points.device)

    totals = fixed.Totals(
        labels=labels,
        counts=torch.tensor(counts, dtype=torch.int64, device=points.device),
        sums=limbs([value for row in sums for value in row], fixed.WIDTH).reshape(fixed.LIMBS, k, d),
        squares=limbs([squares], fixed.SQUARE_WIDTH, fixed.LIMBS + 1)[:, 0],
        masses=None if points.weight is None else limbs(masses, fixed.WIDTH),
        changed=changed,
    )
    if workspace is not None:
        workspace.last = totals
    return totals
