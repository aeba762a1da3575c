"""What this installation has and lacks, a line each."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from importlib.util import find_spec

import torch

from stepfit import __version__, datasets, kernels

# Extra -> the packages that it brings, by the name they are imported by.
_EXTRAS = {
    "lesson": ("streamlit", "starlette", "uvicorn"),
    "video": ("imageio_ffmpeg",),
    "parquet": ("pyarrow",),
}


def findings() -> Iterator[str]:
    """Yield the lines of `stepfit doctor`."""
    yield f"stepfit     {__version__}"
    yield f"python      {platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in ("torch", "numpy"):
        yield f"{package:<12}{importlib.metadata.version(package)}"
    yield f"processor   {os.cpu_count()} cores with {torch.backends.cpu.get_cpu_capability()}"
    yield f"threads     {torch.get_num_threads()}"
    yield f"accelerator {_accelerator()}"
    yield f"memory      {_memory()}"
    yield f"kernel      {_kernel()}"
    folder = datasets.mnist_train_folder()
    yield f"mnist-train {f'in {folder}' if folder else 'not here; it is downloaded (11 MB) when first used'}"
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if not find_spec(module)]
        yield f"{extra:<12}" + (
            f"lacks {', '.join(missing)}: pip install 'stepfit[{extra}]'" if missing else "installed"
        )


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
    forced = os.environ.get("STEPFIT_KERNEL")
    try:
        chosen = kernels.choose()
    except ValueError as error:
        return f"STEPFIT_KERNEL is wrong: {error}"
    why = "forced by STEPFIT_KERNEL" if forced else "the fastest there is"
    native = kernels.native
    if native.missing:
        others = f"native is missing ({native.missing}): install a C++ compiler, then stepfit again"
    else:
        others = f"native has {', '.join(native.levels())} here and uses {native.level()}"
    return f"{chosen}, {why}; there are {', '.join(sorted(kernels.KERNELS))}; {others}"
