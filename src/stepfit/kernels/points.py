"""Points: the data door, one checked view of numpy, torch, lists and memory-mapped files, read block by block."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stepfit.groups import Group
from stepfit.kernels import compiled
from stepfit.kernels.fixed import WIDE, Scale

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# Above this a squared distance may overflow float64, and all far points would be equally far.
LARGEST = 2.0**500
_BLOCK_BYTES = 2**23
_CACHED_BYTES = 2**21  # so that a second look at a block finds it in a cache


class Points:
    """The rows of `x` and their weights, checked once, never copied where that can be helped, never changed.

    Attributes
    ----------
    x : Tensor of shape (n, d)
        A view of what came, in its own dtype, on its own device.
    weight : Tensor of shape (n,), float64, or None
        Sample weights.
    group : Group
        The processes that hold the other rows.
    dtype : torch.dtype
        Of the centers: float64 when x is float64, int32, int64 or a list, otherwise float32.
    """

    def __init__(self, x: Any, sample_weight: Any = None, group: Group | None = None) -> None:
        self.x = as_tensor(x, "x")
        if self.x.ndim != 2:
            hint = "; for one feature use x.reshape(-1, 1)" if self.x.ndim == 1 else ""
            raise ValueError(f"x has shape {tuple(self.x.shape)}; it must be (n, d): a row a point{hint}")
        if 0 in self.x.shape:
            raise ValueError(f"x has shape {tuple(self.x.shape)}; at least one point and one feature are needed")
        self.n, self.d = self.x.shape
        if self.d > 2**20:  # the limbs of a row are added up in float64, exactly up to here
            raise ValueError(f"x has {self.d} features; at most {2**20} are supported")
        self.group = group or Group()
        self.dtype = torch.float64 if self.x.dtype in WIDE else torch.float32
        self._refuse_values_out_of_range()
        self.weight = None if sample_weight is None else self._checked_weight(sample_weight)

    @cached_property
    def rows(self) -> Any:
        """The rows as the compiled module takes them."""
        return compiled.rows(self.x)

    @property
    def device(self) -> torch.device:
        """Where x lives, and so the steps."""
        return self.x.device

    def blocks(self, rows: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Yield (which rows, those rows of x) in order, so that a file larger than memory streams through."""
        rows = rows or max(1, _BLOCK_BYTES // (8 * self.d))
        for first in range(0, self.n, rows):
            here = slice(first, min(first + rows, self.n))
            yield here, self.x[here]

    def take(self, rows: Tensor) -> Points:
        """Return some of the rows, which need not be checked again."""
        taken = object.__new__(Points)
        taken.x, taken.dtype, taken.group = _rows(self.x, rows), self.dtype, Group()
        taken.weight = None if self.weight is None else self.weight[rows]
        taken.n, taken.d = taken.x.shape
        return taken

    @cached_property
    def scale(self) -> Scale:
        """The powers of two under which the rows of all processes become integers."""
        largest = torch.zeros(3, self.d, dtype=torch.float64, device=self.device)
        if self.weight is None:
            largest[0] = self._largest
        else:
            for here, block in self.blocks():
                weight = self.weight[here]
                size = torch.where(weight[:, None] > 0, block.double().abs(), 0.0)
                largest[0] = torch.maximum(largest[0], size.amax(0))
                largest[1] = torch.maximum(largest[1], (size * weight[:, None]).amax(0))
                largest[2] = torch.maximum(largest[2], weight.max())
        return Scale.of(self.group.all_max(largest))

    @cached_property
    def _largest(self) -> Tensor:
        if self.x.dtype in (torch.bool, torch.uint8, torch.int8):
            return torch.full((self.d,), 255.0, dtype=torch.float64, device=self.device)  # the type says enough
        return largest_sizes(self.x)

    def _refuse_values_out_of_range(self) -> None:
        if self.x.dtype not in FLOATS:
            return
        largest = LARGEST if self.x.dtype == torch.float64 else torch.finfo(self.x.dtype).max
        if (self._largest <= largest).all():  # NaN fails it too
            return
        for here, block in self.blocks():
            wrong = (~(block.abs() <= largest)).nonzero()
            if len(wrong):
                row, column = wrong[0].tolist()
                value = block[row, column].item()
                where = f"at row {here.start + row}, column {column}"
                if np.isfinite(value):
                    raise ValueError(
                        f"x has {value:g} {where}; squared distances overflow above {LARGEST:g}: divide x by a constant"
                    )
                raise ValueError(
                    f"x has {value} {where}; every value must be finite, no NaN or inf: remove or fill such rows first"
                )

    def _checked_weight(self, sample_weight: Any) -> Tensor:
        weight = as_tensor(sample_weight, "sample_weight").to(self.device, torch.float64)
        if weight.shape != (self.n,):
            raise ValueError(
                f"sample_weight has shape {tuple(weight.shape)}; x has {self.n} rows, so it must be ({self.n},)"
            )
        bad = ~(weight >= 0) | weight.isinf()
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"sample_weight has {weight[row].item()} at row {row}; weights must be finite and not negative"
            )
        largest = float(weight.max())
        if largest == 0:
            raise ValueError("sample_weight is 0 everywhere; at least one point must count")
        if not 2.0**-200 <= largest <= 2.0**200:
            raise ValueError(f"the largest sample_weight is {largest:g}; divide all weights by it: only ratios matter")
        return weight


def largest_sizes(x: Tensor) -> Tensor:
    """Return the largest size of each feature of x (n, d), as (d,) float64; NaN where there is one."""
    if x.device.type == "cpu" and not compiled.missing:
        return torch.from_numpy(compiled.largest(x))
    ends = []
    for rows in torch.split(x, max(1, _CACHED_BYTES // (x.shape[1] * x.element_size()))):
        ends += [rows.amin(0), rows.amax(0)]
    return torch.stack(ends).double().abs().amax(0)


def as_tensor(value: Any, name: str) -> Tensor:
    """See a tensor, an array, a list or the path of a .npy file as a tensor, sharing memory where possible."""
    if isinstance(value, (str, PathLike)):
        value = _memory_map(Path(value), name)
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized:
            raise TypeError(f"{name} is a {value.layout} tensor; a dense one is needed: try {name}.to_dense()")
        tensor = value.detach()
    else:
        tensor = _from_numpy(_array(value, name), name)
    if tensor.is_meta:
        raise TypeError(f"{name} is a meta tensor, which has a shape and no values; give one that has")
    if tensor.device.type == "mps":
        raise TypeError(f"{name} lies on mps, which has no float64 to settle the answer in; give {name}.cpu()")
    if tensor.dtype not in FLOATS + INTEGERS:
        raise TypeError(f"{name} has dtype {tensor.dtype}; real numbers of 8 to 64 bits are needed")
    return tensor


def _memory_map(path: Path, name: str) -> Any:
    if path.suffix != ".npy":
        raise ValueError(f"{name} is the path {path}; a path must name a .npy file (others: load them first)")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ValueError(f"{name} is the path {path}, which cannot be read: {error.strerror or error}") from error


def _array(value: Any, name: str) -> np.ndarray[Any, Any]:
    if hasattr(value, "toarray"):  # scipy's sparse matrices would become an array of one object
        raise TypeError(f"{name} is a sparse {type(value).__name__}; a dense array is needed: try {name}.toarray()")
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of unequal length
        raise ValueError(f"{name} is not a table of numbers: {error}") from error
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        got = f"an array of {array.dtype}" if array.dtype != object else f"a {type(value).__name__} of mixed objects"
        raise TypeError(f"{name} is {got}; real numbers of 8 to 64 bits are needed")
    # A list of Python numbers means what Python means by them.
    return array if hasattr(value, "__array__") or array.dtype.kind == "f" else array.astype(np.float64)


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    if x.device.type != "cpu" or x.stride(1) != 1 or not len(rows):
        return x.index_select(0, rows)
    # By numpy, as bytes, on this thread: torch's others would spin for a while beside those of the kernel.
    return torch.from_numpy(x.view(torch.uint8).numpy()[rows.numpy()]).view(x.dtype)


def _from_numpy(array: np.ndarray[Any, Any], name: str) -> Tensor:
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype in (np.uint16, np.uint32, np.uint64):  # torch has few operations for these
        if array.dtype == np.uint64 and array.size and int(array.max()) >= 2**63:
            raise ValueError(f"{name} holds {array.max()}; integers must be under 2**63")
        array = array.astype({2: np.int32, 4: np.int64, 8: np.int64}[array.dtype.itemsize])
    if any(stride < 0 for stride in array.strides):  # torch knows no backward views
        array = np.ascontiguousarray(array)
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        # torch warns that a read-only array could be written to through the tensor; points are never written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)
