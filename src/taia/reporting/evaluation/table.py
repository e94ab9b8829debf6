"""A run as a table: in the terminal, as Markdown, as CSV."""

from __future__ import annotations

import csv as tables
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

from taia.evaluation.scores.statistics import Estimate
from taia.evaluation.scores.summary import Summary
from taia.reporting.evaluation.words import (
    AVERAGE,
    LEGEND,
    average_marks,
    direction,
    error,
    marks,
    mean,
    score,
    spread,
)
from taia.reporting.screen import Text
from taia.text import markdown as escaped

#: Of the CSV, in this order.
COLUMNS: Final = (
    *("run", "mode", "selection", "task", "metric", "higher_is_better", "items"),
    *("score", "low", "high", "standard_error"),
    *(
        f"minus_{other}{part}"
        for other in ("base", "tuned")
        for part in ("", "_low", "_high", "_p", "_p_holm", "_real")
    ),
)


def render(summary: Summary) -> RenderableType:
    """For the terminal: modes in rows; tasks in rows where that would be too wide."""
    return _Fitting(summary)


def markdown(summary: Summary) -> str:
    """As a Markdown table, modes in rows."""
    columns = _columns(summary)
    head = ["mode", *(f"{name} {direction}".strip() for name, direction in columns)]
    lines = [cells_row(head), cells_row(["---", *["---:"] * len(columns)])]
    for mode in summary.modes:
        cells = [
            " ".join(part for part in (shown, error, mark) if part)
            for shown, error, mark in _cells(summary, mode)
        ]
        lines.append(cells_row([mode, *cells]))
    return "\n".join(lines) + "\n"


def csv(*runs: tuple[str, Summary]) -> str:
    """As CSV: a row for each run, mode and task, and for the average.

    Scores and differences are fractions where the task's scores are shares. A field that is not
    known is empty.

    Args:
        *runs: Each run's name and summary.
    """
    out = io.StringIO()
    writer = tables.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name, summary in runs:
        for row in _records(summary):
            writer.writerow({"run": name, **row})
    return out.getvalue()


def cells_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(escaped, cells))} |"


class _Fitting:
    """The table that fits the terminal, and the legend under it."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = _wide(self._summary)
        roomy = options.update(width=10_000)
        fits = console.measure(wide, options=roomy).maximum <= options.max_width
        yield Text("Scores in percent, with their standard errors; ↓ lower is better\n", "bold")
        yield wide if fits else _tall(self._summary)
        yield ""
        if {"base", "tuned"} & set(self._summary.modes) and len(self._summary.modes) > 1:
            yield Text(LEGEND, "dim")
        for note in self._summary.notes:
            yield Text(f"• {note}")


def _wide(summary: Summary) -> Table:
    table = _empty()
    table.add_column("mode", style="bold")
    for name, lower in _columns(summary):
        table.add_column(Text(f"{name} {lower}".strip()), justify="right")
    for mode in summary.modes:
        table.add_row(Text(mode), *map(_cell, _cells(summary, mode)))
    return table


def _tall(summary: Summary) -> Table:
    table = _empty()
    table.add_column("task", style="bold", overflow="fold")
    for mode in summary.modes:
        table.add_column(Text(mode), justify="right", overflow="fold")
    by_mode = [_cells(summary, mode) for mode in summary.modes]
    for (name, lower), *cells in zip(_columns(summary), *by_mode, strict=True):
        if name == AVERAGE or name in summary.safety[:1]:
            table.add_section()
        table.add_row(Text(f"{name} {lower}".strip()), *map(_cell, cells))
    return table


def _empty() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, 1),
    )


def _cell(parts: tuple[str, str, str]) -> Text:
    shown, error, mark = parts
    text = Text(shown)
    if error:
        text.append(f" {error}", "dim")
    if mark:
        text.append(f"\n{mark}", "bold")
    return text


def _columns(summary: Summary) -> list[tuple[str, str]]:
    """Each column's name, and ``↓`` where lower is better."""
    names = [(task, direction(summary, task)) for task in summary.tasks]
    if summary.average(summary.modes[0]) is not None:
        names.insert(len(summary.averaged), (AVERAGE, ""))
    return names


def _cells(summary: Summary, mode: str) -> list[tuple[str, str, str]]:
    """For each column: the score, its standard error, and the marks."""
    cells = [
        (score(summary, mode, task), error(summary, mode, task), marks(summary, mode, task))
        for task in summary.tasks
    ]
    average = summary.average(mode)
    if average is not None:
        shown = (mean(average), spread(average.standard_error), average_marks(summary, mode))
        cells.insert(len(summary.averaged), shown)
    return cells


def _records(summary: Summary) -> Iterator[dict[str, Any]]:
    for mode in summary.modes:
        shared = {"mode": mode, "selection": summary.selections[mode]}
        for task in summary.tasks:
            if summary.has(mode, task):
                yield {**shared, **_task_record(summary, mode, task)}
        average = summary.average(mode)
        if average is not None:
            record = {**shared, "task": AVERAGE, "metric": "mean", "higher_is_better": True}
            record["items"] = len(summary.averaged)
            record["standard_error"] = _number(average.standard_error)
            record |= _interval("", average, "score")
            for other in ("base", "tuned"):
                if found := summary.average_difference(mode, other):
                    record |= _interval(f"minus_{other}", found)
                    record[f"minus_{other}_p"] = _number(found.p_value)
                    record[f"minus_{other}_real"] = found.is_real
            yield record


def _task_record(summary: Summary, mode: str, task: str) -> dict[str, Any]:
    found, about = summary.score(mode, task), summary.about[task]
    record = {
        "task": task,
        "metric": about.metric,
        "higher_is_better": about.higher_is_better,
        "items": found.items,
        "standard_error": _number(found.standard_error),
        **_interval("", found, "score"),
    }
    for other in ("base", "tuned"):
        if change := summary.difference(mode, other, task):
            record |= _interval(f"minus_{other}", change)
            record[f"minus_{other}_p"] = _number(change.p_value)
            record[f"minus_{other}_p_holm"] = _number(change.corrected)
            record[f"minus_{other}_real"] = change.is_real
    return record


def _interval(name: str, estimate: Estimate, value: str = "") -> dict[str, Any]:
    before = f"{name}_" if name else ""
    return {
        value or name: _number(estimate.value),
        f"{before}low": _number(estimate.low),
        f"{before}high": _number(estimate.high),
    }


def _number(value: float | None) -> float | str:
    return "" if value is None or math.isnan(value) else value
