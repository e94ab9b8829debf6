"""Progress bars on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from taia.checkpoint.composition import ByteProgress as Told
from taia.text import printable

#: Work of so many pieces is worth more than one line of a log.
_LONG: Final = 20


class Watcher(Protocol):
    """Told how far a piece of work is."""

    def __call__(self, work: str, done: int = 0, total: int | None = None) -> None:
        """``done`` of ``total`` of some work; the name is its identity, and ``None`` unknown."""


def unwatched(work: str, done: int = 0, total: int | None = None) -> None:
    """A watcher that shows nothing."""


@contextmanager
def watched(console: Console) -> Iterator[Watcher]:
    """Show one bar per piece of work, for as long as the block runs.

    Args:
        console: Where to; not stdout, which is for results. Where it is not a terminal, as
            in a log, each piece of work is a line, and each tenth of a long one another.

    Yields:
        The watcher to tell.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}

        def bar(work: str, done: int = 0, total: int | None = None) -> None:
            if work not in tasks:
                for task in tasks.values():  # the work before is over, whether or not it counted
                    if progress.tasks[task].total is None:
                        progress.update(task, total=1, completed=1)
                tasks[work] = progress.add_task(printable(work), total=None)
            progress.update(tasks[work], completed=done, total=total)

        yield bar
        for task in tasks.values():
            if progress.tasks[task].total is None:
                progress.update(task, total=1, completed=1)


def _lines(console: Console) -> Watcher:
    told: dict[str, int] = {}

    def line(work: str, done: int = 0, total: int | None = None) -> None:
        tenth = 10 * done // total if total and total >= _LONG else 0
        if tenth <= told.get(work, -1):
            return
        told[work] = tenth
        far = f": {done} of {total}" if tenth else " …"
        console.print(f"{work}{far}", markup=False, highlight=False, soft_wrap=True)

    return line


@contextmanager
def copying(console: Console) -> Iterator[Told | None]:
    """Show a bar of the bytes written, for as long as the block runs; none outside a terminal.

    Yields:
        What to tell of progress.
    """
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("writing"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("writing", total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield told
