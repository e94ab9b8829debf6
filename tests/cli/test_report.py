"""`taia report`: what it writes where, and what it refuses."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

import pytest

from cli_runner import inside
from eval_runs import result, results, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", results(items=40))


def test_a_page_is_written(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = inside("report", str(run))
    assert done.stdout == "The report is report.html\n"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert f"taia report {run}" in page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_text_goes_to_stdout_or_to_a_file(run, tmp_path):
    for form, start in (("markdown", "# What to keep"), ("csv", "run,mode,"), ("card", "---\n")):
        shown = inside("report", str(run), "--format", form).stdout
        assert shown.startswith(start)
        target = tmp_path / form / "out"
        inside("report", str(run), "--format", form, "--output", str(target))
        assert target.read_text(encoding="utf-8") == shown


@pytest.mark.parametrize("form", ["html", "markdown", "csv"])
def test_a_dash_is_stdout_and_no_file(run, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    shown = inside("report", str(run), "--format", form, "-o", "-").stdout
    inside("report", str(run), "--format", form, "-o", "file")
    assert shown == (tmp_path / "file").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_several_runs(run, tmp_path):
    other = write_run(tmp_path / "other", results(items=40, seed=1))
    shown = inside("report", str(run), str(other), "--format", "csv").stdout
    assert {row["run"] for row in csv.DictReader(io.StringIO(shown))} == {"run", "other"}


def test_nothing_is_overwritten_unasked(run, tmp_path):
    target = tmp_path / "report.html"
    target.write_text("mine")
    refused = inside("report", str(run), "-o", str(target), code=2)
    assert refused.stderr.splitlines()[0] == f"taia: The output {target} exists already."
    assert target.read_text() == "mine"
    inside("report", str(run), "-o", str(target), "--overwrite")
    assert target.read_text().startswith("<!doctype html>")
    assert "is a folder" in inside("report", str(run), "-o", str(tmp_path), code=2).stderr


def test_what_is_no_run_is_refused(run, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        refused = inside("report", str(run), str(folder), "--format", "csv", code=2)
        assert len(refused.stderr.splitlines()) == 2
        assert str(folder) in refused.stderr
    odd = write_run(tmp_path / "odd", [result("a", "base", [1.0]), result("a", "b", [1.0], "f1")])
    refused = inside("report", str(odd), "-o", str(tmp_path / "x.html"), code=2)
    assert "different rules" in refused.stderr
    assert not (tmp_path / "x.html").exists()


#: Makes a page of a run, and fails where that has loaded torch.
_PAGE = """
import sys
from pathlib import Path
from taia.reporting.html import render
from taia.reporting.runs import open_runs
render(open_runs([Path(sys.argv[1])]), "")
assert "torch" not in sys.modules
"""


def test_it_does_not_wait_for_torch(run):
    subprocess.run([sys.executable, "-c", _PAGE, str(run)], check=True)
