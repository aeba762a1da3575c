"""`stepfit learn`: the lesson in the browser, written as files, or its exercises checked."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import typer

from stepfit.cli.refusing import refusing, say

JUPYTER_PORT = 8888  # where the course's addresses lead


def run_learn(
    *, port: int, host: str, open_browser: bool, folder: Path, jupyter_port: int | None, no_jupyter: bool
) -> None:
    """Do `stepfit learn`."""
    with refusing():
        server = _room("server")
        if no_jupyter:
            jupyter_port = None
        elif jupyter_port is None and host not in server.LOOPBACK:
            # Whoever can open a notebook can run code as this user. That must be asked for by name.
            say(
                "Jupyter is not started, as others may visit; "
                f"--jupyter-port {JUPYTER_PORT} starts it for this computer alone"
            )
        elif jupyter_port is None:
            jupyter_port = JUPYTER_PORT
        server.serve(port=port, host=host, open_browser=open_browser, folder=folder, jupyter_port=jupyter_port)


def run_export(folder: Path) -> None:
    """Do `stepfit learn --export DIR`."""
    with refusing():
        _room("server").export(folder)
    say(f"wrote the lesson in {folder}; open {folder / 'index.html'}")


def run_check(folder: Path) -> None:
    """Do `stepfit learn --check`."""
    with refusing():
        grade = _room("grade")
        notebooks = grade.read(folder)
    result = grade.grade(notebooks, said=say)
    typer.echo(grade.table(result))
    with refusing():
        say(f"wrote {grade.write(result, notebooks)}")


def _room(name: str) -> ModuleType:
    """Load a room of the lesson; what it needs beyond stepfit itself may be missing."""
    try:
        return import_module(f"stepfit.lesson.{name}")
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing == "stepfit":
            raise
        raise ValueError(f"the lesson needs {missing}: pip install 'stepfit[lesson]'") from None
