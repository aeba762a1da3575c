"""The working copy of the notebooks: every case of there, edited, new, deleted and damaged."""

import json
import subprocess

import pytest

from stepfit.lesson import workbook
from stepfit.lesson.workbook import DATA, NOTEBOOKS, RECORD, SECTION, lay_out, sources


def notebook(*code, outputs=(), **metadata):
    """The text of a notebook, as Jupyter writes it."""
    cells = [
        {"cell_type": "code", "source": line.splitlines(keepends=True), "outputs": list(outputs), "metadata": {}}
        for line in code
    ]
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1)


@pytest.fixture
def shipped(tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "A.ipynb").write_text(notebook("a = ..."))
    (folder / "B.ipynb").write_text(notebook("b = ..."))
    return folder


@pytest.fixture
def folder(tmp_path, shipped, monkeypatch):
    """The notebooks of a learner who has just begun. The data has tests of its own."""
    monkeypatch.setattr(workbook, "_write_data", lambda folder: None)
    assert lay_out(tmp_path, shipped) == []
    return tmp_path / NOTEBOOKS


@pytest.fixture
def again(tmp_path, shipped):
    """Start once more."""
    return lambda: lay_out(tmp_path, shipped)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_first_start_lays_all_out(folder, shipped):
    assert names(folder) == [RECORD, "A.ipynb", "B.ipynb"]
    assert (folder / "A.ipynb").read_text() == (shipped / "A.ipynb").read_text()


def test_nothing_changes_when_nothing_is_new(folder, again):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.ipynb")}
    assert again() == []
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.ipynb")} == before


def test_an_untouched_notebook_follows_a_new_version(folder, shipped, again):
    (shipped / "A.ipynb").write_text(notebook("a = ...", "new = ..."))
    assert again() == []
    assert (folder / "A.ipynb").read_text() == (shipped / "A.ipynb").read_text()
    (shipped / "A.ipynb").write_text(notebook("newer = ..."))
    assert again() == []
    assert (folder / "A.ipynb").read_text() == (shipped / "A.ipynb").read_text()


def test_outputs_and_metadata_are_no_edits(folder, shipped, again):
    ran = notebook("a = ...", outputs=[{"output_type": "stream"}], kernelspec={"name": "mine"})
    (folder / "A.ipynb").write_text(ran)
    assert again() == []
    assert (folder / "A.ipynb").read_text() == ran  # what it printed stays while nothing is new
    (shipped / "A.ipynb").write_text(notebook("new = ..."))
    assert again() == []
    assert (folder / "A.ipynb").read_text() == (shipped / "A.ipynb").read_text()


def test_an_edited_notebook_stays(folder, again):
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    assert again() == []
    assert (folder / "A.ipynb").read_text() == notebook("a = 1")
    assert names(folder) == [RECORD, "A.ipynb", "B.ipynb"]


def test_a_new_version_of_an_edited_notebook_is_put_beside_it_once(folder, shipped, again):
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    (shipped / "A.ipynb").write_text(notebook("new = ..."))
    assert again() == ["A.ipynb has a new version; yours is edited and stays, the new one is A.new.ipynb."]
    assert (folder / "A.ipynb").read_text() == notebook("a = 1")
    assert (folder / "A.new.ipynb").read_text() == notebook("new = ...")
    (folder / "A.new.ipynb").unlink()  # not wanted
    assert again() == []
    assert names(folder) == [RECORD, "A.ipynb", "B.ipynb"]


def test_the_next_new_version_takes_the_place_of_one_that_nobody_worked_in(folder, shipped, again):
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    for version in ("new = ...", "newer = ..."):
        (shipped / "A.ipynb").write_text(notebook(version))
        assert len(again()) == 1
    assert names(folder) == [RECORD, "A.ipynb", "A.new.ipynb", "B.ipynb"]
    assert (folder / "A.new.ipynb").read_text() == notebook("newer = ...")


@pytest.mark.parametrize("work", [notebook("new = 1"), "{half a file"], ids=["edited", "damaged"])
def test_work_in_the_one_beside_stays_too(folder, shipped, again, work):
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    (shipped / "A.ipynb").write_text(notebook("new = ..."))
    again()
    (folder / "A.new.ipynb").write_text(work)
    (shipped / "A.ipynb").write_text(notebook("newer = ..."))
    assert again() == ["A.ipynb has a new version; yours is edited and stays, the new one is A.new2.ipynb."]
    assert (folder / "A.new.ipynb").read_text() == work
    assert (folder / "A.new2.ipynb").read_text() == notebook("newer = ...")


def test_whoever_takes_the_new_one_follows_again(folder, shipped, again):
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    (shipped / "A.ipynb").write_text(notebook("new = ..."))
    again()
    (folder / "A.new.ipynb").replace(folder / "A.ipynb")
    assert again() == []
    (shipped / "A.ipynb").write_text(notebook("newer = ..."))
    assert again() == []
    assert (folder / "A.ipynb").read_text() == notebook("newer = ...")


def test_whoever_takes_edits_back_follows_again(folder, shipped, again):
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    again()
    (folder / "A.ipynb").write_text(notebook("a = ..."))
    (shipped / "A.ipynb").write_text(notebook("new = ..."))
    assert again() == []
    assert (folder / "A.ipynb").read_text() == notebook("new = ...")


def test_a_deleted_notebook_comes_back_new(folder, shipped, again):
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    again()
    (folder / "A.ipynb").unlink()
    (shipped / "A.ipynb").write_text(notebook("new = ..."))
    assert again() == []
    assert (folder / "A.ipynb").read_text() == notebook("new = ...")


@pytest.mark.parametrize("text", ["", "{half a file", "[]", '{"cells": [1]}', '{"cells": null}', "[" * 100_000, "\x00"])
def test_a_damaged_notebook_counts_as_edited(folder, shipped, again, text):
    (folder / "A.ipynb").write_text(text)
    assert again() == ["A.ipynb cannot be read as a notebook and stays as it is; delete it to get a fresh one."]
    (shipped / "A.ipynb").write_text(notebook("new = ..."))
    assert len(again()) == 1
    assert (folder / "A.ipynb").read_text() == text
    assert (folder / "A.new.ipynb").read_text() == notebook("new = ...")


@pytest.mark.parametrize("text", [None, "{half", "[]", '{"A.ipynb": 1}', '{"A.ipynb": {"copied": 1}}'])
def test_without_a_record_what_differs_counts_as_edited(folder, shipped, again, text):
    (folder / RECORD).unlink() if text is None else (folder / RECORD).write_text(text)
    (folder / "A.ipynb").write_text(notebook("a = 1"))
    assert len(again()) == 1
    assert (folder / "A.ipynb").read_text() == notebook("a = 1")
    assert (folder / "B.ipynb").read_text() == notebook("b = ...")
    (shipped / "B.ipynb").write_text(notebook("new = ..."))
    assert again() == []  # B was as shipped, so it follows again
    assert (folder / "B.ipynb").read_text() == notebook("new = ...")


def test_other_files_are_left_alone(folder, shipped, again):
    (folder / "mine.ipynb").write_text(notebook("mine = 1"))
    (folder / "progress.json").write_text("{}")
    assert again() == []
    assert (folder / "mine.ipynb").read_text() == notebook("mine = 1")
    assert (folder / "progress.json").read_text() == "{}"


def test_sources_are_the_cells_in_order(tmp_path):
    def of(text):
        (tmp_path / "one.ipynb").write_text(text)
        return sources(tmp_path / "one.ipynb")

    cells = [{"cell_type": "code", "source": "a\nb", "metadata": {"x": 1}, "outputs": [1]}]
    assert of(notebook("a\nb")) == of(json.dumps({"cells": cells}))  # a text or a list of lines
    cells[0]["cell_type"] = "markdown"
    assert (
        len({of(notebook("a\nb")), of(json.dumps({"cells": cells})), of(notebook("a", "b")), of(notebook("b", "a"))})
        == 4
    )


def test_the_data_is_written_when_a_file_of_it_is_missing(tmp_path, shipped, monkeypatch):
    from stepfit.datasets import load_split

    lay_out(tmp_path, shipped)
    data = tmp_path / SECTION / "data"
    assert names(data) == sorted(DATA)
    assert load_split(data / "toy_data_two_moon.npz").x_train.shape == (600, 2)

    def unwanted(*args, **words):
        raise AssertionError("it is all there")

    monkeypatch.setattr(subprocess, "run", unwanted)
    lay_out(tmp_path, shipped)
    (data / DATA[0]).unlink()
    with pytest.raises(AssertionError, match="it is all there"):
        lay_out(tmp_path, shipped)


def test_a_folder_that_cannot_be_had_is_one_sentence(tmp_path, shipped):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"^.*file.*: .*, so the notebooks cannot be laid out in .*file; choose a folder"
    ):
        lay_out(tmp_path / "file", shipped)
