"""Markdown of runs, and the front matter of a model card as the hub reads it."""

from __future__ import annotations

import pytest

from eval_runs import RATES, facts, results
from taia.analysis.norms import Norm, Norms
from taia.evaluation.scores.summary import Summary
from taia.reporting.findings import findings
from taia.reporting.runs import FinishedRun
from taia.reporting.table import markdown
from taia.reporting.text import card, report
from taia.text import markdown as escape


def run(name: str = "run", seed: int = 0, **more) -> FinishedRun:
    made = results(seed=seed, items=50)
    norms = Norms("b", "t", (Norm(0, "mlp", "up", 1.0, 4.0, 1),))
    return FinishedRun(name, Summary.of(made, facts(made, **more)), norms)


def test_a_report_has_every_part():
    one = run()
    text = report([one])
    assert text.startswith("# What to keep of an update\n\n## base and tuned\n")
    assert markdown(one.summary) in text
    for sentence in findings(one.summary, one.norms):
        assert f"- {escape(sentence)}\n" in text
    assert "| mlp | 1 | 4 | 25 |" in text
    assert f"\n    {one.command}\n" in text
    assert "- base.model.safetensors: " + "ab" * 32 in text
    rows = [line for line in text.splitlines() if line.startswith("| csqa |")]
    assert len(rows) == 3  # among the differences, among what turned and among the tasks


def test_every_table_has_as_many_cells_in_every_row():
    lines = report([run("a"), run("b", 1)]).splitlines()
    tables = "\n".join(line if line.startswith("|") else "" for line in lines).split("\n\n")
    found = [table.strip().splitlines() for table in tables if table.strip()]
    assert len(found) == 1 + 2 * 5
    assert all(len({row.replace(r"\|", "").count("|") for row in table}) == 1 for table in found)
    assert "In several runs" not in lines
    assert sum(line.startswith("| taia | ") for line in found[0]) == 2


def test_the_hub_reads_the_card():
    yaml = pytest.importorskip("yaml")
    from huggingface_hub.repocard_data import model_index_to_eval_results

    one = run()
    _, front, body = card([one]).split("---\n", 2)
    index = yaml.safe_load(front)["model-index"]
    assert [entry["name"] for entry in index] == [f"tuned ({mode})" for mode in RATES]
    for mode, entry in zip(RATES, index, strict=True):
        _, read = model_index_to_eval_results([entry])
        values = {found.dataset_name: found.metric_value for found in read}
        assert values == {t: one.summary.score(mode, t).value for t in one.summary.tasks}
    assert body.startswith("\n## Evaluation\n")
    assert markdown(one.summary) in body


def test_hostile_names_stay_text():
    word = "<script>alert(1)</script>|`\n# x"
    text = report([run(word, command=f"taia\n{word}", base=word), run("other", 1)])
    assert not [
        line for line in text.splitlines() if "<script>" in line and not line.startswith("    ")
    ]
    assert "\n# x" not in text
