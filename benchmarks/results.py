"""RESULTS.md: what was measured stands between markers and is replaced; what was written by hand stays."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from stepfit import kernels
from stepfit.kernels import compiled

RESULTS = Path(__file__).parent / "RESULTS.md"
_LOAD = os.getloadavg()[0]  # before anything is measured: over 0 others were at work
_PACKAGES = ("stepfit", "torch", "numpy", "scikit-learn", "scikit-learn-intelex", "faiss-cpu", "fast-pytorch-kmeans",
             "torch-kmeans")  # fmt: skip
_FLAGS = ("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
          "asimd", "sve")  # fmt: skip


def marked(path: str) -> Path:
    """Take a file that `write` can write to, before anything is measured."""
    if not Path(path).is_file():
        raise ArgumentTypeError(
            f"there is no file {path}; give a copy of {RESULTS.name}, whose markers say what goes where"
        )
    return Path(path)


def write(file: Path, blocks: Mapping[str, str]) -> None:
    """Replace what stands between the markers of each name."""
    text = file.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{file} has no place for {name}; add the lines {begin.strip()} and {end.strip()} to it")
        text = f"{before}{begin}\n{block}\n\n{end}{after}"
    file.write_text(text, encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table: the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def provenance(module: str) -> str:
    """Say when, how and on how busy a machine something was measured."""
    command = f"python -m {module} {shlex.join(sys.argv[1:])}".rstrip()
    return f"{date.today()}, `{command}`, load average before it {_LOAD:.1f} on {_cores()} cores"


def machine() -> str:
    """Name the machine and the versions."""
    info = Path("/proc/cpuinfo")
    cpu = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line) if info.exists() else {}
    fields = {name.strip(): value.strip() for name, value in cpu.items()}
    have = (fields.get("flags") or fields.get("Features") or "").split()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = kernels.choose()
    level = f", level {compiled.module.level()}" if kernel == "native" else ""
    return "\n".join(
        [
            f"- {fields.get('model name') or platform.processor() or platform.machine()}, {_cores()} cores, "
            f"{memory:.0f} GiB; {' '.join(flag for flag in _FLAGS if flag in have) or 'flags unknown'}",
            f"- {platform.system()} {platform.release()}, Python {platform.python_version()}, "
            f"{', '.join(f'{name} {found}' for name in _PACKAGES if (found := _version(name)))}",
            f"- stepfit's kernel: {kernel}{level}",
        ]
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
