"""``taia export``: write a composed model for another program, and check it there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taia.cli.environment import prepare
from taia.cli.options import AsJson, Declare, declared, say_json
from taia.export.job import Outtype, TargetName


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="What taia compose wrote, or any PEFT adapter or checkpoint.",
        ),
    ],
    to: Annotated[
        TargetName,
        typer.Option("--to", help="The program it is for.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="The adapter's base model, if it is not where the adapter says.",
            show_default=False,
        ),
    ] = None,
    base_gguf: Annotated[
        Path | None,
        typer.Option(
            "--base-gguf",
            help="The base model as a GGUF file: llama.cpp checks the adapter on it, and Ollama "
            "builds on it.",
            show_default=False,
        ),
    ] = None,
    outtype: Annotated[
        Outtype | None,
        typer.Option(
            help="Dtype of a whole model's matrices --to gguf or ollama: auto is bf16 for bf16, "
            "else f16.",
            show_default=False,
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Turn an adapter into a whole checkpoint.")
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not load the output and compare it.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export that is there already.")
    ] = False,
    declare: Declare = None,
    as_json: AsJson = False,
) -> None:
    """Write a model or adapter for another program, and check it there.

    The output is loaded as the program would, given the same tokens as the source, and their scores
    are compared. If they differ nothing is left and the exit code is 1.
    """
    prepare()
    from taia.export.run import export as run
    from taia.reporting.screen import Screen, status

    with status("Reading") as say:
        done = run(
            source,
            to,
            output,
            base=base,
            base_gguf=base_gguf,
            outtype=outtype,
            merge=merge,
            verify=not no_verify,
            overwrite=overwrite,
            declare=declared(declare),
            say=say,
        )
    if as_json:
        say_json(done.to_json())
        return
    screen = Screen()
    screen.print(f"Wrote {', '.join(done.files)} to {done.output}", soft_wrap=True)
    for line in (*(check.said for check in done.checks), *done.notes):
        screen.print(f"• {line}", soft_wrap=True)
    if no_verify:
        screen.print("• Nothing was checked (--no-verify).")
    if done.use:
        screen.print(f"\n{done.use}", soft_wrap=True)
