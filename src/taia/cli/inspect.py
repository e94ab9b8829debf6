"""``taia inspect``: which tensor is which component of which layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taia.cli.options import AsJson, Declare, complete, declared, say_json

if TYPE_CHECKING:
    from taia.anatomy import Label
    from taia.selection import Alpha


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="A checkpoint, an adapter, or a folder with only a config.json: a path or a hub "
            "name."
        ),
    ],
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
    declare: Declare = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model is made of, and what a selection would keep of it."""
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
