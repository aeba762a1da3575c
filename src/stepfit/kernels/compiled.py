"""The compiled module, which is there when a C++ compiler was at the installation; what its passes need to know."""

from __future__ import annotations

from typing import TypedDict

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

__all__ = ["Memory", "largest", "memory", "missing", "module", "name"]

_FEW = 2**18  # values that are looked at in less time than to start a thread takes


def largest(x: Tensor) -> NDArray[np.float64]:
    """Give the largest size of each feature of x (n, d), which lies on the CPU, as (d,); NaN where there is one."""
    found = np.empty(x.shape[1])
    threads = 1 if x.numel() < _FEW else torch.get_num_threads()
    module.extremes(threads, **memory(x), largest=found.ctypes.data)
    return found


class Memory(TypedDict):
    """The points of a pass: their type, address, number of rows and features, and strides in bytes."""

    type: str
    x: int
    n: int
    d: int
    row: int
    column: int


def memory(x: Tensor) -> Memory:
    """Say where the points lie, as every pass of the module wants to know it."""
    size = x.element_size()
    n, d = x.shape
    return {
        "type": name(x.dtype),
        "x": x.data_ptr(),
        "n": n,
        "d": d,
        "row": x.stride(0) * size,
        "column": x.stride(1) * size,
    }


def name(dtype: torch.dtype) -> str:
    """Name a type as the module does."""
    return str(dtype).removeprefix("torch.")
