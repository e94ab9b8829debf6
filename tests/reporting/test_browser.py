"""The report as a browser shows it: nothing sticks out, nothing goes wrong."""

from __future__ import annotations

import pytest

from browsers import BROWSER, look
from eval_runs import RATES, facts, result, results
from taia.analysis.norms import Norm, Norms
from taia.evaluation.scores.summary import Summary
from taia.reporting.html import render
from taia.reporting.runs import FinishedRun

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)

LONG = "attention[0:16] + 0.5*mlp + 0.25*norm[0:8]"


def norms(layers: int) -> Norms:
    """Of a model with a name that is too long for its column."""
    names = {"q_proj": 0.0, "a_projection_of_a_very_long_name": 0.1, "up_proj": 2.0}
    return Norms(
        "base",
        "tuned",
        tuple(
            Norm(layer, "mlp", name, size * (layer + 1), 9.0, 1)
            for layer in range(layers)
            for component, name, size in zip(
                ("attention", "mlp", "mlp"), names, (0.0, 0.1, 2.0), strict=True
            )
        ),
    )


RUNS = {
    "the paper's": [FinishedRun("run", Summary.of(results(), facts(results())), norms(48))],
    "few items": [
        FinishedRun("run", Summary.of(made, facts(made)), norms(2))
        for made in [
            [
                *results(),
                *(result("tiny", mode, [float(mode != "base")]) for mode in RATES),
                *(result("nats", mode, [0.7], "word_perplexity") for mode in RATES),
            ]
        ]
    ],
    "seeds": [
        FinishedRun(f"seed-{n}", Summary.of(made, facts(made)), None)
        for n in range(2)
        for made in [results(seed=n, items=40)]
    ],
    "long names": [
        FinishedRun(
            "Name-" * 40, Summary.of(made, facts(made, command="x" * 400, base="b" * 99)), norms(2)
        )
        for made in [
            [
                result(f"{'a_task_of_a_long_name_' * 3}{n}", mode, [float(n < 2), 0.0, 1.0])
                for n in range(4)
                for mode in ("base", "tuned", LONG, "taia")
            ]
        ]
    ],
}


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        ("the paper's", 390),
        ("the paper's", 1280),
        ("seeds", 390),
        ("long names", 390),
        ("long names", 1280),
        ("few items", 390),
    ],
)
def test_the_report_of_runs(tmp_path, kind, width):
    html = render(RUNS[kind], "taia report " + "a/long/path" * 40)
    found, console = look(tmp_path, html, width)
    assert (found["window"], found["page"]) == (width, width)
    assert found["cut"] == found["hidden"] == found["overlaps"] == []
    assert found["smallest"] >= 10
    # The average is read without scrolling: its heading, its cells, its rows.
    assert len(found["averages"]) >= 2
    assert all(found["averages"])
    assert console == []


def test_the_measure_finds_what_is_wrong(tmp_path):
    texts = '<text x="-20" y="9">far</text><text x="-18" y="9">over</text>'
    svg = f'<svg class="plot" viewBox="0 0 99 9">{texts}</svg>'
    row = "<tr><th style='min-width: 380px'>x</th><td class='sum'>1</td></tr>"
    table = f"<table><tbody>{row}</tbody></table>"
    wide = "<p style='width: 2000px; font-size: 9px'>wide</p>"
    scroll = f"<div class='scroll' aria-label='Table' style='overflow-x: auto'>{table}</div>"
    html = f"<!doctype html>{svg}{scroll}{wide}<script>nothing.there()</script>"
    found, console = look(tmp_path, html, 390)
    assert found["window"] == 390
    assert found["page"] > 1900
    assert (found["cut"], found["hidden"]) == (["far", "over"], ["Table"])
    assert found["overlaps"] == [["far", "over"]]
    assert found["smallest"] < 10
    assert found["averages"] == [False]
    assert len(console) == 1
    assert "nothing is not defined" in console[0]
