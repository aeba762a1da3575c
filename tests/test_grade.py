"""`stepfit learn --check`: notebooks of every kind are run and judged; nothing of the learner's changes."""

import json
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="notebooks need `pip install 'stepfit[lesson]'`")

from stepfit.lesson import grade, workbook
from stepfit.lesson.checks import EXERCISES

TITLE = EXERCISES["2.3"].title
BASICS = [number for number in EXERCISES if number.startswith("1.")]
KMEANS = [number for number in EXERCISES if number.startswith("2.")]
NEAREST = "import torch\ndef nearest(distances):\n    return distances.argmin(dim=1)"
KERNEL = {"kernelspec": {"name": "of-another-machine", "display_name": "other", "language": "python"}}


def write(path, *code, exercise="2.3", **metadata):
    named = {"exercise": exercise} if exercise else {}
    cells = [
        {"cell_type": "code", "execution_count": None, "id": f"c{i}", "metadata": named, "outputs": [], "source": text}
        for i, text in enumerate(code)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


def graded(folder, **words):
    return grade.grade(grade.read(folder), **words)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A folder with what a class brings: work, copies, accidents. Judging costs seconds, so it is done once."""
    folder = tmp_path_factory.mktemp("class")
    write(
        folder / "Pytorch1_KMeans.ipynb",
        f"from stepfit.lesson import check\n{NEAREST}\ncheck('2.3')",
        "print = json = display = globals = list = None  # names that a learner may take",
        "from pathlib import Path\nPath('where.txt').write_text(str(Path.cwd()))",
        "1 / 0",
        "def squared_distances(x, centers):\n    return x",
        "input('a name? ')",
        **KERNEL,
    )
    write(folder / "copy.new.ipynb", "def nearest(distances):\n    return distances.argmax(dim=1)")
    write(folder / "notes.ipynb", "raise SystemExit('never run')", exercise=None)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = []
    notebooks = grade.read(folder)
    result = grade.grade(notebooks, said=said.append)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "where.txt"])  # and no progress
    assert (folder / "where.txt").read_text() == str(folder)
    assert said == ["Pytorch1_KMeans.ipynb ...", "copy.new.ipynb ..."]
    assert json.loads(grade.write(result, notebooks).read_text()) == result
    assert grade.write(result, notebooks) == folder / "checks.json"
    return result


def test_every_exercise_of_a_notebook_has_a_verdict(result):
    assert list(result["notebooks"]) == ["Pytorch1_KMeans.ipynb", "copy.new.ipynb"]
    for notebook in result["notebooks"].values():
        assert list(notebook["exercises"]) == KMEANS
    exercises = result["notebooks"]["Pytorch1_KMeans.ipynb"]["exercises"]
    assert exercises["2.3"].keys() == {"title", "status", "words", "mistake"}
    assert exercises["2.3"]["status"] == "passed"
    assert exercises["2.2"]["status"] == "wrong"
    assert {exercises[number]["status"] for number in KMEANS} == {"passed", "wrong", "not attempted"}
    assert result["notebooks"]["copy.new.ipynb"]["exercises"]["2.3"]["mistake"] == "argmax-for-argmin"


def test_errors_say_in_which_cell(result):
    errors = result["notebooks"]["Pytorch1_KMeans.ipynb"]["errors"]
    assert errors[0] == {"cell": 4, "error": "ZeroDivisionError: division by zero"}
    assert [error["cell"] for error in errors] == [4, 6]
    assert errors[1]["error"].startswith("StdinNotImplementedError")
    assert result["notebooks"]["copy.new.ipynb"]["errors"] == []


def test_an_exercise_in_two_notebooks_counts_once(result):
    assert (result["passed"], result["total"]) == (1, len(KMEANS))


def test_the_table_has_a_line_an_exercise(result):
    lines = grade.table(result).splitlines()
    passed = next(line for line in lines if line.startswith("   2.3  "))
    assert passed.split("  passed  ")[0].strip() == f"2.3  {TITLE}".ljust(len(passed.split("  passed  ")[0].strip()))
    assert "  cell 4 stopped: ZeroDivisionError: division by zero" in lines
    assert lines[-1] == f"1 of {len(KMEANS)} exercises passed"
    assert len(lines) == 2 + 2 * len(KMEANS) + 2 + 2 + 1


def test_only_the_first_sentence_is_in_the_table():
    verdict = {"title": "T", "status": "wrong", "words": "One is 0.5 of two. Why? No.", "mistake": None}
    shown = grade.table({"notebooks": {"A": {"exercises": {"1.1": verdict}, "errors": []}}, "passed": 0, "total": 1})
    assert shown.splitlines()[1] == "   1.1  T  wrong          One is 0.5 of two."


STUBBORN = "while True:\n    try:\n        while True: sum(range(1000))\n    except BaseException: pass"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os\nos._exit(3)", "it ended the notebook's Python"),
        (STUBBORN, "it did not stop when it was interrupted"),
    ],
    ids=["exit", "endless"],
)
def test_a_notebook_that_cannot_be_run_to_its_end(tmp_path, monkeypatch, code, error):
    monkeypatch.setattr(grade, "INTERRUPT_SECONDS", 1)
    write(tmp_path / "A.ipynb", NEAREST, code, "never = 1")
    notebook = graded(tmp_path, seconds=2)["notebooks"]["A.ipynb"]
    assert notebook["errors"] == [{"cell": 2, "error": error}]
    assert {found["status"] for found in notebook["exercises"].values()} == {"error"}
    assert notebook["exercises"]["2.3"]["words"] == "Not judged, as the notebook did not run to its end."


def test_a_cell_without_end_is_interrupted_and_the_rest_judged(tmp_path):
    write(tmp_path / "A.ipynb", "while True: pass", NEAREST)
    notebook = graded(tmp_path, seconds=2)["notebooks"]["A.ipynb"]
    assert notebook["errors"] == [{"cell": 1, "error": "it was still running after 2 seconds"}]
    assert notebook["exercises"]["2.3"]["status"] == "passed"


# What is read


def test_which_exercises_belong_to_a_notebook(tmp_path):
    write(tmp_path / "by metadata.ipynb", "pass", exercise="2.3")
    write(tmp_path / "by check.ipynb", "check( '1.2')", exercise=None)
    write(tmp_path / "none.ipynb", "check(number)", exercise=None)
    write(tmp_path / "Tutorial1_Pytorch_Basics.ipynb", "a = 1", exercise=None)  # all cells with exercises deleted
    (tmp_path / "Pytorch1_KMeans.ipynb").write_text("{half a file")
    found = {notebook.path.stem: notebook.numbers for notebook in grade.read(tmp_path)}
    assert found == {
        "Tutorial1_Pytorch_Basics": BASICS,
        "by check": BASICS,
        "Pytorch1_KMeans": KMEANS,
        "by metadata": KMEANS,
    }
    assert list(found)[:2] in (["Tutorial1_Pytorch_Basics", "by check"], ["by check", "Tutorial1_Pytorch_Basics"])


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ([".", workbook.NOTEBOOKS], workbook.NOTEBOOKS),
        ([".", "notebooks"], "."),
        (["notebooks"], "notebooks"),
    ],
    ids=["working copy", "the notebooks themselves", "exported"],
)
def test_where_the_notebooks_are(tmp_path, there, taken):
    for place in there:
        write(tmp_path / place / "A.ipynb", "pass")
    assert [notebook.path.parent for notebook in grade.read(tmp_path)] == [tmp_path / taken]


def test_nothing_to_judge_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^no notebooks in .*: go to the folder .*, or name it with --dir$"):
        grade.read(tmp_path)
    with pytest.raises(ValueError, match="no notebooks in"):
        grade.read(Path("not there"))
    write(tmp_path / "A.ipynb", "pass", exercise=None)
    with pytest.raises(ValueError, match=r"^none of the notebooks in .* has an exercise of the lesson$"):
        grade.read(tmp_path)
