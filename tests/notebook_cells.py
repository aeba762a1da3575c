"""The cells of a master notebook, run in this process: what a learner has after solving it, or after a mistake."""

import re
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from stepfit.datasets import write_toy_data
from stepfit.lesson import checks
from stepfit.lesson.checks.verdict import Verdict
from stepfit.lesson.notebooks.build import HERE, solution_code

CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)
NUMBER = re.compile(r'exercise="([\d.]+)"')
CHECK = re.compile(r"^check\(.*\)$", re.MULTILINE)


@cache
def code_cells(name: str) -> tuple[tuple[str, str], ...]:
    """Give (number, source) of each code cell; the number is empty where the cell is no exercise."""
    _, *parts = CELL.split((HERE / f"{name}.py").read_text(encoding="utf-8"))
    found = []
    for head, source in zip(parts[::2], parts[1::2]):
        if "[markdown]" not in head:
            number = NUMBER.search(head)
            found.append((number[1] if number else "", CHECK.sub("", solution_code(source))))
    return tuple(found)


@cache
def solved(name: str) -> dict:
    """Give the namespace after all cells of the solution notebook; the checks are left out. Do not change it."""
    namespace = {"__name__": "__main__"}
    with _beside_the_data():
        for _, source in code_cells(name):
            exec(compile(source, f"<{name}>", "exec"), namespace)
    return namespace


def verdict_after(
    name: str, number: str, old: str = "", new: str = "", *, code: str | None = None, seed: int = 0
) -> Verdict:
    """Give the verdict on the solved notebook after one cell was changed: `old` to `new`, or all of it to `code`."""
    source = dict(code_cells(name))[number]
    if code is None:
        assert old in source, f"the solution of {number} has no {old!r}:\n{source}"
        code = source.replace(old, new)
    namespace = dict(solved(name))
    with _beside_the_data():
        exec(compile(code, "<cell>", "exec"), namespace)
    return checks.judge(number, namespace, seed=seed)


@contextmanager
def _beside_the_data():
    """Stand where the notebooks stand: their data is in ../data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(_folder().name) / "notebooks")
        yield


@cache
def _folder():
    """Give a folder with the data, removed at the end of the tests."""
    folder = tempfile.TemporaryDirectory()
    write_toy_data(Path(folder.name) / "data")
    (Path(folder.name) / "notebooks").mkdir()
    return folder
