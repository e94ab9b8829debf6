"""A flag for each key of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

import typer

from taia.cli.options import complete, declared, pairs
from taia.training.recipe import Recipe

F = TypeVar("F", bound=Callable[..., None])

#: Keys that are arguments of a command, not flags.
ARGUMENTS: Final = frozenset({"model_name_or_path"})


def with_recipe_flags(command: F) -> F:
    """Give a command with ``**keys`` a flag for every key; what is not given is ``None``."""
    own = inspect.signature(command, eval_str=True)
    hints = get_type_hints(Recipe)
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [
        _flag(key, hints[key.name]) for key in fields(Recipe) if key.name not in ARGUMENTS
    ]
    command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def given(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that were given, as a recipe has them.

    Raises:
        InputError: If a value for a selection is not of the form ``SELECTION=VALUE``.
    """
    hints = get_type_hints(Recipe)
    found: dict[str, Any] = {}
    for name, value in keys.items():
        if value is None or value == []:
            continue
        if get_origin(hints[name]) is dict:
            flag = f"--{name.replace('_', '-')}"
            form = "SELECTION=VALUE, such as mlp=4"
            value = (
                declared(value) if name == "declare" else pairs(flag, value, "what of which", form)
            )
        found[name] = value
    return found


def _flag(key: Field[Any], hint: Any) -> inspect.Parameter:  # noqa: ANN401 - a type
    kind = get_origin(hint)
    plain = [part for part in get_args(hint) if part is not type(None)]
    if kind is list or kind is dict:
        annotation: Any = list[str]
    else:
        annotation = plain[0] if type(None) in get_args(hint) else hint
    names = [str(key.metadata.get("flag", f"--{key.name.replace('_', '-')}"))]
    names += [str(key.metadata["short"])] if "short" in key.metadata else []
    if annotation is bool:
        names = [f"{names[0]}/--no-{names[0].removeprefix('--')}"]
    option = typer.Option(
        *names,
        help=f"{key.metadata['help']}{_default(key)}",
        metavar=key.metadata.get("form", "SELECTION=VALUE") if kind is dict else None,
        rich_help_panel=key.metadata["group"],
        show_default=False,
        autocompletion=complete if key.name == "train" else None,
    )
    return inspect.Parameter(
        key.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation | None, option],
    )


def _default(key: Field[Any]) -> str:
    if key.default is MISSING or key.default in (None, "", False):
        return ""
    return f"  [default: {'on' if key.default is True else key.default}]"
