"""One process of the grid: python -m benchmarks.cells PEER N DS KS STEPS times a peer at every size of n points."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from time import perf_counter

from benchmarks.peers import PEERS
from benchmarks.workloads import blobs

_REPEATS, _SECONDS = 20, 0.05  # a fit is repeated until one of them is reached, but at least twice; the fastest counts


def cells(peer: str, n: int, ds: Sequence[int], ks: Sequence[int], steps: int) -> list[list[tuple[float, int]]]:
    """Give (seconds per step, steps made) for every d and k."""
    warnings.simplefilter("ignore")  # of scikit-learn, that not everything has converged
    fit = PEERS[peer].fit
    answer = []
    for d in ds:
        x = blobs(n, d=d, means=16, spread=1.0, seed=d)
        line = []
        for k in ks:
            spent: list[float] = []
            while len(spent) < 2 or (len(spent) < _REPEATS and sum(spent) < _SECONDS):
                start = x[:k].copy()
                began = perf_counter()
                done = fit(x, start, steps)
                spent.append(perf_counter() - began)
            line.append((min(spent) / done.updates, done.updates))
        answer.append(line)
    return answer


if __name__ == "__main__":
    _, peer, n, ds, ks, steps = sys.argv
    print(json.dumps(cells(peer, int(n), json.loads(ds), json.loads(ks), int(steps))))
