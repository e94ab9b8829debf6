"""A file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from taia.checkpoint.output.staging import check_file, write_file
from taia.errors import DestinationError, OutputError


def test_written_with_its_folders_and_nothing_beside(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_file(path, "−1\n")
    write_file(path, "−2\udcff\n")
    assert path.read_bytes() == "−2\\udcff\n".encode()
    assert [other.name for other in path.parent.iterdir()] == ["b.txt"]


def test_what_was_there_stays_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "b.txt"
    path.write_text("old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="disk filled up"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [other.name for other in tmp_path.iterdir()] == ["b.txt"]


def test_what_may_be_written(tmp_path):
    path = tmp_path / "b.txt"
    check_file(path, overwrite=False)
    path.write_text("old")
    check_file(path, overwrite=True)
    with pytest.raises(DestinationError, match="exists already"):
        check_file(path, overwrite=False)
    with pytest.raises(DestinationError, match="is a folder"):
        check_file(tmp_path, overwrite=True)
