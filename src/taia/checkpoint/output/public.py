"""What a card may say of where models lie: it is published, and tells nobody's folders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from taia.checkpoint.locate import Located, home_written_out, is_hub_name, is_there

#: A local path in a text: absolute, from a home, or from the folder that somebody was in.
_LOCAL: Final = re.compile(
    r"(?<![\w:/.\\<~-])(?:file://)?(?:(?:~|\.{1,2}|[A-Za-z]:)[/\\]|/[^\s/`'\"<>()|\[\],;]+/)"
    r"[^\s`'\"<>()|\[\],;]+"
)
_CACHED: Final = re.compile(r"models--([\w.-]+?--[\w.-]+)[/\\]snapshots[/\\]")


def name_of(place: Located) -> str:
    """What to call a model: its name on the hub, else its folder's; safe in a card."""
    return place.given if place.repo else last_name(str(place.path.resolve()))


def public(name: str) -> str:
    """A name that may be a path: one of the hub as it is, of a path its last name."""
    is_path = not is_hub_name(name) or is_there(home_written_out(name))
    return last_name(name) if is_path else name


def last_name(path: str) -> str:
    """A path's last name, or the model's where it lies in the hub's cache; safe in a card."""
    if cached := _CACHED.search(path):
        return cached.group(1).replace("--", "/", 1)
    name = re.split(r"[/\\]", path.rstrip("/\\."))[-1]
    return re.sub(r"[^\w.+@ -]", "_", name)


def without_paths(text: str, known: Iterable[str]) -> str:
    """A text in which every local path is its last name.

    Args:
        text: The text.
        known: Paths that may be in it, which do not all look like ones.
    """
    for path in sorted(known, key=len, reverse=True):
        inside = re.compile(rf"(?<![\w./\\-]){re.escape(path)}(?![\w-])")
        text = inside.sub(lambda found: last_name(found.group()), text)
    return _LOCAL.sub(lambda found: last_name(found.group()), text)
