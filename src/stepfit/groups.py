"""Group: all_sum() and all_max() over the processes of a run, or the value back untouched."""

from __future__ import annotations

from torch import Tensor


class Group:
    """The processes that share a run. This one is alone: its totals are already the whole.

    Attributes
    ----------
    rank, size : int
        The number of this process, and of all.
    """

    rank = 0
    size = 1

    def all_sum(self, value: Tensor) -> Tensor:
        """Sum an integer tensor over all processes; integers, so that the order of addition cannot matter."""
        return value

    def all_max(self, value: Tensor) -> Tensor:
        """Elementwise largest over all processes."""
        return value
