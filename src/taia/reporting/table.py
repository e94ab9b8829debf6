"""A run as a table: in the terminal, as Markdown, as CSV."""

from __future__ import annotations

import csv as tables
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table

from taia.evaluation.scores.statistics import Estimate
from taia.evaluation.scores.summary import Summary
from taia.reporting.screen import Text
from taia.reporting.words import (
    AVERAGE,
    LEGEND,
    average_marks,
    chance,
    direction,
    error,
    flipped,
    guessed,
    marks,
    mean,
    pairs,
    scope,
    score,
    spread,
    turned,
    unit,
    without_error,
)
from taia.text import markdown as escaped

#: What a cell holds: the score, its standard error, and each mark with whether it is better.
_Cell: TypeAlias = tuple[str, str, Sequence[tuple[str, int]]]
#: Better and worse in a terminal.
_STYLES: Final = {1: "bold green", -1: "bold red"}

#: Of the CSV, in this order.
COLUMNS: Final = (
    *("run", "mode", "selection", "task", "metric", "higher_is_better", "items"),
    *("score", "low", "high", "standard_error"),
    *(
        f"minus_{other}{part}"
        for other in ("base", "tuned")
        for part in ("", "_low", "_high", "_p", "_p_holm", "_real", "_gained", "_lost", "_guessed")
    ),
)


def render(summary: Summary) -> RenderableType:
    """For the terminal: modes in rows; tasks in rows where that would be too wide."""
    return _Fitting(summary)


def markdown(summary: Summary) -> str:
    """As a Markdown table, modes in rows."""
    columns = _columns(summary)
    head = ["mode", *(f"{name} {lower}".strip() for name, lower in columns)]
    lines = [cells_row(head), cells_row(["---", *["---:"] * len(columns)])]
    for mode in summary.modes:
        cells = [
            " ".join(filter(None, (shown, spread, "".join(mark for mark, _ in found))))
            for shown, spread, found in _cells(summary, mode)
        ]
        lines.append(cells_row([mode, *cells]))
    if found := guesses(summary):
        lines.append(cells_row(["guessing", *found]))
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


def guesses(summary: Summary) -> list[str]:
    """For each column what guessing gives; nothing where that is known of none."""
    found = {task: chance(summary, task) for task in summary.tasks}
    if not any(found.values()):
        return []
    cells = ["–" if odds is None else f"{100 * odds:.0f}" for odds in found.values()]
    averaged = [odds for task in summary.averaged if (odds := found[task]) is not None]
    if len(summary.averaged) < 2:
        return cells
    known = len(averaged) == len(summary.averaged)
    return [f"{100 * math.fsum(averaged) / len(averaged):.0f}" if known else "–", *cells]


def turned_tasks(summary: Summary) -> list[str]:
    """Tasks in which two modes that are compared have items that are right or wrong."""
    compared = pairs(summary.modes)
    return [t for t in summary.tasks if any(turned(summary, *p, t) != "–" for p in compared)]


class _Fitting:
    """The table that fits the terminal, what turned, and the legend."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        summary = self._summary
        wide = _wide(summary)
        roomy = options.update(width=10_000)
        fits = console.measure(wide, options=roomy).maximum <= options.max_width
        yield Text(
            f"Scores {unit(summary)}, with their standard errors; ↓ lower is better\n", "bold"
        )
        yield wide if fits else _tall(summary)
        yield ""
        if (table := _turned(summary)) is not None:
            yield Text("Answers that only the first (+) or only the second (−) has right\n", "bold")
            yield table
            yield ""
        if {"base", "tuned"} & set(summary.modes) and len(summary.modes) > 1:
            yield Text(LEGEND, "dim")
        yield Text(f"{scope(summary)}.", "dim")
        for note in filter(None, (without_error(summary), *summary.notes)):
            yield Text(f"• {note}")


def _wide(summary: Summary) -> Table:
    table = _empty()
    table.add_column("mode", style="bold")
    for name, lower in _columns(summary):
        table.add_column(Text(f"{name} {lower}".strip()), justify="right")
    for mode in summary.modes:
        table.add_row(Text(mode), *map(_cell, _cells(summary, mode)))
    if found := guesses(summary):
        table.add_row("guessing", *found, style="dim")
    return table


def _tall(summary: Summary) -> Table:
    table = _empty()
    table.add_column("task", style="bold", overflow="fold")
    for mode in summary.modes:
        table.add_column(Text(mode), justify="right", overflow="fold")
    by_mode = [[_cell(cell) for cell in _cells(summary, mode)] for mode in summary.modes]
    columns = _columns(summary)
    if found := guesses(summary):
        table.add_column("guessing", justify="right", style="dim")
        by_mode.append([Text(cell) for cell in found])
    for (name, lower), *cells in zip(columns, *by_mode, strict=True):
        if name in summary.safety[:1]:
            table.add_section()
        table.add_row(Text(f"{name} {lower}".strip()), *cells)
        if name == AVERAGE and name == columns[0][0]:
            table.add_section()
    return table


def _turned(summary: Summary) -> Table | None:
    """Which answers turned, task by task; none where no items are right or wrong."""
    compared = pairs(summary.modes)
    tasks = turned_tasks(summary)
    if not tasks:
        return None
    table = _empty()
    table.add_column("task", style="bold", overflow="fold")
    for one, other in compared:
        table.add_column(Text(f"{one}\n− {other}"), justify="right", overflow="fold")
    for task in tasks:
        table.add_row(Text(task), *(turned(summary, *pair, task) for pair in compared))
    return table


def _empty() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 0, 0, 1),
    )


def _cell(parts: _Cell) -> Text:
    shown, error, found = parts
    text = Text(shown)
    if error:
        text.append(f" {error}", "dim")
    for number, (mark, verdict) in enumerate(found):
        text.append(mark if number else f"\n{mark}", _STYLES.get(verdict, ""))
    return text


def _columns(summary: Summary) -> list[tuple[str, str]]:
    """Each column's name, and ``↓`` where lower is better; the average is the first."""
    names = [(task, direction(summary, task)) for task in summary.tasks]
    return [(AVERAGE, ""), *names] if len(summary.averaged) > 1 else names


def _cells(summary: Summary, mode: str) -> list[_Cell]:
    """For each column what its cell holds."""
    cells: list[_Cell] = [
        (score(summary, mode, task), error(summary, mode, task), marks(summary, mode, task))
        for task in summary.tasks
    ]
    average = summary.average(mode)
    if average is None:
        return cells
    shown = mean(average), spread(average.standard_error), average_marks(summary, mode)
    return [shown, *cells]


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
            if counts := flipped(summary, mode, other, task):
                record[f"minus_{other}_gained"], record[f"minus_{other}_lost"] = counts
                record[f"minus_{other}_guessed"] = guessed(summary, mode, other, task)
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
