"""The learner's working copy of the notebooks: what is untouched follows upgrades, what is edited stays."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parent / "notebooks" / "exercises"
SECTION = Path("pytorch-tutorial", "section2_pytorch_basics")  # the course's own addresses begin so
NOTEBOOKS = SECTION / "notebooks"
DATA = ("toy_data.npz", "toy_data_two_moon.npz", "toy_data_two_circles.npz")
RECORD = ".copied.json"  # beside the notebooks: the hash of each as it was copied, and of each put beside


def lay_out(folder: str | os.PathLike[str], shipped: Path = SHIPPED) -> list[str]:
    """Lay out the notebooks and their data, or bring them up to date.

    Parameters
    ----------
    folder : str or path
        The working copy is in `pytorch-tutorial/section2_pytorch_basics` there.
    shipped : path
        Where the notebooks come from.

    Returns
    -------
    list of str
        A sentence on each notebook that was not simply put there.

    Raises
    ------
    ValueError
        The folder cannot be written.
    """
    try:
        (Path(folder) / NOTEBOOKS).mkdir(parents=True, exist_ok=True)
        _write_data(Path(folder) / SECTION / "data")
        return _follow(Path(folder) / NOTEBOOKS, shipped)
    except OSError as error:
        where = error.filename or folder
        raise ValueError(
            f"{where}: {error.strerror}, so the notebooks cannot be laid out in {Path(folder).resolve()}; "
            "choose a folder of your own with --dir"
        ) from None


def sources(notebook: Path) -> str | None:
    """Return the hash of what stands in the cells, or None for what is no notebook.

    Jupyter writes outputs, numbers and metadata anew whenever it saves; they say nothing about the learner's work.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        kept = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def _follow(folder: Path, shipped: Path) -> list[str]:
    said = []
    record = _read(folder / RECORD)
    for new in sorted(shipped.glob("*.ipynb")):
        old, known = folder / new.name, record.setdefault(new.name, {})
        now = sources(new)
        mine = sources(old) if old.exists() else ""
        if mine in ("", known.get("copied")):
            if mine != now:
                _put(new, old)
            known["copied"] = now
        elif mine == now:
            known["copied"] = now
        elif now not in (known.get("copied"), known.get("beside")):
            beside = _free(old, known.get("beside"))
            _put(new, beside)
            known["beside"] = now
            said.append(f"{new.name} has a new version; yours is edited and stays, the new one is {beside.name}.")
        elif mine is None:
            said.append(f"{new.name} cannot be read as a notebook and stays as it is; delete it to get a fresh one.")
    _write(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return said


def _free(notebook: Path, ours: str | None) -> Path:
    """Return the first NAME.new.ipynb, NAME.new2.ipynb, ... that is not there, or is ours and nobody's work."""
    number = 1
    while True:
        path = notebook.with_suffix(f".new{number if number > 1 else ''}.ipynb")
        if not path.exists() or (ours and sources(path) == ours):
            return path
        number += 1


def _read(record: Path) -> dict[str, dict[str, Any]]:
    """Read what was copied; without a word of it, every notebook that differs counts as edited."""
    try:
        read = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return read if isinstance(read, dict) and all(isinstance(known, Mapping) for known in read.values()) else {}


def _put(new: Path, place: Path) -> None:
    _write(place, new.read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_name(f".{secrets.token_hex(8)}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_data(folder: Path) -> None:
    if all((folder / name).exists() for name in DATA):
        return
    # In a process of its own: it needs torch, which would stay in the memory of the server.
    write = "import sys; from stepfit.datasets import write_toy_data; write_toy_data(sys.argv[1])"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([sys.executable, "-P", "-c", write, folder], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the data cannot be written in {folder}: {done.stderr.strip().splitlines()[-1]}")
