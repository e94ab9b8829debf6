"""``taia mend`` as it is typed."""

import json

import pytest

pytest.importorskip("lm_eval", reason="needs taia[eval]")

import tiny_harmed
from cli_runner import inside
from taia import Selection


@pytest.fixture(scope="module")
def harmed(tmp_path_factory):
    return tiny_harmed.build(tmp_path_factory.mktemp("harmed"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mended") / "out"


@pytest.fixture
def typed(harmed, folder):
    def run(*more, code=0):
        given = (harmed.base, harmed.tuned, "--learn", harmed.learn, "--keep", harmed.rows)
        return inside("mend", *given, "--output", str(folder), "--budget", "12s", *more, code=code)

    return run


def test_four_answers_a_page_and_the_way_on(typed, folder):
    done = typed()
    for number, question in enumerate(("Is the", "What would", "Which one", "What to"), 1):
        assert f"{number}. {question}" in done.stdout
    assert "Yes: it lost something." in done.stdout
    assert "taia compose" in done.stdout
    assert f"The choice is {folder / 'choice'}" in done.stdout
    assert f"The report is {folder / 'report.html'}" in done.stdout
    assert {path.name for path in folder.iterdir()} == {
        *("choice", "keep.txt", "measured.jsonl", "mend.json", "report.html", "search.json"),
    }
    assert "Trying candidates" in done.stderr
    keep = (folder / "keep.txt").read_text().strip()
    assert keep == json.loads((folder / "mend.json").read_text())["choice"]["selection"]


def test_json_is_what_the_issue_says_and_nothing_else(typed):
    found = json.loads(typed("--json").stdout)
    assert found["worse"] is True
    assert all(Selection.parse(row["selection"]) and row["name"] for row in found["candidates"])
    assert set(found["choice"]) <= {"name", "selection", "method"}
    assert isinstance(found["why"], str)


def test_the_page_is_made_again_from_the_folder(typed, folder, tmp_path):
    typed()
    page = tmp_path / "again.html"
    inside("report", str(folder), "--output", str(page))
    assert page.read_text() == (folder / "report.html").read_text()
    told = inside("report", str(folder), "--format", "csv", code=2).stderr
    assert "as a page by itself" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [(("--seed", "3"), "another search"), (("--budget", "nonsense"), "is no time")],
)
def test_what_cannot_be_is_two_lines_and_changes_nothing(typed, folder, more, told):
    typed()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = typed(*more, code=2).stderr
    assert told in said
    assert len(said[said.index("taia: ") :].rstrip().splitlines()) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
