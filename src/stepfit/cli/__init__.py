"""The command line: which commands there are, what each option means, and nothing heavy until one is run."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stepfit import __version__

app = typer.Typer(
    name="stepfit",
    help="Machine learning you can watch, one step at a time, and then run at full speed.",
    epilog="""\b
First steps:
  stepfit learn                       the lesson, in your browser
  stepfit kmeans mnist -k 10          ten groups of 10,000 handwritten digits
  stepfit regress linear two-moons    a line between two classes""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich would take two thirds of the time that --help may take
    pretty_exceptions_enable=False,
)


class Model(StrEnum):
    """The two models of `stepfit regress`."""

    linear = "linear"
    logistic = "logistic"


Source = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="mnist, mnist-train, blobs, toy, two-moons, two-circles, or a file: "
        ".npy, .npz (FILE.npz:NAME), .csv, .parquet.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="S", min=0, max=2**62 - 1, help="Makes a run repeatable; drawn and shown when left out."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write the results, all steps and summary.json into this folder.")
]
Gif = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the steps as a GIF.")]
Mp4 = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the steps as a video.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the summary as JSON on standard output, and nothing else there.")
]


def main() -> None:
    """Run the command line."""
    # Threads of torch that wait in a busy loop starve each other as soon as anything else runs on the machine.
    # It must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stepfit {__version__}")
        raise typer.Exit


@app.callback()
def _stepfit(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None: ...


@app.command(
    epilog="""\b
Examples:
  stepfit kmeans mnist -k 10 --seed 0
  stepfit kmeans blobs -k 4 --start random --gif blobs.gif
  stepfit kmeans points.csv -k 3 --out result
  stepfit kmeans big.npz:embeddings -k 1000 --max-steps 20 --json

\b
--out writes centers.npy, labels.npy, steps.npz (the recording) and
summary.json. Ctrl-C ends a run early, and its last whole step is written."""
)
def kmeans(
    source: Source,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many clusters.")],
    start: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.npy", help="First centers: k-means++, random, farthest, or a file of shape (k, d)."
        ),
    ] = "k-means++",
    max_steps: Annotated[int, typer.Option(metavar="N", help="Stop after this many steps.")] = 300,
    tol: Annotated[
        float, typer.Option(metavar="T", help="Stop when the centers hardly move; 0 goes on until no label changes.")
    ] = 0.0,
    seed: Seed = None,
    empty: Annotated[
        str, typer.Option(metavar="RULE", help="A center without points: moves to the farthest point, keep, or nan.")
    ] = "farthest",
    kernel: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Force a compute kernel; stepfit doctor lists them. The answer is the same."),
    ] = None,
    out: Out = None,
    gif: Gif = None,
    mp4: Mp4 = None,
    json: Json = False,
) -> None:
    """Group points around K centers (k-means)."""
    from stepfit.cli import runs

    wanted = runs.Wanted(out, gif, mp4, json)
    runs.run_kmeans(
        source, k, start=start, max_steps=max_steps, tol=tol, seed=seed, empty=empty, kernel=kernel, wanted=wanted
    )


@app.command(
    epilog="""\b
Examples:
  stepfit regress linear two-moons
  stepfit regress logistic two-moons --lr auto --max-steps 500
  stepfit regress linear toy --lr 0.7 --gif diverges.gif
  stepfit regress logistic my_data.npz --out result

\b
A file must hold arr_0 .. arr_3 = x_train, x_test, y_train, y_test, the last
two with classes 0 and 1. --out writes weight.npy, bias.npy, steps.npz (the
recording) and summary.json."""
)
def regress(
    model: Annotated[
        Model, typer.Argument(metavar="linear|logistic", help="Linear or logistic regression.", show_default=False)
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="toy, two-moons, two-circles, or an .npz file of four arrays.", show_default=False
        ),
    ],
    lr: Annotated[
        str | None,
        typer.Option(
            metavar="LR|auto", help="Learning rate: 0.1 for linear and 1 for logistic when left out; auto works it out."
        ),
    ] = None,
    max_steps: Annotated[int, typer.Option(metavar="N", help="Stop after this many steps.")] = 100,
    seed: Seed = None,
    out: Out = None,
    gif: Gif = None,
    mp4: Mp4 = None,
    json: Json = False,
) -> None:
    """Part two classes by a line, found by gradient descent."""
    from stepfit.cli import runs

    runs.run_regress(
        model.value, source, lr=lr, max_steps=max_steps, seed=seed, wanted=runs.Wanted(out, gif, mp4, json)
    )


@app.command(
    epilog="""\b
Example:
  stepfit kmeans mnist -k 10 --out result
  stepfit assign mnist-train --centers result/centers.npy --out labels.npy"""
)
def assign(
    source: Source,
    centers: Annotated[Path, typer.Option(metavar="FILE.npy", help="The centers, of shape (k, d).")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.npy", help="Write the label of each point.")] = None,
) -> None:
    """Return each point the number of its nearest center."""
    from stepfit.cli import runs

    runs.run_assign(source, centers, out)


@app.command(
    epilog="""\b
Examples:
  stepfit learn
  stepfit learn --port 4001 --jupyter-port 8889 --dir ~/lesson
  stepfit learn --no-jupyter         (notebooks in VS Code, or not at all)
  stepfit learn --check              (judges all exercises, in the terminal)
  stepfit learn --export lesson      (a page that needs no server)

\b
The notebooks are laid out in DIR/pytorch-tutorial. What you edit there stays;
what you did not touch follows each new version of stepfit.
--check runs the code in the notebooks of DIR, whoever wrote it, shows a line
an exercise and writes checks.json beside the notebooks."""
)
def learn(
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Where the lesson is served: http://localhost:PORT.")
    ] = 4000,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Who may visit: 127.0.0.1 is this computer alone, 0.0.0.0 its network.")
    ] = "127.0.0.1",
    jupyter_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Where Jupyter shows the notebooks.  [default: 8888]", show_default=False),
    ] = None,
    no_jupyter: Annotated[bool, typer.Option("--no-jupyter", help="Do not start Jupyter.")] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where your notebooks are laid out, or are to be checked.")
    ] = Path(),
    check: Annotated[
        bool, typer.Option("--check", help="Judge all exercises of a folder and stop: runs the code in its notebooks.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the page and the notebooks into this folder and stop.")
    ] = None,
) -> None:
    """Open the lesson: a page to read, a live lab to try it in, and notebooks with exercises."""
    from stepfit.cli import lesson

    if check:
        lesson.run_check(folder)
    elif export:
        lesson.run_export(export)
    else:
        lesson.run_learn(
            port=port,
            host=host,
            open_browser=not no_browser,
            folder=folder,
            jupyter_port=jupyter_port,
            no_jupyter=no_jupyter,
        )


@app.command(
    epilog="""\b
Examples:
  stepfit doctor
  stepfit doctor -n 60000 -d 784 -k 10 --dtype uint8"""
)
def doctor(
    n: Annotated[
        int | None, typer.Option("-n", metavar="N", help="Tell how k-means would run on N points; needs -d and -k.")
    ] = None,
    d: Annotated[int | None, typer.Option("-d", metavar="D", help="How many features each point has.")] = None,
    k: Annotated[int | None, typer.Option("-k", metavar="K", help="How many clusters.")] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="NAME", help="The type of the numbers; float32 when left out.")
    ] = None,
) -> None:
    """Tell what this installation has and lacks, or which kernel would run for a shape and why."""
    from stepfit.cli import checkup
    from stepfit.cli.refusing import refusing

    if (n, d, k, dtype) == (None, None, None, None):
        lines = list(checkup.findings())
    else:
        with refusing():
            lines = list(checkup.plan(n, d, k, dtype or "float32"))
    for line in lines:
        typer.echo(line)
