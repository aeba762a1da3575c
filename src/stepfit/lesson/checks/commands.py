"""check(), hint(), solution(), reset(): what a learner calls in a notebook; here their words are shown."""

from __future__ import annotations

import html
import json
import sys
from importlib.resources import files

from stepfit.lesson.checks import EXERCISES, find, judge, progress
from stepfit.lesson.checks.exercise import Exercise
from stepfit.lesson.checks.verdict import box, inline

TRIES = 3  # before the solution opens without a pass
KINDS_OF_HINT = ("the idea", "the place", "nearly the code")


def check(number: str | None = None) -> None:
    """Look at your work on one exercise and say what is right or wrong; without a number, list all.

    Parameters
    ----------
    number : str, optional
        Of the exercise, as it stands in its cell: "2.3".

    Raises
    ------
    TypeError, ValueError
        There is no such exercise.

    Examples
    --------
    >>> check("2.3")
    2.3 The nearest center: not attempted. There is no `nearest` yet; run the cell that makes it.
    """
    if number is None:
        say(*_list())
        return
    verdict = judge(number, sys._getframe(1).f_globals)
    if verdict.status != "not attempted":
        with progress.changing() as standings:
            standing = standings.setdefault(number, progress.Standing())
            standing.passed |= verdict.status == "passed"
            standing.tries += 1
    say(str(verdict), verdict._repr_html_())


def hint(number: str) -> None:
    """Return the next of three hints: the idea, the place, nearly the code.

    Parameters
    ----------
    number : str
        Of the exercise.
    """
    exercise = find(number)
    with progress.changing() as standings:
        standing = standings.setdefault(number, progress.Standing())
        turn = min(standing.hints, 2)
        standing.hints = turn + 1
    head = f"{number} hint {turn + 1} of 3, {KINDS_OF_HINT[turn]}."
    words = exercise.hints[turn]
    if turn == 2:
        words += f' After {TRIES} tries, `solution("{number}")` opens.'
    say(f"{head} {words}", box(f"<b>{head}</b> {inline(words)}"))


def solution(number: str) -> None:
    """Show a solution, once the exercise is passed or was tried three times.

    Parameters
    ----------
    number : str
        Of the exercise.
    """
    exercise = find(number)
    standing = progress.standings().get(number, progress.Standing())
    if not standing.passed and standing.tries < TRIES:
        tries = f"{standing.tries} of {TRIES} tries" if standing.tries else f"no try yet of {TRIES}"
        words = f'{number}: the solution opens after a pass or {TRIES} tries ({tries}). `hint("{number}")` helps.'
        say(words, box(inline(words)))
        return
    head = f"{number} {exercise.title}: one way to do it."
    code = solution_cell(number)
    say(f"{head}\n\n{code}", box(f"<b>{html.escape(head)}</b><pre>{html.escape(code)}</pre>"))


def reset(number: str | None = None) -> None:
    """Forget the tries, hints and passes of one exercise, or of all. Your code stays as it is.

    Parameters
    ----------
    number : str, optional
        Of the exercise; all of them when left out.
    """
    with progress.changing() as standings:
        if number is None:
            standings.clear()
        else:
            standings.pop(find(number).number, None)
    words = f"Forgot the progress of {number or 'all exercises'}. Your code in the notebook stays as it is."
    say(words, box(words))


def solution_cell(number: str) -> str:
    """Return the code of an exercise's cell in the solution notebook."""
    for notebook in sorted(files("stepfit.lesson.notebooks").joinpath("solutions").iterdir(), key=str):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["metadata"].get("exercise") == number:
                return "".join(cell["source"])
    raise LookupError(f"no solution notebook has a cell for exercise {number}")


def _list() -> tuple[str, str]:
    """All exercises and how they stand, as text and as a table."""
    standings = progress.standings()
    rows = [(e.number, e.title, _standing(e, standings)) for e in EXERCISES.values()]
    passed = sum(standings[number].passed for number in standings if number in EXERCISES)
    head = f"{passed} of {len(rows)} exercises passed."
    width = max(len(title) for _, title, _ in rows)
    text = "\n".join([head, *(f"{number:>5} {title:{width}} {how}" for number, title, how in rows)])
    left = "style='text-align:left'"  # Jupyter's own is to the right
    cells = [
        f"<tr><th scope=row>{n}</th><td {left}>{html.escape(title)}</td><td {left}>{how}</td></tr>"
        for n, title, how in rows
    ]
    heads = "".join(f"<th scope=col {left}>{head}</th>" for head in ("exercise", "what", "how it stands"))
    return text, f"<p>{head}</p><table><thead><tr>{heads}</tr></thead><tbody>{''.join(cells)}</tbody></table>"


def _standing(exercise: Exercise, standings: dict[str, progress.Standing]) -> str:
    standing = standings.get(exercise.number, progress.Standing())
    if standing.passed:
        return "passed"
    return f"tried, {standing.tries} so far" if standing.tries else "not attempted"


def say(text: str, content: str) -> None:
    """Show in a notebook, print in a terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        sys.modules["IPython"].display.display({"text/plain": text, "text/html": content}, raw=True)
    else:
        print(text)
