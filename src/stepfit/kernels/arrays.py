"""Copies, rounding and sums of squares of centers, in numpy: torch's threads would spin beside those of the kernel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stepfit.kernels.double_double import Floats


def rounded(means: Floats, like: Tensor) -> Tensor:
    """Round means to the type of centers."""
    with np.errstate(over="ignore"):
        values = means.astype(np.float64 if like.dtype == torch.float64 else np.float32)
    return torch.from_numpy(values).to(like.device)


def squared_moves(centers: Tensor, following: Tensor) -> float:
    """Sum of the squared moves of the centers."""
    return sum_of_squares(as_doubles(following) - as_doubles(centers))


def sum_of_squares(values: Floats) -> float:
    """Sum of squares of (k, d), by halves: an order that no thread count and no vector length can change."""
    with np.errstate(all="ignore"):
        total = np.square(values)
        for _ in values.shape:  # each row, then the sums of the rows
            while (count := total.shape[-1]) > 1:
                half = (count + 1) // 2
                total[..., : count - half] += total[..., half:]
                total = total[..., :half]
            total = total[..., 0]
        return float(total)


def copied(value: Tensor) -> Tensor:
    """Return a copy of a tensor."""
    return torch.from_numpy(value.numpy().copy()) if value.device.type == "cpu" else value.clone()


def as_doubles(centers: Tensor) -> Floats:
    """Return a copy of centers in float64."""
    known = centers if centers.dtype != torch.bfloat16 else centers.float()  # numpy has no bfloat16
    return known.cpu().numpy().astype(np.float64)
