"""INPUT: a name or a file becomes points, and everything that is wrong with it one sentence."""

from __future__ import annotations

import csv
import difflib
import math
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from torch import Tensor

from stepfit import datasets
from stepfit.datasets import Split

Array = np.ndarray[Any, Any]


class Points(NamedTuple):
    """The points (n, d) of an INPUT; for MNIST also the digit (n,) that each image shows.

    Bytes are clustered as they are, which is faster. What comes out is divided by `unit`, so that ink is 1.
    """

    x: Array | Tensor
    digits: Tensor | None = None
    unit: float = 1.0


def read_points(name: str) -> Points:
    """Read an INPUT of `kmeans` and `assign`."""
    if name in _POINTS:
        return _POINTS[name]()
    path, key = _path_and_key(name)
    _refuse_unless_file(path, name, [*_POINTS], (".npy", ".npz", ".csv", ".parquet"))
    if path.suffix.lower() == ".npz":
        return Points(_npz(path, key))
    return Points({".npy": read_npy, ".csv": _csv, ".parquet": _parquet}[path.suffix.lower()](path))


def read_split(name: str) -> Split:
    """Read an INPUT of `regress`: points of two classes, to train on and to test on."""
    if name in _SPLITS:
        return _SPLITS[name]()
    _refuse_unless_file(Path(name), name, [*_SPLITS], (".npz",))
    return datasets.load_split(name)


def read_npy(path: Path) -> Array:
    """Map a .npy file into memory, so that points larger than memory are read block by block."""
    try:
        # Not numpy.load: it opens by content, and leaves a file open that is none of its kinds.
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError:
        raise ValueError(f"{path} is not a whole .npy file of numbers; write it by numpy.save") from None


def _mnist(split: str) -> Points:
    images, digits = datasets.mnist(split)
    return Points(images, digits, unit=255.0)


def _both_parts(make: Callable[[], Split]) -> Points:
    split = make()
    return Points(torch.cat([split.x_train, split.x_test]))


_SPLITS: dict[str, Callable[[], Split]] = {
    "toy": datasets.toy_data,
    "two-moons": datasets.two_moons,
    "two-circles": datasets.two_circles,
}
_POINTS: dict[str, Callable[[], Points]] = {
    "mnist": lambda: _mnist("test"),
    "mnist-train": lambda: _mnist("train"),
    "blobs": lambda: Points(datasets.blobs()[0]),
    "toy": lambda: _both_parts(datasets.toy_data),
    "two-moons": lambda: _both_parts(datasets.two_moons),
    "two-circles": lambda: _both_parts(datasets.two_circles),
}


def _path_and_key(name: str) -> tuple[Path, str | None]:
    path, mark, key = name.rpartition(".npz:")
    return (Path(f"{path}.npz"), key) if mark else (Path(name), None)


def _refuse_unless_file(path: Path, name: str, names: list[str], suffixes: tuple[str, ...]) -> None:
    wanted = f"INPUT must be a file ({', '.join(suffixes)}) or one of {', '.join(names)}"
    if path.is_dir():
        raise ValueError(f"{path} is a folder; {wanted}")
    if path.exists() and path.suffix.lower() not in suffixes:
        raise ValueError(f"{path} is a file of another kind; {wanted}")
    if not path.exists():
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{path} is neither a file that is there nor a name that is known; {wanted}{hint}")


def _npz(path: Path, key: str | None) -> Array:
    with datasets.open_npz(path) as arrays:
        names = list(arrays)
        if key is None and len(names) == 1:
            key = names[0]
        chosen = arrays[key] if key in names else None
    if chosen is None:
        came = f"has no array {key!r}" if key else "holds more than one array" if names else "holds no array"
        choices = f"; choose by {path}:NAME, where NAME is one of {', '.join(names)}" if names else ""
        raise ValueError(f"{path} {came}{choices}")
    return chosen


def _csv(path: Path) -> Array:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(",;\t", key=first.count)
            # A first line without a single number is a header; one with some is data, perhaps with something wrong.
            header = not any(_is_number(cell) for cell in next(csv.reader([first], delimiter=delimiter), []))
            if not header:
                file.seek(0)
            table = _numbers(file, delimiter)
            if table is None:
                file.seek(0)
                raise ValueError(f"{path} {_first_fault(csv.reader(file, delimiter=delimiter), header)}")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{path} is not text; save it as CSV in UTF-8") from None
    return table


def _numbers(file: TextIO, delimiter: str) -> Array | None:
    """Read the quick way, in C; None when a cell is no finite number or there are none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="loadtxt: input contained no data")
        try:
            table = np.loadtxt(file, delimiter=delimiter, quotechar='"', comments=None, ndmin=2)
        except UnicodeDecodeError:
            raise
        except ValueError:
            return None
    return table if table.size and np.isfinite(table).all() else None


def _first_fault(rows: Iterator[list[str]], header: bool) -> str:
    """Say where the first cell is that is no number, counting rows and columns from 1 as a spreadsheet does."""
    names = next(rows, []) if header else []
    width = len(names)
    for number, row in enumerate(rows, start=2 if header else 1):
        width = width or len(row)
        if row and len(row) != width:
            return f"has {len(row)} cells in row {number} and {width} before it; every row needs the same"
        for column, cell in enumerate(row):
            if not _is_number(cell):
                came = repr(cell) if cell.strip() else "nothing"
                called = f" ({names[column]})" if names else ""
                return (
                    f"has {came} in row {number}, column {column + 1}{called}; every cell must be a finite number: "
                    "remove the column or the row, or fill it"
                )
    return "has no row of numbers"


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _parquet(path: Path) -> Array:
    try:
        pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise ValueError(f"reading {path} needs pyarrow: pip install 'stepfit[parquet]'") from None
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} is not a .parquet file ({error})") from error
    columns = []
    for name, column in zip(table.column_names, table.columns):
        if not (pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type)):
            raise ValueError(f"{path} has {column.type} in column {name}; every column must be numbers: remove it")
        if column.null_count:
            raise ValueError(f"{path} lacks {column.null_count} of {len(column)} values in column {name}; fill them")
        columns.append(column.to_numpy())
    if not columns:
        raise ValueError(f"{path} has no column")
    return np.column_stack(columns)
