"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

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
ComputeDtype: TypeAlias = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(
        help="What to compute in; by default float32 on a CPU, the checkpoint's on a GPU.",
        show_default=False,
    ),
]
Device: TypeAlias = Annotated[
    str | None, typer.Option(help="Where to compute; by default a GPU, if any.", show_default=False)
]
TaskFolders: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(help="A folder of your own task files. May be given several times."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def complete(incomplete: str) -> list[str]:
    """What a mode or selection that is being typed may become, also the last of a list of them."""
    from taia.anatomy.components import GROUPS
    from taia.selection.modes import MODES

    return _last_of_list(incomplete, (*MODES, *GROUPS))


def complete_methods(incomplete: str) -> list[str]:
    """What a method that is being typed may become."""
    from taia.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


def complete_tasks(incomplete: str) -> list[str]:
    """What a task, group or tag that is being typed may become; of taia's own."""
    try:
        from taia.evaluation.tasks.registry import known_names

        return _last_of_list(incomplete, known_names())
    except ImportError:  # task files are read by a package of taia[eval]
        return []


def _last_of_list(incomplete: str, known: Iterable[str]) -> list[str]:
    begun, comma, last = incomplete.rpartition(",")
    return [f"{begun}{comma}{name}" for name in known if name.startswith(last)]


def say_json(value: object) -> None:
    """Print a value as JSON, in ASCII: no name in it can steer a terminal."""
    print(json.dumps(value, indent=1).replace("\x7f", r"\u007f"))


def declared(declare: list[str] | None) -> dict[str, str]:
    """Pattern → component.

    Raises:
        InputError: If one is not of the form ``PATTERN=COMPONENT``.
    """
    form = "PATTERN=COMPONENT, such as 'model.layers.*.glue.*=mlp'"
    return pairs("--declare", declare or (), "what is what", form)


def pairs(
    flag: str,
    given: Iterable[str],
    unsaid: str,
    form: str,
    split: Callable[[str, str], tuple[str, str, str]] = str.rpartition,
) -> dict[str, str]:
    """What a flag gives for each name, ``NAME=VALUE`` each time.

    Args:
        flag: The flag, for the error.
        given: What was typed.
        unsaid: What a text without ``=`` fails to say, for the error.
        form: How to write it, for the error.
        split: Parts a text at ``=``: at the last one, if there are several, or at the first.

    Raises:
        InputError: If one has no name, no ``=`` or no value.
    """
    found = {}
    for text in given:
        name, equals, value = (part.strip() for part in split(text, "="))
        if not equals or not name or not value:
            raise InputError(f"{flag} {text!r} does not say {unsaid}.", f"Write it as {form}.")
        found[name] = value
    return found
