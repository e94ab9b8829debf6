"""``taia inspect``: which tensor is which component of which layer, and where an update lives."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from taia.cli.guard import say
from taia.cli.options import AsJson, Declare, complete, declared, say_json
from taia.errors import InputError
from taia.text import printable

if TYPE_CHECKING:
    from taia.analysis.norms import Norms
    from taia.anatomy import Label
    from taia.selection import Alpha

ShadeName: TypeAlias = Literal["size", "share", "rank"]


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, an adapter, or a folder with only a config.json: a path or a hub "
            "name."
        ),
    ],
    tuned: Annotated[
        str | None,
        typer.Argument(
            help="The model after fine-tuning, or an adapter: show where its update of MODEL lives."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            "-k",
            help="A mode or a selection: show each tensor's α.",
            show_default=False,
            autocompletion=complete,
        ),
    ] = None,
    shade: Annotated[
        ShadeName,
        typer.Option(
            "--by",
            help="What is shown of each layer and projection: the update's size against the "
            "weights', its share, or its effective rank.",
        ),
    ] = "size",
    ranks: Annotated[
        bool,
        typer.Option(
            "--ranks",
            help="Measure effective ranks of whole matrices, too; an adapter's are at no cost.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write it as an HTML page to this file, - for stdout.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there already.")
    ] = False,
    declare: Declare = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model is made of, and what a selection would keep of it.

    With TUNED: where its update lives, by component and layer.
    """
    if tuned is not None:
        if keep is not None:
            raise InputError(
                "--keep shows the α of one model's tensors.",
                "Leave TUNED out; what a selection keeps of two, taia compose --dry-run tells.",
            )
        _where(model, tuned, shade, ranks or shade == "rank", output, overwrite, declare, as_json)
        return
    if output is not None:
        raise InputError("--output is for the update of a model.", "Give TUNED, too.")
    from taia.checkpoint.inspection import anatomy_of
    from taia.selection import Selection

    anatomy = anatomy_of(model, declared(declare))
    alphas = None if keep is None else Selection.parse(keep).alphas(anatomy)
    if as_json:
        tensors = [_plain(label, alphas) for label in anatomy.values()]
        say_json({"tensors": tensors})
        return
    from taia.reporting.checkpoints import anatomy_table
    from taia.reporting.screen import Screen

    Screen().print(anatomy_table(anatomy, alphas))


def _where(
    base: str,
    tuned: str,
    shade: ShadeName,
    ranks: bool,
    output: Path | None,
    overwrite: bool,
    declare: list[str] | None,
    as_json: bool,
) -> None:
    """Show where an update lives."""
    from taia.analysis.norms import update_norms
    from taia.checkpoint.kinship import doubts

    for doubt in doubts(base, tuned):
        say(doubt)
    page = None if output == Path("-") else output
    if page is not None:
        from taia.checkpoint.output.staging import check_file

        check_file(page, overwrite)
    norms = update_norms(base, tuned, declared(declare), ranks=ranks)
    flags = ["--ranks"] if ranks else []
    if page is not None:
        _write(norms, page, overwrite, flags)
    elif output is not None:
        print(printable(_page(norms, output, flags)), end="")
        return
    if as_json:
        say_json(norms.to_json())
        return
    from taia.reporting.screen import Screen
    from taia.reporting.update import component_table, shaded

    screen = Screen()
    screen.print(component_table(norms))
    if shades := shaded(norms, shade):
        screen.print()
        screen.print(shades)
    for note in norms.notes:
        screen.print(note)
    if page is not None:
        print(printable(f"The page is {page}"))


def _write(norms: Norms, output: Path, overwrite: bool, flags: list[str]) -> None:
    from taia.checkpoint.output.staging import check_file, claimed, write_file

    with claimed(output) as place:
        check_file(place, overwrite)
        write_file(place, _page(norms, output, flags))


def _page(norms: Norms, output: Path, flags: list[str]) -> str:
    from taia.reporting.html import render_update

    command = ["taia", "inspect", norms.base, norms.tuned, *flags, "--output", str(output)]
    return render_update(norms, shlex.join(command))


def _plain(label: Label, alphas: dict[str, Alpha] | None) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": label.tensor.name,
        "component": label.component,
        "layer": label.layer,
        "projection": label.projection,
        "shape": None if label.tensor.shape is None else list(label.tensor.shape),
        "dtype": label.tensor.dtype,
    }
    if alphas is not None:
        from taia.selection.alpha import plain as plain_alpha

        plain["alpha"] = plain_alpha(alphas[label.tensor.name])
    return plain
