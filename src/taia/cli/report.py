"""``taia report``: what a run of ``taia eval`` says, as a page or as text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from taia.cli.environment import prepare
from taia.errors import InputError
from taia.text import printable

if TYPE_CHECKING:
    from taia.reporting.runs import FinishedRun

#: Where a page goes unless told otherwise; text goes to stdout.
_PAGE: Final = Path("report.html")


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folders that taia eval wrote. Runs of the same modes and tasks (seeds, models) "
            "stand side by side. Or one that taia mend wrote, as a page.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, - for stdout. By default report.html for a page, and stdout "
            "for text.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Literal["html", "markdown", "csv", "card"],
        typer.Option("--format", help="A page, text, a table, or the section of a model card."),
    ] = "html",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there already.")
    ] = False,
) -> None:
    """Report what a run says: scores, which differences are real, where the update lives.

    The page is one file with everything in it; it asks for nothing from the network.
    """
    prepare()
    from taia.checkpoint.output.staging import check_file, claimed, write_file

    if output is None and form == "html":
        output = _PAGE
    if output is None or output == Path("-"):
        print(printable(_report(form, runs)), end="")
        return
    with claimed(output) as place:
        check_file(place, overwrite)
        write_file(place, _report(form, runs))
    print(printable(f"The report is {output}"))


def _report(form: str, given: list[Path]) -> str:
    """The report of runs, or of one search for a mend.

    Raises:
        InputError: If it is of several searches, or in a form that a search has not.
    """
    from taia.mending.journal import AFTER, SEARCH_FILE
    from taia.reporting.runs import open_runs

    searches = [folder for folder in given if (folder / SEARCH_FILE).is_file()]
    if not searches:
        return _text(open_runs(given), form, given)
    if form != "html" or len(given) > 1:
        raise InputError(
            f"{searches[0]} is a search of taia mend, which is reported as a page by itself.",
            f"Give it alone and as html; {searches[0] / AFTER} is a run of its own.",
        )
    from taia.mending.result import read_mended
    from taia.reporting.mended_page import render

    return render(read_mended(searches[0]))


def _text(runs: list[FinishedRun], form: str, given: list[Path]) -> str:
    if form == "html":
        from taia.reporting.html import render

        return render(runs, shlex.join(["taia", "report", *map(str, given)]))
    if form == "csv":
        from taia.reporting.table import csv

        return csv(*((run.name, run.summary) for run in runs))
    from taia.reporting import text

    return text.card(runs) if form == "card" else text.report(runs)
