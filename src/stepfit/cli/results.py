"""What a run leaves behind: the summary, the tables at the end, and the files of --out."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from torch import Tensor

from stepfit.descent.engine import DescentStep
from stepfit.files import whole_file
from stepfit.recording import Recording

_MOST_ROWS = 30


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return the summary as JSON, a line a field; a number that is not finite becomes null, as JSON knows no NaN."""
    lines = (f"  {json.dumps(name)}: {json.dumps(_json(value))}" for name, value in summary.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _json(value: Any) -> Any:
    if isinstance(value, list):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def prepare_folder(folder: Path) -> None:
    """Make a folder for results and try to write in it: a long run must not end before a closed door."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"{folder} is a file; --out needs a folder, there or not yet") from None
    except OSError as error:
        raise ValueError(f"{folder} cannot be made: {error.strerror}") from error
    prepare_file(folder / "summary.json", ".json")


def prepare_file(path: Path, suffix: str) -> None:
    """Refuse the name of a file that could not be written later."""
    if path.suffix.lower() != suffix:
        raise ValueError(f"{path} does not end in {suffix}, the kind of file that is written there")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; the name of a file is needed")
    probe = path.with_name(f".{secrets.token_hex(8)}")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error


def write(folder: Path, run: Recording[Any], arrays: Mapping[str, Tensor], summary: Mapping[str, Any]) -> list[str]:
    """Write NAME.npy for each array, steps.npz and, as the last, summary.json; return their names.

    All are whole before the first is put in place.
    """
    names = [*(f"{array}.npy" for array in arrays), "steps.npz", "summary.json"]
    with ExitStack() as stack:  # it puts the files in place in the reverse order of this
        *places, steps, text = [stack.enter_context(whole_file(folder / name)) for name in reversed(names)][::-1]
        for place, tensor in zip(places, arrays.values()):
            np.save(place, tensor.numpy())
        run.save(steps)
        text.write_text(summary_text(summary) + "\n", encoding="utf-8")
    return names


def cluster_table(labels: Tensor, counts: Tensor, digits: Tensor | None) -> Table:
    """Return a row a cluster: its points, their share and, for MNIST, the digit that most of them show."""
    largest = counts.argsort(descending=True, stable=True)[:_MOST_ROWS].tolist()
    shown = sorted(largest) if len(counts) <= _MOST_ROWS else largest
    caption = f"the {_MOST_ROWS} largest of {len(counts)} clusters" if len(counts) > _MOST_ROWS else None
    table = Table(caption=caption)
    for heading in ("cluster", "points", "share", *(["mostly"] if digits is not None else [])):
        table.add_column(heading, justify="right")
    for cluster in shown:
        points = int(counts[cluster])
        row = [str(cluster), f"{points:,}", f"{points / len(labels):.1%}"]
        if digits is not None:
            row.append(_majority(digits[labels == cluster]))
        table.add_row(*row)
    return table


def _majority(digits: Tensor) -> str:
    if not len(digits):
        return "-"
    counts = digits.bincount()
    return f"{int(counts.argmax())} ({int(counts.max()) / len(digits):.0%})"


def model_table(step: DescentStep) -> Table:
    """Return the model of a step and how well it does."""
    table = Table(show_header=False)
    weight, bias = step.params["weight"].flatten().tolist(), step.params["bias"].item()
    more = f" ... ({len(weight)} in all)" if len(weight) > 5 else ""
    table.add_row("weight", "  ".join(f"{value:.6g}" for value in weight[:5]) + more)
    table.add_row("bias", f"{bias:.6g}")
    table.add_row("loss", f"{step.loss:.6g}")
    for part in ("train", "test"):
        table.add_row(f"{part} accuracy", f"{step.metrics[f'{part}_accuracy']:.2%}")
    return table
