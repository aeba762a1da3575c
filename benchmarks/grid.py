"""The grid: python -m benchmarks.grid looks for sizes at which stepfit is slower than scikit-learn."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import results
from benchmarks.peers import PEERS, ROOT

N = (1_000, 100_000)
D = (1, 2, 3, 8, 31, 64, 100, 784)
K = (2, 7, 16, 33, 256)
RIVALS = ("stepfit", "scikit-learn-lloyd")
STEPS = 10
ENOUGH = 0.9


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one round of small n, d and k, to see that it works")
    parser.add_argument(
        "--results", type=results.marked, help=f"default {results.RESULTS.name}; nothing is written if --quick"
    )
    given = parser.parse_args(arguments)
    block = report(N[:1], D[:3], K[:3], rounds=1) if given.quick else report(N, D, K, given.rounds)
    block = f"{block}\n\n{results.provenance('benchmarks.grid')}"
    print(block)
    file = given.results or (None if given.quick else results.RESULTS)
    if file:
        results.write(file, {"machine": results.machine(), "grid": block})


def report(ns: Sequence[int], ds: Sequence[int], ks: Sequence[int], rounds: int) -> str:
    """Measure every size and describe the ratios."""
    parts, slow, unequal = [], [], []
    for n in ns:
        runs = []
        for i in range(rounds):
            print(f"grid n = {n:,}, round {i + 1}", file=sys.stderr, flush=True)
            runs.append([timed(rival, n, ds, ks) for rival in RIVALS])
        # (round, rival, d, k, [seconds a step, steps])
        figures = np.array(runs)
        ratios = np.median(figures[:, 1, :, :, 0] / figures[:, 0, :, :, 0], axis=0)
        lines = [[f"d = {d}", *(f"{ratio:.2f}" for ratio in line)] for d, line in zip(ds, ratios)]
        parts.append(results.table([f"n = {n:,}", *(f"k = {k}" for k in ks)], lines))
        for i, d in enumerate(ds):
            for j, k in enumerate(ks):
                size = f"n = {n:,}, d = {d}, k = {k}"
                if ratios[i, j] < ENOUGH:
                    slow.append(f"{size}: {ratios[i, j]:.2f}")
                if len({*figures[:, :, i, j, 1].flat}) > 1:
                    unequal.append(f"{size}: {figures[0, 0, i, j, 1]:.0f} and {figures[0, 1, i, j, 1]:.0f}")
    about = (
        f"Time of scikit-learn's Lloyd divided by that of stepfit, per step, end to end; {STEPS} steps asked from the "
        f"same start, medians of {rounds} rounds."
    )
    under = f"Under {ENOUGH}: {'; '.join(slow) or 'none'}."
    steps = f"Different numbers of steps made (stepfit's first): {'; '.join(unequal) or 'none'}."
    return "\n\n".join([about, *parts, under, steps])


def timed(rival: str, n: int, ds: Sequence[int], ks: Sequence[int]) -> Any:
    """Have a process of its own go over all d and k: [seconds a step, steps made] for each."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cells", rival, str(n), json.dumps(ds), json.dumps(ks), str(STEPS)],
        cwd=ROOT,
        env=PEERS[rival].environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
