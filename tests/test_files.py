"""whole_file(): a file is there whole or not at all, whatever ends the writing."""

import os

import pytest

from stepfit.files import whole_file


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "result.npy"
    path.write_text("old")

    def write_half():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("result.npy", "old")]


def test_the_bytes_are_on_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    path = tmp_path / "result.txt"
    path.write_text("old")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(path.read_text()))
    with whole_file(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
    assert seen == ["old"]
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("result.txt", "new")]
