"""First centers: python -m benchmarks.starts times k-means++ of w3 beside scikit-learn's, and beside a step."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from time import perf_counter

import numpy as np

import stepfit
from benchmarks import results
from benchmarks.peers import PEERS, ROOT
from benchmarks.workloads import WORKLOADS, Array

ROUNDS, REPEATS, STEPS = 5, 3, 6


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write RESULTS.md; or time the starts of one peer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starts", description=__doc__)
    parser.add_argument("one", nargs="*", metavar="PEER N K SEED", help="only this one; nothing is written")
    parser.add_argument(
        "--results", type=results.marked, default=results.RESULTS, help=f"default {results.RESULTS.name}"
    )
    given = parser.parse_args(arguments)
    if given.one:
        if len(given.one) != 4 or given.one[0] not in STARTS or not "".join(given.one[1:]).isdigit():
            parser.error(f"give one of {', '.join(STARTS)}, then three whole numbers: points, centers and a seed")
        peer, n, k, seed = given.one
        print(json.dumps(STARTS[peer](WORKLOADS["w3"].points(int(n)), int(k), int(seed))))
        return
    # With its own machine: it may be measured without the other tables, which share one.
    table = report(WORKLOADS["w3"].n, WORKLOADS["w3"].k, ROUNDS)
    block = f"{table}\n\n{results.provenance('benchmarks.starts')}; on\n\n{results.machine()}"
    print(block)
    results.write(given.results, {"starts": block})


def ours(x: Array, k: int, seed: int) -> list[tuple[str, float, float]]:
    """Give what, seconds and inertia of each start, and the seconds of a step: medians behind a run that warms up."""
    starts: dict[str, list[tuple[float, float]]] = {"random": [], "k-means++": []}
    steps = []
    for i in range(1 + REPEATS):
        for start, found in starts.items():
            began = perf_counter()
            run = stepfit.lloyd(x, k, start=start, seed=REPEATS * seed + i, max_steps=STEPS)
            seconds = perf_counter() - began
            steps = list(run)
            found.append((seconds, steps[0].loss))
    lines = [(f"stepfit, {start}", *np.median(found[1:], axis=0).tolist()) for start, found in starts.items()]
    return [*lines, ("stepfit, a step", statistics.median(step.seconds for step in steps), steps[-1].loss)]


def theirs(x: Array, k: int, seed: int) -> list[tuple[str, float, float]]:
    """The same of scikit-learn's k-means++, which has no cheaper start of its own."""
    from sklearn.cluster import kmeans_plusplus

    kmeans_plusplus(x, 2, random_state=seed)
    began = perf_counter()
    centers, _ = kmeans_plusplus(x, k, random_state=seed)
    seconds = perf_counter() - began
    return [("scikit-learn, k-means++", seconds, next(stepfit.lloyd(x, k, start=centers)).loss)]


STARTS = {"stepfit": ours, "scikit-learn-lloyd": theirs}


def report(n: int, k: int, rounds: int) -> str:
    """Measure every start, each in a process of its own, and lay out medians."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(rounds):
        for peer in STARTS:
            print(f"starts, round {seed + 1}, {peer}", file=sys.stderr, flush=True)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.starts", peer, str(n), str(k), str(seed)],
                cwd=ROOT,
                env=PEERS[peer].environment(),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            for name, *figures in json.loads(done.stdout):
                found.setdefault(name, []).append(tuple(figures))
    step = np.array(found.pop("stepfit, a step"))[:, 0]
    lines = []
    for name, measured in found.items():
        seconds, inertia = np.array(measured).T
        in_steps = float(np.median(seconds / step))
        lines.append([name, f"{np.median(seconds):.3f}", f"{in_steps:.2f}", f"{np.median(inertia):.5g}"])
    about = (
        f"The first {k:,} centers of the {n:,} points of w3, from the call to the answer; medians of {rounds} rounds. "
        f"Inertia is that of the start; a step of stepfit took {1e3 * np.median(step):.1f} ms."
    )
    return f"{about}\n\n{results.table(['start', 's', 'in steps', 'inertia'], lines)}"


if __name__ == "__main__":
    main()
