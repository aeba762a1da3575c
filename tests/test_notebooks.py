"""The notebooks: untouched they run and say "not attempted", solved they pass, and each To Do has its check."""

import json
import re

import nbformat
import pytest
from nbclient import NotebookClient

from stepfit.datasets import write_toy_data
from stepfit.lesson.checks import EXERCISES
from stepfit.lesson.checks.verdict import HEADS
from stepfit.lesson.notebooks import build

NAMES = [master.stem for master in build.MASTERS]
VERDICT = re.compile(rf"^(\d+\.\d+) .*?: ({'|'.join(HEADS.values())})\. ", re.MULTILINE)


def read(folder, name):
    return nbformat.read(build.HERE / folder / f"{name}.ipynb", as_version=4)


def verdicts(notebook, beside):
    """Run a notebook in a real kernel, beside its data; give how each exercise stands, by number."""
    write_toy_data(beside / "data")
    (beside / "notebooks").mkdir()
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": beside / "notebooks"}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = [output.data.get("text/plain", "") for output in outputs if "data" in output]
    return dict(found for text in texts for found in VERDICT.findall(text))


def of(name):
    """Give the numbers of a notebook's exercises, as its cells are tagged."""
    return [cell.metadata["exercise"] for cell in read("exercises", name).cells if "exercise" in cell.metadata]


@pytest.mark.parametrize("name", NAMES)
def test_untouched_it_runs_and_every_check_says_not_attempted(name, tmp_path):
    found = verdicts(read("exercises", name), tmp_path)
    assert found == dict.fromkeys(of(name), "not attempted")
    assert not (tmp_path / "notebooks" / "progress.json").exists()


@pytest.mark.parametrize("name", NAMES)
def test_solved_it_runs_and_every_check_passes(name, tmp_path):
    found = verdicts(read("solutions", name), tmp_path)
    assert found == dict.fromkeys(of(name), "passed")
    progress = json.loads((tmp_path / "notebooks" / "progress.json").read_text())
    assert {number for number, standing in progress.items() if standing["passed"]} == set(of(name))


def test_every_exercise_has_one_cell_and_the_cells_are_in_order():
    assert [number for name in NAMES for number in of(name)] == list(EXERCISES)


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_cell_says_what_is_to_do_and_ends_with_its_check(name):
    for cell in read("exercises", name).cells:
        if number := cell.metadata.get("exercise"):
            assert "# To Do: " in cell.source
            assert "..." in cell.source
            assert cell.source.endswith(f'check("{number}")')
        elif cell.cell_type == "code":
            assert "# To Do" not in cell.source


@pytest.mark.parametrize("name", NAMES)
def test_no_solution_is_left_in_an_exercise_and_no_blank_in_a_solution(name):
    for exercise, solution in zip(read("exercises", name).cells, read("solutions", name).cells):
        assert "SOLUTION" not in exercise.source + solution.source
        if "exercise" in solution.metadata:
            assert not re.search(r"(= |return |^\s*)\.\.\.$", solution.source, re.MULTILINE)
            assert exercise.source != solution.source


def test_there_are_25_to_dos_and_more():
    assert sum(master.read_text(encoding="utf-8").count("# BEGIN SOLUTION") for master in build.MASTERS) >= 25


@pytest.mark.parametrize("number", EXERCISES)
def test_an_exercise_has_three_hints_in_sentences(number):
    assert len(EXERCISES[number].hints) == 3
    assert all(re.search(r"[.?:!`)]$", hint) for hint in EXERCISES[number].hints)
    assert len(set(EXERCISES[number].hints)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs_and_with_ids_of_its_own(name):
    cells = read("exercises", name).cells
    assert all(not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code")
    assert len({cell.id for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("solution", "blank"),
    [
        ("y = 1\n", "y = ...\n"),
        ("y = 1\nz = y\n", "z = ...\n"),
        ("a, b = 1, 2\n", "a, b = ..., ...\n"),
        ("step()\n", "...\n"),
        ("w -= 1\n", "...\n"),
        ("with no_grad():\n    w -= 1\n", "...\n"),
        ("return 1\n", "return ...\n"),
    ],
)
def test_a_solution_becomes_its_last_statement_with_a_blank(solution, blank):
    assert build.stub(solution) == blank
    inside = "".join(f"    {line}\n" for line in ["# BEGIN SOLUTION", *solution.splitlines(), "# END SOLUTION"])
    assert build.exercise_code(f"def f():\n{inside}") == f"def f():\n    {blank}"
    assert build.solution_code(f"def f():\n{inside}").count("\n") == 1 + solution.count("\n")
