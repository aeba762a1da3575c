"""The compiled module, which is there when a C++ compiler was at the installation; and what points become for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

try:
    import stepfit._native as module
except ImportError as error:
    missing = str(error)
else:
    missing = ""

__all__ = ["largest", "missing", "module", "name", "rows"]

_STARTS_THREADS = 2**18  # values; fewer are looked at in less time than to start a thread takes


def rows(x: Tensor) -> Any:
    """Return x (n, d), which lies on the CPU, as the passes of the module take it: checked, and kept in memory."""
    return module.Rows(x)


def largest(x: Tensor) -> NDArray[np.float64]:
    """Return the largest size of each feature of x (n, d), which lies on the CPU, as (d,); NaN where there is one."""
    found = np.empty(x.shape[1])
    module.extremes(1 if x.numel() < _STARTS_THREADS else torch.get_num_threads(), rows(x), found)
    return found


def name(dtype: torch.dtype) -> str:
    """Name a type as the module does."""
    return str(dtype).removeprefix("torch.")
