"""w5, a file larger than peers can copy: what a step over a cold file needs in memory, and how fast it reads."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

import stepfit
from benchmarks.peers import PEERS, ROOT
from stepfit.files import whole_file

ROWS, D, K, STEPS = 100_000_000, 16, 64, 5
SECONDS = 400  # that the process may take
_CHUNK = 1_000_000  # rows written at a time
_BLOCK = 2**24  # bytes read at a time


def report(folder: Path, rows: int) -> str:
    """Make the file where there is room for it, measure in a process of its own and describe what came out."""
    if not hasattr(os, "posix_fadvise") or not Path("/proc/self/io").exists():
        return "Not measured: needs Linux, to empty the page cache and to tell memory apart."
    file = folder / f"w5-{rows}.npy"
    size = rows * D * 4
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        free = shutil.disk_usage(folder).free
        if free < 1.2 * size:
            return (
                f"Not measured: {folder} has {free / 1e9:.1f} GB free; {1.2 * size / 1e9:.1f} are needed (--w5-rows)."
            )
        write(file, rows)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.stream", str(file)],
            cwd=ROOT,
            env=PEERS["stepfit"].environment(),
            stdout=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.SubprocessError as error:
        return f"Not measured: {error}"
    return described(json.loads(done.stdout), rows, size)


def described(answer: dict[str, Any], rows: int, size: int) -> str:
    """Put what was measured into words."""
    reads, steps = ([size / 1e9 / seconds for seconds in answer[name]] for name in ("reads", "steps"))
    ratio = median(steps) / median(reads)
    return "\n".join(
        [
            f"A mapped file of {rows:,} x {D} float32, {size / 1e9:.2f} GB, k = {K}, {STEPS} steps; the file is put "
            "out of the page cache before each step and each read.",
            "",
            f"- cold reads, two threads: {', '.join(f'{one:.2f}' for one in reads)} GB/s",
            f"- steps over the cold file: {', '.join(f'{one:.2f}' for one in steps)} GB/s; "
            f"{answer['cold']:.0%} of it came from the disk",
            f"- **a step runs at {ratio:.0%} of the speed of a cold read** (medians)",
            f"- the call and the first step, which read the file more than once: {answer['first']:.1f} s",
            f"- **anonymous memory grew by {answer['grown'] / 1e6:.0f} MB** beyond two arrays of labels "
            f"({2 * 4 * rows / 1e6:.0f} MB)",
        ]
    )


def write(file: Path, rows: int) -> None:
    """Write blobs around K means, chunk by chunk, each from a seed of its own."""
    middles = 2 * np.random.default_rng(5).standard_normal((K, D), dtype=np.float32)
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, D)}
    with whole_file(file) as path, path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for first in range(0, rows, _CHUNK):
            random = np.random.default_rng([5, first])
            x = random.standard_normal((min(_CHUNK, rows - first), D), dtype=np.float32)
            x += middles[random.integers(K, size=len(x))]
            x.tofile(out)
        out.flush()
        os.fsync(out.fileno())  # what is not on the disk yet cannot leave the page cache


def measure(file: Path) -> dict[str, Any]:
    """Run k-means over the file, cold before each step, with a cold read of the file between steps."""
    x = np.load(file, mmap_mode="r")
    start = np.array(x[:: max(1, len(x) // K)][:K])
    for _ in stepfit.lloyd(np.array(x[:1000]), K, start=start, max_steps=2):
        pass  # loads the libraries and wakes their threads
    reads, steps, cold = [], [], []
    evict(file, x)
    before = anonymous()
    with peak_of_anonymous() as peak:
        began, on_disk = perf_counter(), bytes_from_disk()
        for step in stepfit.lloyd(x, K, start=start, max_steps=STEPS, tol=0.0):
            steps.append(perf_counter() - began)
            cold.append((bytes_from_disk() - on_disk) / x.nbytes)
            if step.index % 2 == 0:
                evict(file, x)
                reads.append(seconds_to_read(file))
            evict(file, x)
            began, on_disk = perf_counter(), bytes_from_disk()
    grown = peak[0] - before - 2 * 4 * len(x)
    return {"reads": reads, "first": steps[0], "steps": steps[1:], "cold": min(cold[1:]), "grown": grown}


def evict(file: Path, x: np.memmap[Any, Any]) -> None:
    """Put a file out of the page cache, first out of the map: pages in use would stay."""
    x._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
    with file.open("rb") as raw:
        os.posix_fadvise(raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds_to_read(file: Path) -> float:
    """Time two threads that read a file from its beginning to its end, in turns."""
    size = file.stat().st_size

    def read(first: int) -> None:
        buffer = bytearray(_BLOCK)
        with file.open("rb", buffering=0) as raw:
            for at in range(first * _BLOCK, size, 2 * _BLOCK):
                os.preadv(raw.fileno(), [buffer], at)

    began = perf_counter()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(read, range(2)))
    return perf_counter() - began


def anonymous() -> int:
    """Bytes of this process that no file stands behind."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def bytes_from_disk() -> int:
    """Bytes that this process has had the disk read so far."""
    return int(Path("/proc/self/io").read_text().split("\nread_bytes:")[1].split()[0])


@contextmanager
def peak_of_anonymous() -> Iterator[list[int]]:
    """Look at the anonymous memory every 10 ms; the list holds the largest value seen."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]))))
