"""The driver: python -m benchmarks.run measures every workload, each peer in processes of its own, in turns."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks import results, stream
from benchmarks.peers import OURS, PEERS, ROOT, Array
from benchmarks.workloads import FOLDER, WORKLOADS, Workload, files

SECONDS, SECONDS_FIRST = 60, 20  # that a process may take, and in the first round
PATIENCE = 75  # seconds of a workload after which a third round does not begin
TOO_SLOW = 2.5  # times the best peer: who takes longer in the first round is not measured again
AGREEMENT = 1e-3  # relative, of inertias after the same number of steps
QUICK_ROWS, QUICK_STEPS = 2000, 3


@dataclass(frozen=True)
class Measured:
    """One fit: seconds from end to end, updates of the centers, seconds of a late step, inertia of the answer."""

    seconds: float
    updates: int
    late: float
    inertia: float

    @property
    def a_step(self) -> float:
        """Seconds per step, what comes before the first step included."""
        return self.seconds / self.updates


@dataclass
class Row:
    """What is known of a peer on a workload: a measurement a round, or why there is none."""

    name: str
    first: Measured | None = None
    rounds: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    out: bool = False

    @property
    def known(self) -> list[Measured]:
        """The rounds, or where there were none, the first."""
        return self.rounds or ([self.first] if self.first else [])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="WORKLOAD", help="w1 to w6, or one in full: w6-k10; default all")
    parser.add_argument(
        "--rounds", type=int, default=3, help="after the first, which is short; default 3, or 2 where they take long"
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="default all")
    parser.add_argument("--quick", action="store_true", help="tiny data, one short round, to see that it works")
    parser.add_argument("--data", type=Path, default=FOLDER, help=f"where the data is kept; default {FOLDER}")
    parser.add_argument("--w5-rows", type=int, default=stream.ROWS, help=f"default {stream.ROWS:,}: 6.4 GB")
    parser.add_argument(
        "--results", type=results.marked, help=f"default {results.RESULTS.name}; nothing is written if --quick"
    )
    given = parser.parse_args(arguments)
    chosen = [name for name in [*WORKLOADS, "w5"] if not given.names or {name, name.split("-")[0]} & {*given.names}]
    unknown = {*given.names} - {*WORKLOADS, "w5"} - {name.split("-")[0] for name in WORKLOADS}
    if unknown:
        parser.error(f"there is no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)} and w5")
    if "stepfit" not in given.peers:
        given.peers.insert(0, "stepfit")  # what the others are compared with
    file = given.results or (None if given.quick else results.RESULTS)
    for name in chosen:
        if name == "w5":
            block = stream.report(given.data, QUICK_ROWS if given.quick else given.w5_rows)
        else:
            block = report(name, given.peers, given.rounds, given.data, given.quick)
        block = f"{block}\n\n{results.provenance('benchmarks.run')}"
        print(f"\n## {name}\n\n{block}", flush=True)
        if file:
            results.write(file, {"machine": results.machine(), name: block})


def report(name: str, peers: Sequence[str], rounds: int, folder: Path, quick: bool) -> str:
    """Measure one workload and describe what came out."""
    workload = WORKLOADS[name]
    n = min(workload.n, QUICK_ROWS) if quick else workload.n
    try:
        x_file, start_file = files(name, n, folder)
    except FileNotFoundError as error:
        return f"Not measured: {error}"
    judge = Judge(np.load(x_file))
    rows = [Row(peer) for peer in peers if PEERS[peer].installed]
    for row in rows:
        if PEERS[row.name].own_start and workload.to_the_end:
            row.out = True
            row.notes.append("takes no start")

    def turn(row: Row, steps: int, seconds: int) -> Measured | None:
        print(f"{name} {row.name} {steps}", end=" ", file=sys.stderr, flush=True)
        answer = measured(row.name, x_file, start_file, steps, seconds, judge)
        said = answer if isinstance(answer, str) else f"{1e3 * answer.a_step:.2f} ms a step, {answer.updates} steps"
        print(said, file=sys.stderr, flush=True)
        if isinstance(answer, str):
            row.out = True
            row.notes.append(answer)
            return None
        return answer

    began = perf_counter()
    for row in rows:
        if not row.out:
            row.first = turn(row, QUICK_STEPS if quick else workload.probe, SECONDS if quick else SECONDS_FIRST)
    weed_out(rows)
    for i in range(0 if quick else rounds):
        if i >= 2 and perf_counter() - began > PATIENCE:
            break
        for row in rows:
            if not row.out and (answer := turn(row, workload.steps, SECONDS)):
                row.rounds.append(answer)
        check_agreement(rows)
    return described(workload, n, judge.x.shape[1], rows)


class Judge:
    """Computes inertias in float64, the same way for everyone, and each answer's only once."""

    def __init__(self, x: Array) -> None:
        self.x = x
        self._known: dict[bytes, float] = {}

    def inertia(self, centers: Array) -> float:
        """Sum of squared distances of all points to their nearest centers."""
        key = centers.tobytes()
        if key not in self._known:
            self._known[key] = inertia(self.x, centers)
        return self._known[key]


def inertia(x: Array, centers: Array) -> float:
    """Sum of squared distances of all points to their nearest centers, in float64."""
    centers = centers.astype(np.float64)
    half = np.square(centers).sum(1) / 2
    total = 0.0
    rows = max(1, 2**22 // max(centers.shape))
    for first in range(0, len(x), rows):
        block = x[first : first + rows].astype(np.float64)
        nearest = (block @ centers.T - half).argmax(1)
        total += float(np.square(block - centers[nearest]).sum())
    return total


def measured(peer: str, x_file: Path, start_file: Path, steps: int, seconds: int, judge: Judge) -> Measured | str:
    """Run one fit in a process of its own; where there is no answer, say why."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.npz"
        command = [sys.executable, "-m", "benchmarks.measure", peer, str(x_file), str(start_file), str(steps), str(out)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=PEERS[peer].environment(),
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return f"over {seconds} s for {steps} steps"
        if done.returncode:
            return failure(done.returncode, done.stderr)
        with np.load(out) as answer:
            return Measured(
                seconds=float(answer["seconds"]),
                updates=int(answer["updates"]),
                late=float(answer["late"]),
                inertia=judge.inertia(answer["centers"]),
            )


def failure(code: int, stderr: str) -> str:
    """Say in a few words why a process had no answer."""
    if wanted := re.search(r"allocate (\d+) bytes", stderr):
        return f"asks for {int(wanted[1]) / 1e9:.0f} GB"
    if code < 0:
        return f"ended by signal {-code}"
    last = (stderr.strip().splitlines() or [f"exit code {code}"])[-1]
    return last.split("failed: ")[-1].replace("|", "/")[:100]  # faiss first tells its own line and condition


def weed_out(rows: Sequence[Row]) -> None:
    """Take out of the rounds who disagrees, or is too slow to become the best peer."""
    check_agreement(rows)
    fair = [row.first.a_step for row in rows if row.name not in OURS and not row.out and row.first]
    for row in rows:
        if fair and row.name != "stepfit" and row.first and not row.out and row.first.a_step > TOO_SLOW * min(fair):
            row.out = True
            row.notes.append(f"first round only: over {TOO_SLOW:g} x the best peer")


def check_agreement(rows: Sequence[Row]) -> None:
    """Take out whose last inertia is not that of stepfit after the same number of steps asked."""
    ours = next(row for row in rows if row.name == "stepfit").known
    for row in rows:
        if ours and not row.out and row.known:
            theirs, right = row.known[-1].inertia, ours[-1].inertia
            if not abs(theirs - right) <= AGREEMENT * right:
                row.out = True
                row.notes.append(f"disagrees: its inertia is {theirs / right:.4f} of stepfit's")


def described(workload: Workload, n: int, d: int, rows: Sequence[Row]) -> str:
    """Put a workload into words and a table."""
    lines = []
    for row in rows:
        known = row.known
        late = [1e3 * one.late for one in known if one.late == one.late]  # NaN: not told
        lines.append(
            [
                row.name,
                f"{1e3 * min(one.a_step for one in known):.3g}" if known else "",
                f"{1e3 * median(one.a_step for one in known):.3g}" if known else "",
                f"{median(late):.3g}" if late else "",
                f"{median(one.seconds for one in known):.3g}" if known else "",
                str(known[-1].updates) if known else "",
                f"{known[-1].inertia:.6g}" if known else "",
                "; ".join(row.notes),
            ]
        )
    asked = "until nothing changes" if workload.to_the_end else f"{workload.steps} steps"
    head = ["", "ms a step, least", "median", "of late steps", "s in all", "steps", "inertia", "note"]
    about = f"{workload.what}, {n:,} x {d}, k = {workload.k}, {asked}."
    return f"{about}\n\n{results.table(head, lines)}\n\n{compared(workload, rows)}"


def compared(workload: Workload, rows: Sequence[Row]) -> str:
    """Say how far stepfit is ahead of the best peer of each round."""
    ours = next(row for row in rows if row.name == "stepfit")
    rivals = [row for row in rows if row.name not in OURS and row.rounds and not row.out]
    if not rivals or not ours.rounds:
        return "No ratio: the rounds were not run, or no peer was left for them."

    def cost(one: Measured) -> float:
        return one.seconds if workload.to_the_end else one.a_step

    best = [min(rivals, key=lambda row: cost(row.rounds[i])) for i in range(len(ours.rounds))]
    ratios = [cost(peer.rounds[i]) / cost(one) for i, (peer, one) in enumerate(zip(best, ours.rounds))]
    names = ", ".join(dict.fromkeys(peer.name for peer in best))
    ahead = f"**stepfit is {median(ratios):.2f} x as fast as the best peer**"
    return f"{ahead} ({names}; median of {len(ratios)} rounds, least {min(ratios):.2f} x)."


if __name__ == "__main__":
    main()
