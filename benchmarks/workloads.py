"""The workloads: points and first centers, made from a seed and kept as .npy files that every process reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import stepfit
from stepfit.datasets import mnist
from stepfit.files import whole_file

Array = np.ndarray[Any, Any]
FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepfit-benchmarks"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is clustered, and for how long.

    Attributes
    ----------
    what : str
        The data, in words.
    points : callable
        Gives the first n points.
    n, k : int
        Points and clusters.
    steps : int
        Asked of everyone.
    probe : int
        Asked of everyone in the first round, which finds out who is too slow for the others.
    to_the_end : bool
        The run goes on until nothing changes: the whole time counts, not that of a step, and the start is k-means++.
    """

    what: str
    points: Callable[[int], Array]
    n: int
    k: int
    steps: int
    probe: int
    to_the_end: bool = False


def blobs(n: int, *, d: int, means: int, spread: float, seed: int) -> Array:
    """Draw points around means: float32, noise of deviation 1 around means of deviation `spread`."""
    random = np.random.default_rng(seed)
    middles = spread * random.standard_normal((means, d), dtype=np.float32)
    x = random.standard_normal((n, d), dtype=np.float32)
    x += middles[random.integers(means, size=n)]
    return x


def digits(n: int, *, split: str, scale: int | None) -> Array:
    """Give MNIST as uint8, or as float32 divided by `scale`."""
    pixels: Array = mnist(split)[0][:n].numpy()
    return pixels if scale is None else pixels.astype(np.float32) / np.float32(scale)


_TRAIN = partial(digits, split="train", scale=255)
WORKLOADS = {
    "w1-uint8": Workload(
        what="MNIST test as bytes", points=partial(digits, split="test", scale=None), n=10_000, k=10, steps=20, probe=5
    ),
    "w1-float32": Workload(
        what="MNIST test / 255", points=partial(digits, split="test", scale=255), n=10_000, k=10, steps=20, probe=5
    ),
    "w2": Workload(
        what="overlapping blobs around 256 means",
        points=partial(blobs, d=64, means=256, spread=0.5, seed=2),
        n=1_000_000,
        k=256,
        steps=20,
        probe=3,
    ),
    "w3": Workload(
        what="blobs around 1,000 means",
        points=partial(blobs, d=128, means=1000, spread=0.3, seed=3),
        n=100_000,
        k=1024,
        steps=25,
        probe=5,
    ),
    "w4": Workload(
        what="blobs in the plane",
        points=partial(blobs, d=2, means=8, spread=3.0, seed=4),
        n=5_000_000,
        k=8,
        steps=20,
        probe=5,
    ),
    "w6-k10": Workload(
        what="MNIST train / 255", points=_TRAIN, n=60_000, k=10, steps=1000, probe=20, to_the_end=True
    ),
    "w6-k100": Workload(
        what="MNIST train / 255", points=_TRAIN, n=60_000, k=100, steps=1000, probe=20, to_the_end=True
    ),
}  # fmt: skip


def files(name: str, n: int, folder: Path) -> tuple[Path, Path]:
    """Name the files of the first n points of a workload and of its start, and write them where they are missing."""
    workload = WORKLOADS[name]
    x_file, start_file = folder / f"{name}-{n}.npy", folder / f"{name}-{n}-start.npy"
    if not (x_file.exists() and start_file.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        x = workload.points(n)
        if workload.to_the_end:
            start = next(stepfit.lloyd(x, workload.k, seed=0, max_steps=1)).centers.numpy()
        else:
            start = x[drawn_rows(n, workload.k)].astype(np.float32)
        for file, array in ((x_file, x), (start_file, start)):
            with whole_file(file) as path:
                np.save(path, array)
    return x_file, start_file


def drawn_rows(n: int, k: int, seed: int = 1234) -> list[int]:
    """Draw k of n rows just as faiss's SuperKMeans does with its default seed.

    It takes no start from outside. This way everyone else has its start.
    """
    words = np.random.RandomState(seed + 1).randint(0, 2**32, size=k, dtype=np.uint32).tolist()
    moved: dict[int, int] = {}  # the permutation, where it is not the identity
    rows = []
    for i, word in enumerate(words):
        j = i + word % (n - i)
        rows.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return rows
