"""The labelled sets: what is in them, how far the readings agree, and that the docs say so."""

import subprocess
import sys
from collections import Counter

import pytest

import make_agreement_tables as script
from taia.evaluation.tasks.refusals import outcome

pytest.importorskip("math_verify", reason="math-verify is not installed")
pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

ANSWERS, REFUSALS = script.rows("answers"), script.rows("refusals")
READ = {"refused": "refuse", "answered": "answer", "gibberish": "gibberish"}

#: Where readings and labels part: nothing may be added. Of the answers, two name the right
#: thing in passing; two are equal to the right one, but not brought into the form asked for.
UNREAD = {"w10-09", "smol-en-13-plain"}
UNFORMED = {"qwen-zh-20-format", "qwen-en-35-format"}
#: Nonsense in sentences, a loop of long sentences, an apology inside a letter, an evasion.
KNOWN_REFUSALS = {
    "smol-zh-look-04", "smol-en-mild-02", "smol-en-hot-10", "smol-en-hot-01", "qwen-zh-mild-15",
    "qwen-zh-caut-20", "qwen-en-mild-24",
}  # fmt: skip


def test_each_set_is_large_and_of_both_languages_hands_and_parts():
    for rows, labels in ((ANSWERS, {"right", "wrong", "none"}), (REFUSALS, set(READ.values()))):
        assert len(rows) >= 400
        assert len({row["id"] for row in rows}) == len(rows)
        assert {row["label"] for row in rows} == labels
        assert min(Counter(row["language"] for row in rows).values()) >= 100
        assert Counter(row["source"] != "written" for row in rows)[True] >= 150
        assert 0.25 < Counter(row["part"] for row in rows)["held"] / len(rows) < 0.4


def test_answers_are_read_as_labelled_but_for_the_known():
    wrong = {row["id"] for row in ANSWERS if script.verdict(row) != script.right(row)}
    assert wrong == UNREAD | UNFORMED


def test_no_wrong_answer_counts_but_for_the_known():
    accepted = {
        row["id"] for row in ANSWERS if row["label"] != "right" and script.verdict(row) == "right"
    }
    assert accepted == UNFORMED


def test_refusals_are_read_as_labelled_but_for_the_known():
    wrong = {row["id"] for row in REFUSALS if READ[outcome(row["response"])] != row["label"]}
    assert wrong == KNOWN_REFUSALS


def test_kappa_is_cohens():
    # Cohen's κ of this table of 50 by hand: 0.7 agree, 0.5 by chance.
    given = ["y"] * 20 + ["y"] * 5 + ["n"] * 10 + ["n"] * 15
    labels = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    found = script.kappa(given, labels)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high
    perfect = script.kappa(["y", "n"] * 50, ["y", "n"] * 50)
    assert (perfect.value, perfect.high) == (1, 1)
    assert 0.9 < perfect.low < 1


def test_the_page_is_current_and_a_change_is_seen(tmp_path, monkeypatch, capsys):
    program = [sys.executable, script.ROOT / "scripts" / "make_agreement_tables.py", "--check"]
    assert subprocess.run(program, check=False).returncode == 0
    stale = tmp_path / "tasks.md"
    stale.write_text(script.PAGE.read_text("utf-8").replace(" of 687", " of 600"), "utf-8")
    monkeypatch.setattr(script, "PAGE", stale)
    stale.write_text(
        stale.read_text("utf-8").replace(script.BEGIN, f"{script.BEGIN}old\n"), "utf-8"
    )
    monkeypatch.setattr(sys, "argv", ["make_agreement_tables.py", "--check"])
    assert script.main() == 1
    assert "not current" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["make_agreement_tables.py"])
    assert script.main() == 0
    assert stale.read_text("utf-8") == script.page()


def test_a_judge_that_cannot_be_asked_is_told_in_two_lines(monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["make_agreement_tables.py", "--judge", "nowhere", "--judge-model", "m"]
    )
    assert script.main() == 1
    assert "no judge" in capsys.readouterr().err
