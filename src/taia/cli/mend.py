"""``taia mend``: is a fine-tune worse, can it be mended, and what should be kept?"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from taia.cli.environment import prepare
from taia.cli.guard import say
from taia.cli.options import (
    AsJson,
    ComputeDtype,
    Declare,
    Device,
    TaskFolders,
    complete_tasks,
    declared,
    say_json,
)
from taia.packages import require_packages

#: Candidates that the terminal shows, beside base and tuned; the page has all.
_SHOWN: Final = 8


def mend(
    base: Annotated[
        str, typer.Argument(help="The model before fine-tuning: a folder or a hub name.")
    ],
    tuned: Annotated[
        str, typer.Argument(help="The model after it: a folder, a hub name, or a PEFT adapter.")
    ],
    learn: Annotated[
        list[str],
        typer.Option(
            "--learn",
            "-l",
            metavar="DATA",
            help="What the fine-tune was for: rows in any training format (docs/data.md), or a "
            "task. May be given several times.",
            autocompletion=complete_tasks,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder for the choice and the report; a search that is there goes on.",
        ),
    ],
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            "-k",
            metavar="DATA",
            help="What must not get worse: rows, prompts without answers (JSONL, or a text file "
            "with one a line), or a task. May be given several times.  [default: a general set "
            "that ships with taia]",
            show_default=False,
            autocompletion=complete_tasks,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long it may take: 90s, 5m, 1h.  [default: 10m, or a quarter of what training "
            "took if that is on record and less]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the parts, of draws, of the search.")
    ] = 0,
    dtype: ComputeDtype = None,
    device: Device = None,
    include_path: TaskFolders = None,
    declare: Declare = None,
    as_json: AsJson = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another search's results.")
    ] = False,
) -> None:
    """Is the fine-tune worse, can it be mended without training, and what should be kept?

    Base and tuned are compared item by item. Where there is harm, parts of the update are tried:
    the one that keeps what was learnt and changes general answers the least is chosen on items
    the search has not seen, measured on others again, and written. After Ctrl-C, the same command
    goes on.
    """
    prepare()
    modules = ["lm_eval", "torch", "transformers", "datasets", "jinja2", "accelerate", "peft"]
    require_packages("eval", *modules)
    from taia.checkpoint.output.staging import write_file
    from taia.mending.journal import PAGE
    from taia.mending.run import KEEP
    from taia.mending.run import mend as run
    from taia.reporting.mended_page import render
    from taia.reporting.progress import watched
    from taia.reporting.screen import Screen

    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with watched(Screen(stderr=True)) as watch:
        done = run(
            base,
            tuned,
            learn=learn,
            keep=keep or [KEEP],
            output=output,
            budget=budget,
            seed=seed,
            dtype=dtype,
            device=device,
            declare=declared(declare),
            include_path=include_path or [],
            overwrite=overwrite,
            command=shlex.join(["taia", *sys.argv[1:]]),
            watch=watch,
            on_doubt=say,
        )
    found = done.to_json()
    write_file(done.output / PAGE, render(found))
    if as_json:
        say_json(found)
        return
    _show(found, done.output)


def _show(found: Mapping[str, Any], output: Path) -> None:
    from rich import box
    from rich.table import Table

    from taia.mending.journal import PAGE
    from taia.reporting import mended
    from taia.reporting.screen import Screen, Text

    screen = Screen()
    for number, answer in enumerate(mended.answers(found), 1):
        screen.print(Text(f"{number}. {answer.question}", "bold"))
        screen.print(f"   {answer.short}")
        for sentence in answer.sentences:
            screen.print(f"   • {sentence}")
        if number == 2 and len(found["candidates"]) > len(("base", "tuned")):
            grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for head, side in (
                ("keep", "left"),
                ("learnt, kept", "right"),
                ("change, taken back", "right"),
            ):
                grid.add_column(head, justify=side)  # type: ignore[arg-type]
            for row in mended.table(found)[: _SHOWN + 2]:
                chosen = found["choice"] and row["name"] == found["choice"]["name"]
                grid.add_row(
                    Text(row["name"]),
                    mended.percent(row["kept"]["value"]),
                    mended.percent(row["restored"]["value"]),
                    style="bold" if chosen else None,
                )
            screen.print(grid)
        screen.print("")
    if line := mended.command(found):
        screen.print(f"{line}\n", soft_wrap=True)
    if found["written"]:
        screen.print(f"The choice is {found['written']}", soft_wrap=True)
    screen.print(f"The report is {output / PAGE}", soft_wrap=True)
