"""What is said while working, and where."""

from __future__ import annotations

import io
import re

from rich.console import Console

from taia.reporting.progress import copying, unwatched, watched

LONG = "Asking re:'[a-z]_proj' + " + " + ".join(f"attention[{n}]" for n in range(12))


def test_outside_a_terminal_each_work_is_one_line(capsys):
    with watched(Console(stderr=True)) as watch:
        watch("Loading the model")
        for step in range(5):
            watch("Fine-tuning", step, 4)
        for step in range(3):
            watch(LONG, step, 2)
        watch("Fine-tuning", 4, 4)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["Loading the model …", "Fine-tuning …", f"{LONG} …"]


def test_outside_a_terminal_long_work_is_a_line_each_tenth(capsys):
    with watched(Console(stderr=True)) as watch:
        for step in range(41):
            watch("Training", step, 40)
        watch("Training", 40, 40)
    tenths = [f"Training: {4 * tenth} of 40" for tenth in range(1, 11)]
    assert capsys.readouterr().err.splitlines() == ["Training …", *tenths]


def test_in_a_terminal_each_work_is_a_bar_that_ends_full():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with watched(console) as watch:
        watch("Loading [a-z]")
        watch("Fine-tuning", 1, 4)
        watch("Fine-tuning", 4, 4)
        watch("Writing")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    last = [line for line in plain.splitlines() if "━" in line][-3:]
    works = [line.split("━")[0].strip() for line in last]
    assert works == ["✓ Loading [a-z]", "✓ Fine-tuning", "✓ Writing"]
    assert [re.findall(r"\d/\d", line) for line in last] == [["1/1"], ["4/4"], ["1/1"]]


def test_unwatched_says_nothing(capsys):
    unwatched("Loading", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_no_bar_of_bytes_outside_a_terminal():
    console = Console(file=io.StringIO())
    with copying(console) as told:
        assert told is None
    assert console.file.getvalue() == ""


def test_a_bar_of_bytes_in_a_terminal():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with copying(console) as told:
        told(1_000_000, 2_000_000)
    assert "1.0/2.0 MB" in console.file.getvalue()
