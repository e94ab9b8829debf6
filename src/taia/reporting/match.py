"""What a composition keeps, as a table; and a bar while it copies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from taia.checkpoint.composition import Composition, Row, Share
from taia.checkpoint.composition import Progress as Told
from taia.reporting.screen import Text
from taia.text import in_bytes, in_millions


def match_table(done: Composition) -> Table:
    """For each component, what comes from the base, from the tuned model, and from both."""
    table = Table(
        title=Text(f"keep {done.selection}", "bold"), box=box.SIMPLE_HEAD, show_edge=False
    )
    table.add_column("component", style="bold", no_wrap=True)
    table.add_column("comes from", no_wrap=True)
    for heading in ("tensors", "parameters", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in (*done.rows, done.total):
        if row.component == "total":
            table.add_section()
        for source, share in _sources(row):
            table.add_row(
                row.component,
                source,
                str(share.tensors),
                in_millions(share.parameters),
                in_bytes(share.bytes),
            )
    return table


def _sources(row: Row) -> list[tuple[str, Share]]:
    sources = (("base", row.base), ("tuned", row.tuned), ("both", row.blended))
    return [(name, share) for name, share in sources if share != Share()]


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
