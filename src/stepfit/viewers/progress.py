"""progress(): watch any steps while they run: a bar in a terminal or notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from importlib import import_module
from time import perf_counter
from typing import Any, TypeVar

from stepfit.steps import Step, Steps

S = TypeVar("S", bound=Step)
Show = Callable[[Step, int, str], None]  # a step, how many there were with it, and what to say


def progress(steps: Steps[S]) -> Steps[S]:
    """Pass steps on untouched, and show on standard error how far they are.

    In a terminal a bar moves; in a notebook one line is renewed; elsewhere, as in a log file, plain lines are written:
    steps 0, 1, 2, 4, 8 and so on, between them at most one a second, and the last.

    Parameters
    ----------
    steps : Steps
        Such as `lloyd(...)` or `descend(...)`.

    Returns
    -------
    Steps
        The same steps, with the same settings.

    Examples
    --------
    >>> import stepfit
    >>> steps = stepfit.lloyd([[0.0], [1.0], [5.0]], 2, start=[[0.0], [1.0]])
    >>> [step.inertia for step in progress(steps)]
    [16.0, 5.0, 0.5]
    """
    if not isinstance(steps, Steps):
        raise TypeError(f"progress takes the steps of a run, such as lloyd(...); it got a {type(steps).__name__}")
    screen = _notebook if _in_notebook() else _terminal if sys.stderr.isatty() else _plain
    return Steps(_followed(steps, screen(steps.settings.get("max_steps"))), steps.settings)


def _followed(steps: Steps[S], screen: AbstractContextManager[Show]) -> Iterator[S]:
    # The screen is left however the steps end: also by Ctrl-C, which passes through.
    with screen as show:
        seconds = 0.0
        for count, step in enumerate(steps, start=1):
            seconds += step.seconds
            show(step, count, _words(step, seconds))
            yield step


def _words(step: Step, seconds: float) -> str:
    end = [step.stop.name.lower().replace("_", " ")] if step.stop else []
    return "  ".join([f"step {step.index}", f"loss {step.loss:,.6g}", *step.facts, f"{seconds:.1f} s", *end])


@contextmanager
def _terminal(total: int | None) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
    # What the caller prints goes above the bar, unless it goes to a file.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total)

        def show(step: Step, count: int, words: str) -> None:
            bar.update(task, description=words, completed=count, total=count if step.stop else total)

        yield show


@contextmanager
def _plain(total: int | None) -> Iterator[Show]:
    written = perf_counter()

    def show(step: Step, count: int, words: str) -> None:
        nonlocal written
        now = perf_counter()
        if step.index & (step.index - 1) == 0 or now - written >= 1 or step.stop:
            print(words, file=sys.stderr, flush=True)
            written = now

    yield show


def _in_notebook() -> bool:
    python = sys.modules.get("IPython")  # where it runs, it has been imported
    return python is not None and hasattr(python.get_ipython(), "kernel")


@contextmanager
def _notebook(total: int | None) -> Iterator[Show]:
    page: Any = import_module("IPython.display")
    line = page.display(page.HTML(""), display_id=True)
    written = -1.0

    def show(step: Step, count: int, words: str) -> None:
        nonlocal written
        now = perf_counter()
        if now - written >= 0.1 or step.stop:
            share = 1.0 if step.stop else count / total if total else 0.0
            line.update(page.HTML(f'<progress value="{share:.3f}" aria-label="steps"></progress> {escape(words)}'))
            written = now

    yield show
