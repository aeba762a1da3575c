"""k-means by Lloyd's algorithm: lloyd(), assign() and KMeansStep."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stepfit.steps import Step


@dataclass(frozen=True, eq=False, kw_only=True)
class KMeansStep(Step):
    """One pass over the data: the assignment to `centers`, and the update that gives `next_centers`.

    `labels`, `counts`, `mass`, `centers` and `inertia` belong together, so the last step of a run is the answer
    and nothing has to be computed again.

    Attributes
    ----------
    centers : Tensor of shape (k, d), float32 or float64
        The centers that the labels belong to.
    labels : Tensor of shape (n,), int32
        Index of each point's nearest center; on a tie, the lowest.
    counts : Tensor of shape (k,), int64
        Points per center.
    mass : Tensor of shape (k,), float64
        Sum of sample weights per center; equals `counts` without weights.
    changed : int
        Labels that differ from the step before; n in the first.
    next_centers : Tensor of shape (k, d)
        The means of the points of each center.
    shift : float
        Sum of squared moves of the centers.
    """

    centers: Tensor
    labels: Tensor
    counts: Tensor
    mass: Tensor
    changed: int
    next_centers: Tensor
    shift: float

    @property
    def inertia(self) -> float:
        """Sum of squared distances of the points to their centers: the loss of k-means."""
        return self.loss
