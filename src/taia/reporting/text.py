"""Runs as Markdown: a report to read anywhere, and the section of a model card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from taia.evaluation.scores.summary import Summary
from taia.reporting import update
from taia.reporting.findings import findings, other_readings
from taia.reporting.runs import FinishedRun, are_alike, columns, run_to_run, side_by_side
from taia.reporting.table import cells_row, markdown, turned_tasks
from taia.reporting.words import (
    AVERAGE,
    LEGEND,
    average_gap,
    direction,
    gap,
    guessed,
    items,
    marked,
    pairs,
    role,
    scope,
    turned,
    unit,
    without_error,
)
from taia.text import markdown as escaped

_PAPER: Final = "https://arxiv.org/abs/2405.20192"


def report(runs: Sequence[FinishedRun]) -> str:
    """Runs as a Markdown document, all but the plots.

    Args:
        runs: Each is a section; those that are alike stand side by side first.
    """
    lines = ["# What to keep of an update", ""]
    if are_alike(runs):
        lines += [*_bullets(run_to_run(runs)), *_together(runs)]
    for run in runs:
        lines += [f"## {escaped(run.name if len(runs) > 1 else run.models)}", "", *_run(run)]
    return "\n".join(lines)


def card(runs: Sequence[FinishedRun]) -> str:
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


def _run(run: FinishedRun) -> Iterator[str]:
    yield from _bullets(findings(run.summary, run.norms))
    yield from _scores(run.summary)
    yield from _differences(run.summary)
    yield from _tasks(run.summary)
    if otherwise := other_readings(run.summary):
        yield from ("### Other readings of a refusal", "", *_bullets(otherwise))
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
    alone = [escaped(without_error(summary)), ""] if without_error(summary) else []
    said = f"Scores {unit(summary)}, with standard errors. {escaped(scope(summary))}."
    return [said, "", markdown(summary), *legend, *alone]


def _differences(summary: Summary) -> Iterator[str]:
    compared = pairs(summary.modes)
    if not compared:
        return
    yield from ("### Differences", "", "On the same items, with 95% intervals.", "")
    yield from _head(["task", *(f"{mode} − {other}" for mode, other in compared)])
    if len(summary.averaged) > 1:
        found = [
            marked(summary.average_difference(*pair), average_gap(summary, *pair))
            for pair in compared
        ]
        yield cells_row([AVERAGE, *found])
    for task in summary.tasks:
        name = f"{task} {direction(summary, task)}".strip()
        found = [
            marked(summary.difference(*pair, task), gap(summary, *pair, task)) for pair in compared
        ]
        yield cells_row([name, *found])
    yield ""
    yield from _turned(summary, compared)


def _turned(summary: Summary, compared: Sequence[tuple[str, str]]) -> Iterator[str]:
    tasks = turned_tasks(summary)
    if not tasks:
        return
    told = "How many answers only the first (+) and only the second (−) of two modes has right"
    guesses = any(guessed(summary, *pair, t) for pair in compared for t in tasks)
    told += ", and how many either way guessing alone makes." if guesses else "."
    yield from ("### What turned", "", told, "")
    yield from _head(["task", *(f"{mode} − {other}" for mode, other in compared)])
    for task in tasks:
        yield cells_row([task, *(_with_guesses(summary, *pair, task) for pair in compared)])
    yield ""


def _with_guesses(summary: Summary, mode: str, other: str, task: str) -> str:
    by_chance = guessed(summary, mode, other, task)
    shown = turned(summary, mode, other, task)
    return f"{shown} (guessing {by_chance})" if by_chance else shown


def _tasks(summary: Summary) -> Iterator[str]:
    yield from ("### Tasks", "")
    yield from _head(["task", "items", "counts as", "metric", "protocol", "version"])
    for task in summary.tasks:
        about = summary.about[task]
        counts = [str(items(summary, task)), role(summary, task)]
        yield cells_row([task, *counts, about.metric, about.protocol, about.version])
    yield ""


def _update(run: FinishedRun) -> Iterator[str]:
    norms = run.norms
    assert norms is not None
    yield from ("### Where the update lives", "")
    yield from _head(["component", *update.HEADINGS])
    for norm in norms.by_component:
        yield cells_row([norm.component, *update.numbers(norm, norms)])
    yield ""
    yield from _bullets(norms.notes) if norms.notes else ()


def _command(run: FinishedRun) -> list[str]:
    # Four spaces are code whatever is in it; a fence could be closed by the command itself.
    return ["Measured with", "", *(f"    {line}" for line in run.command.splitlines()), ""]


def _together(runs: Sequence[FinishedRun]) -> Iterator[str]:
    yield from ("## Side by side", "")
    yield from _head(["mode", "run", *columns(runs)])
    for mode, by_run in side_by_side(runs).items():
        for name, cells in by_run.items():
            yield cells_row([mode, name, *cells])
    yield ""


def _head(names: Sequence[str]) -> list[str]:
    return [cells_row(names), cells_row(["---", *["---:"] * (len(names) - 1)])]


def _index(run: FinishedRun) -> Iterator[dict[str, Any]]:
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
