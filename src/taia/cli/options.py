"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from taia.errors import InputError

Declare: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN=COMPONENT",
        help="Say what tensors are that taia does not know, such as "
        "'model.layers.*.glue.*=mlp'. May be given several times.",
        show_default=False,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def declared(declare: list[str] | None) -> dict[str, str]:
    """Pattern → component.

    Raises:
        InputError: If one is not of the form ``PATTERN=COMPONENT``.
    """
    pairs = {}
    for text in declare or ():
        pattern, equals, component = text.rpartition("=")
        if not equals or not pattern or not component:
            raise InputError(
                f"--declare {text!r} does not say what is what",
                "Write it as PATTERN=COMPONENT, such as 'model.layers.*.glue.*=mlp'.",
            )
        pairs[pattern] = component
    return pairs
