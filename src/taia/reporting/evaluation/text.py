"""Runs as Markdown: a report to read anywhere, and the section of a model card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from taia.evaluation.scores.summary import Summary
from taia.reporting.evaluation import joined
from taia.reporting.evaluation.findings import findings
from taia.reporting.evaluation.run import Run
from taia.reporting.evaluation.table import cells_row, markdown
from taia.reporting.evaluation.words import (
    LEGEND,
    MARKS,
    average_gap,
    direction,
    gap,
    items,
    ratio,
    sign,
    size,
    verdict,
)
from taia.reporting.words import pairs
from taia.text import markdown as escaped

_PAPER: Final = "https://arxiv.org/abs/2405.20192"


def report(runs: Sequence[Run]) -> str:
    """Runs as a Markdown document, all but the plots.

    Args:
        runs: Each is a section; those that are alike stand side by side first.
    """
    lines = ["# What to keep of an update", ""]
    if joined.are_alike(runs):
        lines += [*_bullets(joined.findings(runs)), *_together(runs)]
    for run in runs:
        lines += [f"## {escaped(run.name if len(runs) > 1 else run.models)}", "", *_run(run)]
    return "\n".join(lines)


def card(runs: Sequence[Run]) -> str:
    """What a model card says of runs: its front matter's ``model-index``, and a section.

    In the front matter, scores are as the tasks count them: fractions, not percent.

    Args:
        runs: Each is a section of its own.
    """
    index = [entry for run in runs for entry in _index(run)]
    lines = ["---", "tags:", "- taia", f"model-index: {json.dumps(index)}", "---", ""]
    for run in runs:
        lines += [
            "## Evaluation",
            "",
            f"Modes of one update ([TAIA]({_PAPER})): a mode keeps a part of what fine-tuning "
            f"changed in {escaped(str(run.facts.get('base')))}.",
            "",
            *_scores(run.summary),
            *_bullets(findings(run.summary, run.norms)),
            *_command(run),
        ]
    return "\n".join(lines)


def _run(run: Run) -> Iterator[str]:
    yield from _bullets(findings(run.summary, run.norms))
    yield from _scores(run.summary)
    yield from _differences(run.summary)
    yield from _tasks(run.summary)
    if run.norms is not None:
        yield from _update(run)
    yield from _command(run)
    for heading, values in run.sections.items():
        yield from (f"### {heading}", "")
        yield from (f"- {escaped(name)}: {escaped(value)}" for name, value in values.items())
        yield ""


def _bullets(sentences: Sequence[str]) -> list[str]:
    return [*(f"- {escaped(sentence)}" for sentence in sentences), ""]


def _scores(summary: Summary) -> list[str]:
    legend = [LEGEND, ""] if pairs(summary.modes) else []
    return ["Scores in percent with standard errors.", "", markdown(summary), *legend]


def _differences(summary: Summary) -> Iterator[str]:
    compared = pairs(summary.modes)
    if not compared:
        return
    yield from ("### Differences", "", "On the same items, with 95% intervals.", "")
    yield from _head(["task", *(f"{mode} − {other}" for mode, other in compared)])
    for task in summary.tasks:
        name = f"{task} {direction(summary, task)}".strip()
        found = [
            _marked(verdict(summary, *pair, task), gap(summary, *pair, task)) for pair in compared
        ]
        yield cells_row([name, *found])
    if len(summary.averaged) > 1:
        found = [
            _marked(sign(summary.average_difference(*pair)), average_gap(summary, *pair))
            for pair in compared
        ]
        yield cells_row(["average", *found])
    yield ""


def _marked(how: int, words: str) -> str:
    return f"{MARKS[how]} {words}" if how else words


def _tasks(summary: Summary) -> Iterator[str]:
    yield from ("### Tasks", "")
    yield from _head(["task", "items", "metric", "protocol", "version"])
    for task in summary.tasks:
        about = summary.about[task]
        number = str(items(summary, task))
        yield cells_row([task, number, about.metric, about.protocol, about.version])
    yield ""


def _update(run: Run) -> Iterator[str]:
    norms = run.norms
    assert norms is not None
    yield from ("### Where the update lives", "")
    yield from _head(["component", "‖ΔW‖", "‖W‖", "ratio, %"])
    for norm in norms.by_component:
        numbers = (size(norm.update), size(norm.weight), ratio(norm))
        yield cells_row([norm.component, *numbers])
    yield ""
    yield from _bullets(norms.notes) if norms.notes else ()


def _command(run: Run) -> list[str]:
    # Four spaces are code whatever is in it; a fence could be closed by the command itself.
    return ["Measured with", "", *(f"    {line}" for line in run.command.splitlines()), ""]


def _together(runs: Sequence[Run]) -> Iterator[str]:
    yield from ("## Side by side", "")
    yield from _head(["mode", "run", *joined.columns(runs)])
    for mode, by_run in joined.side_by_side(runs).items():
        for name, cells in by_run.items():
            yield cells_row([mode, name, *cells])
    yield ""


def _head(names: Sequence[str]) -> list[str]:
    return [cells_row(names), cells_row(["---", *["---:"] * (len(names) - 1)])]


def _index(run: Run) -> Iterator[dict[str, Any]]:
    """One entry of ``model-index`` for each mode."""
    summary = run.summary
    tuned = str(run.facts.get("tuned") or run.facts.get("base") or run.name)
    name = tuned.rstrip("/").rpartition("/")[2]
    for mode in summary.modes:
        results = [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": task, "type": task},
                "metrics": [
                    {
                        "type": summary.about[task].metric,
                        "name": summary.about[task].metric,
                        "value": summary.score(mode, task).value,
                    }
                ],
            }
            for task in summary.tasks
            if summary.has(mode, task)
        ]
        yield {"name": f"{name} ({mode})", "results": results}
