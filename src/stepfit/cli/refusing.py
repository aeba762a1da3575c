"""What the library refuses becomes one sentence on standard error and exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def refusing() -> Iterator[None]:
    """Stand around reading, the library's doors and writing; an error anywhere else is ours and keeps its traceback."""
    try:
        yield
        return
    except OSError as error:
        said = f"{error.filename}: {error.strerror}" if error.strerror and error.filename else str(error)
    except (ValueError, TypeError) as error:
        said = str(error)
    say(f"stepfit: {said}")
    raise typer.Exit(2)


def say(line: str) -> None:
    """Print on standard error, so that standard output holds results alone."""
    typer.echo(line, err=True)
