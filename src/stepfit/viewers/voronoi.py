"""regions(): the part of the plane nearest to each center; class_regions(): that of the largest score of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def regions(centers: Floats, box: Sequence[float]) -> list[Floats]:
    """Cut a box into the regions of the points that are nearest to each center, exactly, by half planes.

    centers are (k, 2); as for labels, the lowest index wins a tie, and NaN counts as nearest. The box is left, right,
    bottom, top. Return the corners (m, 2) of each region in order; (0, 2) for a center that has none.

    Examples
    --------
    >>> regions(np.array([[1.0, 5.0], [3.0, 5.0]]), (0.0, 10.0, 0.0, 10.0))[0].tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 10.0], [0.0, 10.0]]
    """
    whole = corners(box)
    lost = np.isnan(centers).any(1)
    if lost.any():
        return [whole if j == lost.argmax() else whole[:0] for j in range(len(centers))]
    return [_region(centers, j, whole) for j in range(len(centers))]


def _region(centers: Floats, j: int, polygon: Floats) -> Floats:
    to_others = centers - centers[j]
    gaps = np.hypot(*to_others.T)
    for i in np.argsort(gaps, kind="stable"):
        if gaps[i] == 0:
            if i < j:  # the same place, and the lower index wins the tie
                return polygon[:0]
            continue
        # The border lies half way; where that is beyond all corners, so are the borders of all farther centers.
        if not len(polygon) or gaps[i] / 2 > np.hypot(*(polygon - centers[j]).T).max():
            break
        polygon = clipped(polygon, centers[j], to_others[i] / gaps[i], gaps[i] / 2)
    return polygon


def class_regions(weight: Floats, bias: Floats, box: Sequence[float]) -> list[Floats]:
    """Cut a box into the regions in which each of some scores, weight @ x + bias, is the largest.

    weight is (classes, 2) and bias (classes,); on a tie the lowest index wins, and where a score is not finite there is
    no region. Return the corners (m, 2) of each class in order; (0, 2) where it has none.

    Examples
    --------
    >>> class_regions(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([2.0, 0.0]), (0.0, 10.0, 0.0, 10.0))[0].tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 10.0], [0.0, 10.0]]
    """
    whole = corners(box)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        return [whole[:0] for _ in bias]
    parts = []
    for j in range(len(bias)):
        part = whole
        for i in range(len(bias)):
            lead = weight[i] - weight[j]
            reach = bias[j] - bias[i]
            size = max(*abs(lead), abs(reach))
            if lead.any():
                part = clipped(part, np.zeros(2), lead / size, reach / size)
            elif reach < 0 or (reach == 0 and i < j):
                part = whole[:0]
        parts.append(part)
    return parts


def clipped(polygon: Floats, origin: Floats, direction: Floats, reach: float) -> Floats:
    """Keep the part of a convex polygon where (point - origin) @ direction is at most `reach`."""
    beyond = (polygon - origin) @ direction - reach
    inside, following = beyond <= 0, np.roll(beyond, -1)
    crossed = inside != np.roll(inside, -1)
    share = np.divide(beyond, beyond - following, out=np.zeros_like(beyond), where=crossed)
    cuts = polygon + share[:, None] * (np.roll(polygon, -1, axis=0) - polygon)
    kept: Floats = np.stack([polygon, cuts], axis=1)[np.stack([inside, crossed], axis=1)]
    return kept


def corners(box: Sequence[float]) -> Floats:
    """Return the polygon of a box (left, right, bottom, top)."""
    left, right, bottom, top = box
    return np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
