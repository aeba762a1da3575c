"""`stepfit learn --check`: run the notebooks of a folder and judge every exercise on what they leave behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from stepfit import __version__
from stepfit.files import whole_file
from stepfit.lesson.checks import EXERCISES, judge, progress
from stepfit.lesson.checks.verdict import Verdict
from stepfit.lesson.jupyter_child import ThisPython
from stepfit.lesson.workbook import NOTEBOOKS, SHIPPED

RESULT = "checks.json"
CELL_SECONDS = 60
JUDGE_SECONDS = 12  # an exercise: judge() ends before, whatever it judges
VERDICTS = "application/vnd.stepfit.verdicts+json"
OVERDUE = "Overdue"
INTERRUPT_SECONDS = 5
OURS = '__import__("stepfit.lesson.grade", fromlist=["_"])'  # no name that a learner could have used otherwise
CHECK = re.compile(r"""\bcheck\(\s*["']([\d.]+)["']""")


@dataclass(frozen=True)
class Notebook:
    """A notebook that was read, and the numbers of its exercises."""

    path: Path
    cells: list[Any]
    numbers: list[str]


def read(folder: Path) -> list[Notebook]:
    """Read the notebooks of a folder that have exercises of the lesson, in the order of the lesson.

    Parameters
    ----------
    folder : path
        Holds the working copy of `stepfit learn`, or the notebooks themselves, or a folder `notebooks`.

    Raises
    ------
    ValueError
        There is nothing to judge.
    """
    for place in (folder / NOTEBOOKS, folder, folder / "notebooks"):
        if paths := sorted(place.glob("*.ipynb")):
            break
    else:
        raise ValueError(
            f"no notebooks in {folder.resolve()}: go to the folder in which `stepfit learn` was started, "
            "or name it with --dir"
        )
    notebooks = [notebook for notebook in map(_read, paths) if notebook.numbers]
    if not notebooks:
        raise ValueError(f"none of the notebooks in {place.resolve()} has an exercise of the lesson")
    order = list(EXERCISES)
    return sorted(notebooks, key=lambda notebook: order.index(notebook.numbers[0]))


def grade(
    notebooks: list[Notebook], *, seconds: int = CELL_SECONDS, said: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Run notebooks and judge their exercises. Neither the notebooks nor the progress change.

    The code in the notebooks runs as it stands, in their folder, with all that this user may do.

    Parameters
    ----------
    notebooks : list of Notebook
        As read() gives them.
    seconds : int
        The time limit for a cell.
    said : callable
        Is told which notebook comes next.

    Returns
    -------
    dict
        version, notebooks: {name: {exercises: {number: verdict}, errors: [{cell, error}]}}, passed, total.
        An exercise that stands in two notebooks counts once, and is passed when one of them passes.
    """
    done = {}
    for notebook in notebooks:
        said(f"{notebook.path.name} ...")
        done[notebook.path.name] = _run(notebook, seconds)
    status = [(number, found["status"]) for one in done.values() for number, found in one["exercises"].items()]
    passed = {number for number, how in status if how == "passed"}
    return {"version": __version__, "notebooks": done, "passed": len(passed), "total": len(dict(status))}


def table(result: dict[str, Any]) -> str:
    """Return the result as text: a line an exercise, the errors of each notebook, and the sum."""
    lines = []
    for name, notebook in result["notebooks"].items():
        exercises = notebook["exercises"]
        width = max(len(verdict["title"]) for verdict in exercises.values())
        lines.append(name)
        for number, verdict in exercises.items():
            sentence = re.split(r"(?<=[.?!]) ", verdict["words"], maxsplit=1)[0]
            lines.append(f"{number:>6}  {verdict['title']:{width}}  {verdict['status']:13}  {sentence}")
        lines += [f"  cell {error['cell']} stopped: {error['error']}" for error in notebook["errors"]]
        lines.append("")
    return "\n".join([*lines, f"{result['passed']} of {result['total']} exercises passed"])


def write(result: dict[str, Any], notebooks: list[Notebook]) -> Path:
    """Write the result as checks.json beside the notebooks, whole or not at all; give its path."""
    path = notebooks[0].path.with_name(RESULT)
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def _read(path: Path) -> Notebook:
    try:
        cells = nbformat.read(path, as_version=4).cells
    except Exception:  # half a file, another kind of file: nbformat has no error of its own for it
        cells = []
    there = _numbers(cells)
    if not there and (SHIPPED / path.name).exists():
        there = _numbers(nbformat.read(SHIPPED / path.name, as_version=4).cells)
    leading = {number.split(".")[0] for number in there}  # an exercise counts too when its cell was deleted
    return Notebook(path, cells, [number for number in EXERCISES if number.split(".")[0] in leading])


def _numbers(cells: Iterable[Any]) -> list[str]:
    code = [cell for cell in cells if cell.cell_type == "code"]
    named = [cell.metadata["exercise"] for cell in code if "exercise" in cell.metadata]
    return named or CHECK.findall("\n".join(cell.source for cell in code))


def _run(notebook: Notebook, seconds: int) -> dict[str, Any]:
    """Run the cells of a notebook, whatever they do, and judge its exercises at the end."""
    client = NotebookClient(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell()]),  # one place, for the cell that runs
        km=_Kernel(),
        resources={"metadata": {"path": str(notebook.path.parent)}},
        interrupt_on_timeout=True,
        shutdown_kernel="immediate",
        error_on_timeout={"ename": OVERDUE, "evalue": "", "traceback": []},
    )

    def run(source: str, seconds: int) -> tuple[str, list[Any]]:
        """Return the error, if any, and the outputs."""
        client.timeout = seconds
        cell = nbformat.v4.new_code_cell(source)
        try:
            client.execute_cell(cell, 0)
        except CellExecutionError as error:
            return f"{error.ename}: {error.evalue}".strip(": "), []
        return "", cell.outputs

    errors: list[dict[str, Any]] = []
    place, verdicts = 0, None
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # what the kernel itself has to say
    with tempfile.TemporaryDirectory() as elsewhere, client.setup_kernel(cleanup_kc=True, **quiet):
        try:
            run(f"{OURS}.keep_progress_aside({elsewhere!r})", CELL_SECONDS)
            for place, cell in enumerate(notebook.cells, start=1):
                if cell.cell_type == "code":
                    error, _ = run(cell.source, seconds)
                    if error == OVERDUE:
                        error = f"it was still running after {seconds} seconds"
                        if run("None", INTERRUPT_SECONDS)[0] == OVERDUE:
                            raise DeadKernelError("it did not stop when it was interrupted")
                    if error:
                        errors.append({"cell": place, "error": error})
            _, outputs = run(f"{OURS}.report({notebook.numbers})", JUDGE_SECONDS * len(notebook.numbers))
            verdicts = next((found.data[VERDICTS] for found in outputs if VERDICTS in found.get("data", {})), None)
        except DeadKernelError as dead:
            errors.append({"cell": place, "error": str(dead).replace("Kernel died", "it ended the notebook's Python")})
    if verdicts is None:
        words = "Not judged, as the notebook did not run to its end."
        verdicts = {n: _entry(Verdict(n, EXERCISES[n].title, "error", words)) for n in notebook.numbers}
    return {"exercises": verdicts, "errors": errors}


def _entry(verdict: Verdict) -> dict[str, Any]:
    entry = asdict(verdict)
    entry.pop("number")
    return entry


class _Kernel(AsyncKernelManager):
    """Runs the Python that runs this, whichever kernel the notebook names."""

    def _kernel_spec_manager_default(self) -> ThisPython:
        return ThisPython()


# In the notebook's own process


def keep_progress_aside(folder: str) -> None:
    """Let the checks in the notebook write their progress into another folder."""
    progress.FILE = os.path.join(folder, progress.FILE)


def report(numbers: list[str]) -> None:
    """Judge exercises on the names of the notebook, and send the verdicts as its output."""
    from IPython import display, get_ipython

    names = get_ipython().user_ns
    verdicts = {number: _entry(judge(number, names)) for number in numbers}
    display.display({VERDICTS: verdicts}, raw=True)
