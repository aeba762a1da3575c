"""The peers: each is a function of points, first centers and a number of steps, loaded only when it is called."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).parents[1]  # where `python -m benchmarks` works

# Settings that would make a library use fewer threads or older kernels than it chooses by itself.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY",
          "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a peer answers: its centers after so many updates, and where it tells, the seconds of its late steps."""

    centers: Array
    updates: int
    late: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A way to run k-means, and when it can be run.

    Attributes
    ----------
    fit : callable
        (x, start, steps) -> Fit.
    module : str
        What it needs, by the name that is imported.
    settings : Mapping
        Variables of the environment of its process.
    own_start : bool
        Takes no start, but draws the rows that workloads.drawn_rows gives to everyone.
    """

    fit: Callable[[Array, Array, int], Fit]
    module: str
    settings: Mapping[str, str] = field(default_factory=dict)
    own_start: bool = False

    @property
    def installed(self) -> bool:
        """Whether what it needs is there."""
        return importlib.util.find_spec(self.module) is not None

    def environment(self) -> dict[str, str]:
        """Give the variables of its process."""
        return {name: value for name, value in os.environ.items() if name not in _UNSET} | {**self.settings}


def stepfit(x: Array, start: Array, steps: int, kernel: str | None = None) -> Fit:
    """Ours: the steps are passed through and the last one is kept."""
    import stepfit

    seconds = []
    for step in stepfit.lloyd(x, len(start), start=start, max_steps=steps, tol=0.0, kernel=kernel):
        seconds.append(step.seconds)
    return Fit(
        centers=step.next_centers.numpy(), updates=len(seconds), late=median(seconds[len(seconds) // 2 :])
    )  # fmt: skip


def stepfit_chunked(x: Array, start: Array, steps: int) -> Fit:
    """Ours without a compiler."""
    return stepfit(x, start, steps, kernel="chunked")


def scikit_learn_lloyd(x: Array, start: Array, steps: int) -> Fit:
    """Fit scikit-learn's KMeans as it is by default."""
    from sklearn.cluster import KMeans

    return _scikit_learn(KMeans, x, start, steps, "lloyd")


def scikit_learn_elkan(x: Array, start: Array, steps: int) -> Fit:
    """Fit scikit-learn's KMeans with the bounds of the triangle inequality."""
    from sklearn.cluster import KMeans

    return _scikit_learn(KMeans, x, start, steps, "elkan")


def scikit_learn_intelex(x: Array, start: Array, steps: int) -> Fit:
    """Fit Intel's KMeans, imported by its own name: scikit-learn is not patched."""
    from sklearnex.cluster import KMeans

    return _scikit_learn(KMeans, x, start, steps, "lloyd")


def _scikit_learn(KMeans: Any, x: Array, start: Array, steps: int, algorithm: str) -> Fit:
    model = KMeans(len(start), init=start, n_init=1, max_iter=steps, tol=0.0, algorithm=algorithm).fit(x)
    return Fit(centers=model.cluster_centers_, updates=model.n_iter_)


def faiss(x: Array, start: Array, steps: int) -> Fit:
    """Fit faiss's Kmeans on all points: by default it would draw 256 a cluster."""
    from faiss import Kmeans

    model = Kmeans(x.shape[1], len(start), niter=steps, min_points_per_centroid=1, max_points_per_centroid=2**31 - 1)
    model.train(x, init_centroids=start)
    return Fit(centers=model.centroids, updates=len(model.iteration_stats))


def faiss_super(x: Array, start: Array, steps: int) -> Fit:
    """Fit faiss's SuperKmeans, which takes its start by itself."""
    from faiss import SuperKmeans

    model = SuperKmeans(
        x.shape[1], len(start), niter=steps, min_points_per_centroid=1, max_points_per_centroid=2**31 - 1
    )
    model.train(x)
    return Fit(centers=model.centroids, updates=len(model.iteration_stats))


def plain_torch(x: Array, start: Array, steps: int) -> Fit:
    """What a lesson writes: cdist, argmin and one-hot rows, in as few pieces as the memory allows."""
    import torch

    points, centers, k = torch.from_numpy(x), torch.from_numpy(start), len(start)
    labels, updates = torch.full((len(points),), -1), 0
    for _ in range(steps):
        before, pieces = labels, []
        sums, counts = torch.zeros_like(centers), torch.zeros(k, 1)
        for piece in torch.split(points, 2**28 // k):  # 1 GiB of distances
            nearest = torch.cdist(piece, centers).argmin(1)
            one_hot = torch.nn.functional.one_hot(nearest, k).float()
            sums += one_hot.T @ piece
            counts += one_hot.sum(0)[:, None]
            pieces.append(nearest)
        centers = torch.where(counts > 0, sums / counts, centers)
        labels, updates = torch.cat(pieces), updates + 1
        if labels.equal(before):
            break
    return Fit(centers=centers.numpy(), updates=updates)


def fast_pytorch_kmeans(x: Array, start: Array, steps: int) -> Fit:
    """Fit the KMeans of fast-pytorch-kmeans, and count its steps, which it does not tell."""
    import torch
    from fast_pytorch_kmeans import KMeans

    class Counting(KMeans):  # type: ignore[misc]
        updates = 0

        def max_sim(self, a: Any, b: Any) -> Any:
            self.updates += 1
            return super().max_sim(a=a, b=b)

    model = Counting(len(start), max_iter=steps, tol=0.0)
    model.fit(torch.from_numpy(x), torch.from_numpy(start))
    return Fit(centers=model.centroids.numpy(), updates=model.updates)


def torch_kmeans(x: Array, start: Array, steps: int) -> Fit:
    """Fit the KMeans of torch-kmeans; with tol=0 it makes all steps, whatever happens."""
    import torch
    from torch_kmeans import KMeans

    model = KMeans(num_init=1, max_iter=steps, tol=0.0, n_clusters=len(start), verbose=False)
    answer = model(torch.from_numpy(x)[None], centers=torch.from_numpy(start)[None])
    return Fit(centers=answer.centers[0].numpy(), updates=steps)


PEERS = {
    "stepfit": Peer(fit=stepfit, module="stepfit"),
    "stepfit-chunked": Peer(fit=stepfit_chunked, module="stepfit"),
    "scikit-learn-lloyd": Peer(fit=scikit_learn_lloyd, module="sklearn"),
    "scikit-learn-elkan": Peer(fit=scikit_learn_elkan, module="sklearn"),
    "scikit-learn-intelex": Peer(fit=scikit_learn_intelex, module="sklearnex"),
    "faiss": Peer(fit=faiss, module="faiss"),
    "faiss-super": Peer(fit=faiss_super, module="faiss", own_start=True),
    "plain-torch": Peer(fit=plain_torch, module="torch"),
    "fast-pytorch-kmeans": Peer(fit=fast_pytorch_kmeans, module="fast_pytorch_kmeans"),
    "torch-kmeans": Peer(fit=torch_kmeans, module="torch_kmeans"),
}

# The OpenBLAS inside faiss does not know new CPUs and may choose old kernels: there both choices are measured.
if Path("/proc/cpuinfo").exists() and "avx512f" in Path("/proc/cpuinfo").read_text():
    _skylake = {"OPENBLAS_CORETYPE": "SkylakeX"}
    PEERS["faiss-skylakex"] = Peer(fit=faiss, module="faiss", settings=_skylake)
    PEERS["faiss-super-skylakex"] = Peer(fit=faiss_super, module="faiss", settings=_skylake, own_start=True)

OURS = ("stepfit", "stepfit-chunked")
