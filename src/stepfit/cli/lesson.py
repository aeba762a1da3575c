"""`stepfit learn`: the lesson in the browser, or written as files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from stepfit.cli.refusing import refusing, say


def run_learn(*, port: int, host: str, open_browser: bool, export: Path | None) -> None:
    """Do `stepfit learn`."""
    with refusing():
        try:
            server = import_module("stepfit.lesson.server")
        except ModuleNotFoundError as error:
            missing = str(error.name).partition(".")[0]
            if missing == "stepfit":
                raise
            raise ValueError(f"the lesson needs {missing}: pip install 'stepfit[lesson]'") from None
        if export:
            server.export(export)
            say(f"wrote the lesson in {export}; open {export / 'index.html'}")
        else:
            server.serve(port=port, host=host, open_browser=open_browser)
