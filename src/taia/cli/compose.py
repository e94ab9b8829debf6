"""``taia compose``: write the model that keeps only part of an update."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from taia.cli.options import AsJson, Declare, complete, complete_methods, declared, say_json

if TYPE_CHECKING:
    from taia.checkpoint.composition import Composition


def compose(
    base: Annotated[
        str, typer.Argument(help="The model before fine-tuning: a folder or a hub name.")
    ],
    tuned: Annotated[
        str, typer.Argument(help="The model after it: a folder, a hub name, or a PEFT adapter.")
    ],
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            "-k",
            help="A mode or a selection, see docs/selection.md. [default: taia; all with --method]",
            autocompletion=complete,
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="A formula on the update, such as magnitude:keep=0.2, see docs/methods.md.",
            autocompletion=complete_methods,
            show_default=False,
        ),
    ] = None,
    statistics: Annotated[
        str | None,
        typer.Option(
            help="A folder with what calibration rows gave, for a method that needs it.",
            show_default=False,
        ),
    ] = None,
    unaligned: Annotated[
        str | None,
        typer.Option(
            help="The model that the base was aligned from, for a method that needs it.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder to write.", show_default=False),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Turn an adapter into a whole checkpoint.")
    ] = False,
    vocab: Annotated[
        Literal["base", "tuned"] | None,
        typer.Option(
            help="Whose vocabulary to take where sizes differ: two checkpoints', or an adapter's "
            "that has resized it and is merged.",
            show_default=False,
        ),
    ] = None,
    hash_inputs: Annotated[
        bool, typer.Option("--hash", help="Record SHA-256 of every input file (reads them all).")
    ] = False,
    declare: Declare = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the table, write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model that is there already.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a doubtful pair instead of noting it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Keep a part of an update: base + α · (tuned − base), tensor by tensor.

    With --method, base + α · f(tuned − base) with one of the field's formulas f. Checkpoints are
    copied byte by byte wherever α is 0 or 1. An adapter becomes a smaller adapter, or with --merge
    a whole checkpoint.
    """
    from taia.checkpoint.compose import compose as run
    from taia.reporting.checkpoints import match_table
    from taia.reporting.progress import copying
    from taia.reporting.screen import Screen

    with copying(Screen(stderr=True)) as progress:
        done = run(
            base,
            tuned,
            output,
            keep,
            method=method,
            statistics=statistics,
            unaligned=unaligned,
            merge=merge,
            vocab=vocab,
            hash_inputs=hash_inputs,
            dry_run=dry_run,
            overwrite=overwrite,
            strict=strict,
            declare=declared(declare),
            progress=progress,
        )
    if as_json:
        say_json(done.to_json())
        return
    screen = Screen()
    screen.print(match_table(done))
    for note in done.notes:
        screen.print(f"• {note}")
    screen.print(_ending(done), soft_wrap=True)


def _ending(done: Composition) -> str:
    if done.written:
        return f"\nWrote the {done.kind} to {done.output}"
    return f"\nA dry run: no {done.kind} was written."
