"""What is measured is kept: across kills, for the same search, and for no other."""

import json
import os
import signal
import subprocess
import sys

import pytest

from taia.errors import DataError, DestinationError
from taia.mending.journal import MEASURED, SEARCH_FILE, Journal, check_folder, digest

FACTS = {"base": {"model.safetensors": "a"}, "learn": [["mine.jsonl", "b"]], "seed": 0}


def test_what_was_put_is_there_for_the_next(tmp_path):
    first = Journal(tmp_path / "out", FACTS, overwrite=False)
    assert first.get("x") is None
    first.put("x", [1.5, [2]])
    again = Journal(tmp_path / "out", FACTS, overwrite=False)
    assert again.get("x") == [1.5, [2]]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 1}, "seed is another"),
        ({"base": {"model.safetensors": "c"}}, "base is another"),
        ({"learn": [["mine.jsonl", "c"]]}, "learn is another"),
        ({"budget": 60.0}, "budget was not told"),
    ],
)
def test_another_search_in_the_folder_is_refused_and_left_as_it_is(tmp_path, changed, told):
    Journal(tmp_path, FACTS, overwrite=False).put("x", 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(DestinationError, match=told):
        Journal(tmp_path, {**FACTS, **changed}, overwrite=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    fresh = Journal(tmp_path, {**FACTS, **changed}, overwrite=True)
    assert fresh.get("x") is None
    assert Journal(tmp_path, {**FACTS, **changed}, overwrite=False).get("x") is None


def test_overwriting_removes_what_belonged_to_the_other_search_alone(tmp_path):
    Journal(tmp_path, FACTS, overwrite=False).put("x", 1)
    for name in ("choice", "before", "after"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "some.json").write_text("{}")
    for name in ("mend.json", "report.html", "notes.txt"):
        (tmp_path / name).write_text("mine")
    Journal(tmp_path, {**FACTS, "seed": 9}, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {SEARCH_FILE, "notes.txt"}


@pytest.mark.parametrize("torn", ['{"key": "y", "val', '{"key"', "{", '{"key": "y", "value": 1}'])
def test_half_a_line_is_cut_off(tmp_path, torn):
    Journal(tmp_path, FACTS, overwrite=False).put("x", 1)
    with (tmp_path / MEASURED).open("a") as file:
        file.write(torn)
    again = Journal(tmp_path, FACTS, overwrite=False)
    assert (again.get("x"), again.get("y")) == (1, None)
    again.put("z", 2)
    lines = (tmp_path / MEASURED).read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["x", "z"]


@pytest.mark.parametrize("damage", ["nonsense", '{"value": 1}', "[]", "3"])
def test_a_damaged_line_is_named(tmp_path, damage):
    Journal(tmp_path, FACTS, overwrite=False).put("x", 1)
    with (tmp_path / MEASURED).open("a") as file:
        file.write(f"{damage}\n")
    with pytest.raises(DataError, match="line 2"):
        Journal(tmp_path, FACTS, overwrite=False)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(DestinationError):
            check_folder(tmp_path, [], overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_a_killed_process_loses_no_measurement(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from taia.mending.journal import Journal\n"
        f"journal = Journal(Path({str(tmp_path / 'out')!r}), {FACTS!r}, overwrite=False)\n"
        "for n in range(100_000):\n    journal.put(str(n), n)\n    print(n, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        told = [int(child.stdout.readline()) for _ in range(20)]
        os.kill(child.pid, signal.SIGKILL)
    again = Journal(tmp_path / "out", FACTS, overwrite=False)
    assert [again.get(str(n)) for n in told] == told


def test_a_hash_is_of_the_values():
    assert digest("a", 1, [2.0]) == digest("a", 1, [2.0])
    assert len({digest("a"), digest("b"), digest(["a"]), digest("a", "a"), digest()}) == 5
