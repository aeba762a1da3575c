"""What this installation has and lacks, and what would run for points of a shape, a line each."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch

from stepfit import __version__, datasets, kernels
from stepfit.kernels import compiled, native
from stepfit.kernels.points import FLOATS, INTEGERS

# Extra -> the packages that it brings, by the name they are imported by.
_EXTRAS = {
    "lesson": ("streamlit", "starlette", "uvicorn"),
    "video": ("imageio_ffmpeg",),
    "parquet": ("pyarrow",),
}

# What makes kernels faster, as Linux calls it.
_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16")

# The ways of the native kernel, and why one is taken.
_PATHS = {
    "narrow": "few features and few centers: rows, scores and bounds stay in registers",
    "bytes": "bytes and few centers: tiles of rows are multiplied as they are, with centers of 16 bits",
    "rows": "long rows of bytes: they are multiplied where they lie, with 8 bits of the centers, then with 8 more",
    "tiles": "for all other shapes: tiles of rows are scored against panels of centers that stay in registers",
}

_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FLOATS + INTEGERS}


def findings() -> Iterator[str]:
    """Yield the lines of `stepfit doctor`."""
    yield f"stepfit     {__version__}"
    yield f"python      {platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in ("torch", "numpy"):
        yield f"{package:<12}{importlib.metadata.version(package)}"
    yield f"processor   {_processor()}"
    yield f"threads     {torch.get_num_threads()}; OMP_NUM_THREADS or torch.set_num_threads() says how many"
    yield f"accelerator {_accelerator()}"
    yield f"memory      {_memory()}"
    yield f"kernel      {_kernel()}"
    yield f"native      {_native()}"
    if not compiled.missing:
        yield f"build       {compiled.module.build}"
    folder = datasets.mnist_train_folder()
    yield f"mnist-train {f'in {folder}' if folder else 'not here; it is downloaded (11 MB) when first used'}"
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if not find_spec(module)]
        yield f"{extra:<12}" + (
            f"lacks {', '.join(missing)}: pip install 'stepfit[{extra}]'" if missing else "installed"
        )


def plan(n: int | None, d: int | None, k: int | None, dtype: str) -> Iterator[str]:
    """Yield what k-means would do with n points of d features and k centers, on the CPU, and why."""
    if n is None or d is None or k is None:
        missing = [name for name, value in (("-n", n), ("-d", d), ("-k", k)) if value is None]
        verb = "is" if len(missing) == 1 else "are"
        raise ValueError(f"a shape needs -n, -d and -k; {' and '.join(missing)} {verb} missing")
    for name, value in (("-n", n), ("-d", d), ("-k", k)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if k > n:
        raise ValueError(f"-k is {k}, but -n is {n}; each center needs a point, so -k must be from 1 to {n}")
    if dtype not in _DTYPES:
        raise ValueError(f"--dtype is {dtype!r}; it must be one of {', '.join(_DTYPES)}")
    stored = _DTYPES[dtype]
    kernel = kernels.choose()
    level = compiled.module.level() if kernel == "native" else ""
    yield f"points      {n} x {d}, {dtype}, {k} centers; rows one after the other in memory"
    yield f"kernel      {kernel}, {_why_kernel()}"
    if kernel == "native":
        path, threads = native.path(stored, n, d, k), native.threads(n, d, k)
        yield f"path        {path}, {_PATHS[path]}"
        yield f"level       {level}, {_why_level()}"
        all_of_torch = threads == torch.get_num_threads()
        yield f"threads     {threads}, " + ("as torch has" if all_of_torch else "for so little work is not shared")
        yield "late steps  " + (
            "skip the rows whose label cannot have changed"
            if native.remembers(d * stored.itemsize, k)
            else "look at all rows: to remember something of each would not be faster"
        )
    elif kernel == "chunked":
        yield "path        blocks of rows are screened in float32 and settled in float64, by torch"
        yield f"threads     {torch.get_num_threads()}, as torch has"
    else:
        yield "path        every row meets every center in float64: slow, and what the others are compared with"


def _processor() -> str:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = f"{allowed} of {os.cpu_count()} cores allowed"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    have = {word for line in lines if line.startswith("flags") for word in line.partition(":")[2].split()}
    if not have:  # another system, or another family of processors
        return f"{cores}; torch uses {torch.backends.cpu.get_cpu_capability()}"
    there, lacking = ([name for name in _FEATURES if (name in have) is wanted] for wanted in (True, False))
    return f"{cores}; has {' '.join(there) or 'nothing special'}" + (f"; lacks {' '.join(lacking)}" if lacking else "")


def _accelerator() -> str:
    found = torch.accelerator.current_accelerator()
    return f"{found} (points that lie there are clustered there)" if found else "none"


def _memory() -> str:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, whole = (page * os.sysconf(name) / 2**30 for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not on every system
        return "unknown"
    return f"{free:.1f} of {whole:.1f} GiB free"


def _kernel() -> str:
    try:
        chosen = kernels.choose()
    except ValueError as error:
        return f"STEPFIT_KERNEL is wrong: {error}"
    return f"{chosen}, {_why_kernel()}; there are {', '.join(sorted(kernels.KERNELS))}"


def _why_kernel() -> str:
    return "forced by STEPFIT_KERNEL" if os.environ.get("STEPFIT_KERNEL") else "the fastest there is"


def _native() -> str:
    if compiled.missing:
        compiler = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)
        first = f"{compiler} is here now" if compiler else "install a C++ compiler (Debian: apt-get install g++)"
        return f"missing ({compiled.missing}): {first}, then install stepfit again, with --force-reinstall --no-deps"
    try:
        level = compiled.module.level()
    except ValueError as error:
        return str(error)
    return f"levels {', '.join(compiled.module.levels())} here; {level} is used, {_why_level()}"


def _why_level() -> str:
    return "forced by STEPFIT_ISA" if os.environ.get("STEPFIT_ISA") else "the best of them"
