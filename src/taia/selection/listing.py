"""A list of modes as people type it."""

from __future__ import annotations

from collections.abc import Collection

from taia.errors import SelectionError
from taia.selection.modes import MODES
from taia.selection.parser import parse


def read_modes(text: str, also: Collection[str] = ()) -> dict[str, str]:
    """Read a list of modes, such as ``base,taia,half=attention + 0.5*mlp``.

    Each is a mode's name, a selection, or ``NAME=SELECTION``; commas in brackets part nothing.

    Args:
        text: The list.
        also: Names that stand for no selection and are let through, with an empty selection.

    Returns:
        Name → selection, in the order given. A selection without a name is its own name.

    Raises:
        SelectionError: If one cannot be read, the list is empty, or a name comes twice.
    """
    modes: dict[str, str] = {}
    for part in _parts(text):
        name, equals, selection = (piece.strip() for piece in part.partition("="))
        if not equals:
            selection = "" if name in also else MODES.get(name, name)
        if name in modes:
            raise SelectionError(f"The mode {name!r} is asked for twice.", "Name each mode once.")
        if name not in also or equals:
            parse(selection)
        modes[name] = selection
    if not modes:
        raise SelectionError("No mode is asked for.", "Write them as base,tuned,taia.")
    return modes


def _parts(text: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "(": 1, "]": -1, ")": -1}.get(character, 0)
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
