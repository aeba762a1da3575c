"""One measurement, the whole work of a process: python -m benchmarks.measure PEER X START STEPS OUT."""

from __future__ import annotations

import resource
import sys
from time import perf_counter

import numpy as np

from benchmarks.peers import OURS, PEERS

MEMORY = 16 * 2**30  # of addresses, for whoever would ask for more than the machine has


def measure(peer: str, x_file: str, start_file: str, steps: int, out: str) -> None:
    """Time one fit from first to last call and write the seconds, the updates made and the centers.

    The points lie in memory before the clock starts, for peers as float32, which they would have to make of bytes.
    A small fit has loaded the libraries and woken their threads by then.
    """
    x, start = np.load(x_file), np.load(start_file)
    if peer not in OURS:
        x = x.astype(np.float32, copy=False)
    fit = PEERS[peer].fit
    fit(x[: max(1000, 2 * len(start))].copy(), start.copy(), 2)
    began = perf_counter()
    done = fit(x, start.copy(), steps)
    seconds = perf_counter() - began
    np.savez(out, seconds=seconds, updates=done.updates, late=done.late, centers=done.centers)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _, peer, x_file, start_file, steps, out = sys.argv
    measure(peer, x_file, start_file, int(steps), out)
