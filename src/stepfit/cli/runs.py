"""The commands at work: read the input, run the steps, write what was asked for, say how it ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from stepfit import __version__
from stepfit.cli import inputs, results
from stepfit.cli.refusing import refusing, say
from stepfit.clustering.lloyd import KMeansStep, assign, lloyd
from stepfit.descent.regression import linear_regression, logistic_regression
from stepfit.files import whole_file
from stepfit.recording import Recording, record
from stepfit.steps import Step, Steps, Stop
from stepfit.viewers.drawable import layout
from stepfit.viewers.progress import progress

S = TypeVar("S", bound=Step)

# The labels of all steps are kept up to this many (200 MB); beyond it only those of the last step.
_MOST_LABELS = 50_000_000


class Wanted(NamedTuple):
    """What a run is to leave behind: --out, --gif, --mp4 and --json."""

    out: Path | None
    gif: Path | None
    mp4: Path | None
    json: bool

    @property
    def pictures(self) -> list[Path]:
        """The moving pictures to draw."""
        return [path for path in (self.gif, self.mp4) if path]


def run_kmeans(
    source: str,
    k: int,
    *,
    start: str,
    max_steps: int,
    tol: float,
    seed: int | None,
    empty: str,
    kernel: str | None,
    wanted: Wanted,
) -> None:
    """Do `stepfit kmeans`."""
    with refusing():
        x, digits, unit = inputs.read_points(source)
        if wanted.pictures and x.ndim == 2:
            layout(x.shape[1])
        _prepare_pictures(wanted)
        n = x.shape[0] if x.ndim else 1
        many = n * max_steps > _MOST_LABELS
        if many and wanted.pictures:
            raise ValueError(
                f"a picture of {n:,} points in up to {max_steps} steps is too much to keep; "
                f"it would fit with --max-steps {_MOST_LABELS // n}, or with fewer points"
            )
        first = inputs.read_npy(Path(start)) * unit if start.endswith(".npy") else start
        steps = lloyd(x, k, start=first, max_steps=max_steps, tol=tol, seed=seed, empty=empty, kernel=kernel)
        steps = Steps((_divided(step, unit) for step in steps), steps.settings)
        if wanted.out:
            results.prepare_folder(wanted.out)
    began = perf_counter()
    run = _record_without_labels(steps) if many and wanted.out else _record(steps, wanted)
    last = run.last
    summary = {
        "command": "kmeans", "input": source, "n": run.settings["n"], "d": run.settings["d"], "k": k,
        "steps": last.index + 1, "stop": run.stop.name, "loss": last.loss, "counts": last.counts.tolist(),
        "seconds": perf_counter() - began, "kernel": run.settings["kernel"], "dtype": run.settings["dtype"],
        "start": start, "seed": run.settings["seed"], "tol": tol, "version": __version__,
    }  # fmt: skip
    table = results.cluster_table(last.labels, last.counts, digits)
    _finish(run, wanted, summary, {"centers": last.centers, "labels": last.labels}, table, x, digits)


def run_regress(model: str, source: str, *, lr: str | None, max_steps: int, seed: int | None, wanted: Wanted) -> None:
    """Do `stepfit regress`."""
    with refusing():
        data = inputs.read_split(source)
        _prepare_pictures(wanted)
        regression = {"linear": linear_regression, "logistic": logistic_regression}[model]
        options: dict[str, Any] = {} if lr is None else {"lr": _rate(lr)}
        test = (data.x_test, data.y_test)
        steps = regression(data.x_train, data.y_train, max_steps=max_steps, test=test, seed=seed, **options)
        if wanted.out:
            results.prepare_folder(wanted.out)
    began = perf_counter()
    run = _record(steps, wanted)
    last = run.last
    summary = {
        "command": f"regress {model}", "input": source, "n": run.settings["n"], "d": run.settings["d"],
        "steps": last.index + 1, "stop": run.stop.name, "loss": last.loss, **last.metrics,
        "weight": last.params["weight"].flatten().tolist(), "bias": last.params["bias"].item(),
        "lr": last.lr, "lr_limit": last.lr_limit, "seconds": perf_counter() - began,
        "dtype": run.settings["dtype"], "seed": run.settings["seed"], "version": __version__,
    }  # fmt: skip
    _finish(run, wanted, summary, last.params, results.model_table(last), data.x_train, data.y_train)


def run_assign(source: str, centers: Path, out: Path | None) -> None:
    """Do `stepfit assign`."""
    with refusing():
        x, digits, unit = inputs.read_points(source)
        if out:
            results.prepare_file(out, ".npy")
        given = inputs.read_npy(centers) * unit
        labels = assign(x, given)
        if out:
            with whole_file(out) as path:
                np.save(path, labels.numpy())
            say(f"wrote {out}")
    table = results.cluster_table(labels, labels.bincount(minlength=len(given)), digits)
    Console(highlight=False).print(table)


def _divided(step: KMeansStep, unit: float) -> KMeansStep:
    """Return a step of points that were divided by `unit`."""
    if unit == 1:
        return step
    centers, next_centers = step.centers / unit, step.next_centers / unit
    loss, shift = step.loss / unit**2, step.shift / unit**2
    return replace(step, centers=centers, next_centers=next_centers, loss=loss, shift=shift)


def _prepare_pictures(wanted: Wanted) -> None:
    """Refuse before the run what could not be written after it."""
    for path, suffix in ((wanted.gif, ".gif"), (wanted.mp4, ".mp4")):
        if path:
            results.prepare_file(path, suffix)
    if wanted.mp4 and not find_spec("imageio_ffmpeg"):
        raise ValueError("--mp4 needs imageio-ffmpeg: pip install 'stepfit[video]'")


def _rate(lr: str) -> float | str:
    """Read --lr."""
    try:
        return lr if lr == "auto" else float(lr)
    except ValueError:
        raise ValueError(f"--lr is {lr!r}; a number or auto is needed") from None


def _record(steps: Steps[S], wanted: Wanted) -> Recording[S]:
    """Run to the end and keep what is to be written; the first and the last step, when nothing is."""
    everything = wanted.out or wanted.pictures
    return record(progress(steps), every=1 if everything else steps.settings["max_steps"])


def _record_without_labels(steps: Steps[KMeansStep]) -> Recording[KMeansStep]:
    say("steps.npz will hold the labels of the last step only: n x max_steps is over 50 million")
    newest: deque[KMeansStep] = deque(maxlen=2)  # two, since Ctrl-C may fall between a step and its keeping

    def stripped() -> Iterator[KMeansStep]:
        for step in steps:
            newest.append(step)
            yield replace(step, labels=step.labels.new_empty(0))

    run = record(progress(Steps(stripped(), steps.settings)))
    labels = next(step.labels for step in newest if step.index == run.last.index)
    return Recording([*run[:-1], replace(run.last, labels=labels)], run.settings, run.stop)


def _finish(
    run: Recording[Any],
    wanted: Wanted,
    summary: Mapping[str, Any],
    arrays: Mapping[str, Tensor],
    table: Table,
    x: Any,
    y: Tensor | None,
) -> None:
    """Write, draw, and say how it ended."""
    interrupted = run.stop is Stop.INTERRUPTED
    with refusing():
        if wanted.out:
            say(f"wrote {', '.join(results.write(wanted.out, run, arrays, summary))} in {wanted.out}")
        if wanted.pictures and not interrupted:
            from stepfit.viewers.animation import animate  # not above: matplotlib takes its time to load

            for path in wanted.pictures:
                say(f"drawing {path}")
                animate(run, x, path, y)
    if wanted.json:
        typer.echo(results.summary_text(summary))
    console = Console(stderr=wanted.json, highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    loss = f"{run.last.loss:,.0f}" if 1e6 <= run.last.loss < 1e15 else f"{run.last.loss:,.6g}"
    console.print(f"{summary['steps']} steps in {summary['seconds']:.2f} s, loss {loss}, seed {summary['seed']}")
    console.print(f"{run.stop.name}: {run.stop.value}", *run.last.events, sep="\n")
    if wanted.out and "centers" in arrays and run.stop is not Stop.CONVERGED:
        console.print(f"to go on from here: --start {wanted.out / 'centers.npy'}")
    if interrupted:
        raise typer.Exit(130)
