"""A run's table: in the terminal, as Markdown, as CSV read back."""

from __future__ import annotations

import csv as tables
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from eval_runs import RATES, TASKS, facts, result, results
from taia.evaluation.scores.summary import Summary
from taia.reporting.table import COLUMNS, csv, markdown, render
from taia.text import markdown as escape
from taia.text import printable


def summary(made=None, **more) -> Summary:
    made = results() if made is None else made
    return Summary.of(made, facts(made, **more))


def shown(made: Summary, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(render(made))
    return console.file.getvalue().splitlines()


@pytest.fixture(scope="module")
def said():
    return summary()


def test_wide_terminals_have_modes_in_rows(said):
    lines = shown(said, 140)
    assert lines[0] == "Scores in percent, with their standard errors; ↓ lower is better"
    heads = ["average", *TASKS, "advbench", "↓", "lookalikes", "↓"]
    assert lines[2].split() == ["mode", *heads]
    taia = next(line for line in lines if line.strip().startswith("taia "))
    wanted = [f"{100 * said.score('taia', task).value:.1f}" for task in TASKS]
    assert taia.split()[3::2][: len(TASKS)] == wanted
    assert taia.split()[1] == f"{100 * said.average('taia').value:.1f}"


@pytest.mark.parametrize("width", [80, 60])
def test_narrow_terminals_have_tasks_in_rows_and_nothing_is_cut(said, width):
    lines = shown(said, width)
    assert max(map(len, lines)) <= width
    assert ["task", *RATES] in [line.split() for line in lines]
    text = "\n".join(lines)
    assert "…" not in text
    for task in said.tasks:
        line, *turned = (line for line in lines if line.split()[:1] == [task])
        for mode in RATES:
            assert f"{100 * said.score(mode, task).value:.1f}" in line
        flips = said.difference("tuned", "base", task).flips
        assert turned[0].split()[1] == f"+{flips.gained.count}"
        assert f"−{flips.lost.count}" in "\n".join(lines[lines.index(turned[0]) :][:2])


def test_marks_say_what_is_really_better_and_worse(said):
    lines = shown(said, 80)
    at = next(n for n, line in enumerate(lines) if line.strip().startswith("advbench"))
    # Fewer attacks succeed than in tuned, and more than in base.
    assert lines[at + 1].split() == ["▲b", "▲b▼t", "▲b▼t"]
    assert said.difference("taia", "tuned", "advbench").value < 0
    assert any("Holm" in line for line in lines)


def test_without_base_and_tuned_nothing_is_marked():
    one = summary([result("csqa", "taia", [1.0] * 30), result("csqa", "half", [0.0] * 30)])
    text = "\n".join(shown(one, 80))
    assert "▲" not in text
    assert "Holm" not in text
    assert "average" not in text


def test_scores_that_are_no_shares_and_scores_that_are_missing():
    made = [
        result("perplexity", "base", [12.345, 14.0], "word_perplexity"),
        result("csqa", "tuned", [1.0]),
    ]
    text = "\n".join(shown(summary(made), 80))
    assert "13.17 ±0.83" in text
    assert text.count("–") == 2
    assert "base has no result of csqa" in text


def test_markdown_is_a_table_whatever_the_names():
    hostile = "<script>|`*_[x](y)\n| a |"
    made = summary([result(hostile, hostile, [1.0, 0.0])])
    lines = markdown(made).splitlines()
    assert len(lines) == 3
    cells = [[c.strip() for c in unescaped(line)] for line in lines]
    assert [len(row) for row in cells] == [2, 2, 2]
    assert "<script>" not in markdown(made).replace(r"\<script\>", "")
    assert cells[2] == [" ".join(hostile.split()), "50.0 ±50.0"]


def unescaped(line: str) -> list[str]:
    """The cells of a row, read as Markdown reads them."""
    cells, escaped = [""], False
    for character in line.strip().removeprefix("|").removesuffix("|"):
        if character == "|" and not escaped:
            cells.append("")
        elif character == "\\" and not escaped:
            escaped = True
            continue
        else:
            cells[-1] += character
        escaped = False
    return cells


@given(st.text(max_size=30))
def test_what_is_escaped_reads_as_it_was(words):
    (cell,) = unescaped(f"| {escape(words)} |")
    assert cell.strip() == printable(" ".join(words.split()))


def test_csv_reads_back(said):
    text = csv(("a", said), ('b,"c"\n', said))
    rows = list(tables.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 2 * 4 * 10
    assert {row["run"] for row in rows} == {"a", 'b,"c"\n'}
    by_place = {(row["run"], row["mode"], row["task"]): row for row in rows}
    for mode in RATES:
        for task in said.tasks:
            row, score = by_place["a", mode, task], said.score(mode, task)
            assert float(row["score"]) == score.value
            assert (float(row["low"]), float(row["high"])) == (score.low, score.high)
            assert float(row["standard_error"]) == score.standard_error
            assert (int(row["items"]), row["selection"]) == (300, said.selections[mode])
            change = said.difference(mode, "tuned", task)
            if mode == "tuned":
                assert row["minus_tuned"] == row["minus_tuned_real"] == ""
            else:
                assert float(row["minus_tuned"]) == change.value
                assert float(row["minus_tuned_p_holm"]) == change.corrected
                assert row["minus_tuned_real"] == str(change.is_real)
                right = [change.flips.gained.count, change.flips.lost.count]
                counts = [int(row[f"minus_tuned_{way}"]) for way in ("gained", "lost")]
                assert counts == right
                assert row["minus_tuned_guessed"] == ""  # nothing to choose from
        average = by_place["a", mode, "average"]
        assert float(average["score"]) == said.average(mode).value
        if mode != "tuned":
            apart = said.average_difference(mode, "tuned")
            assert float(average["minus_tuned_p"]) == apart.p_value
            assert average["minus_tuned_real"] == str(apart.is_real)


def test_many_tasks_of_long_names_still_fit():
    draw = random.Random(0)
    made = [
        result(f"a_task_of_a_long_name_{n}", mode, [float(draw.random() < 0.5) for _ in range(20)])
        for n in range(30)
        for mode in ("base", "tuned", "attention[0:16] + 0.5*mlp")
    ]
    assert max(map(len, shown(summary(made), 80))) <= 80
