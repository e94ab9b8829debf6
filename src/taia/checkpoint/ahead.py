"""What can be told of a model before it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import ADAPTER_CONFIG, Checkpoint, read_json
from taia.checkpoint.inspection import anatomy_of
from taia.checkpoint.kinship import check_adapter, check_pair
from taia.checkpoint.locate import Located, locate
from taia.errors import TaiaError
from taia.selection import Selection


def look_ahead(
    base: str | Path,
    tuned: str | Path | None,
    selections: Iterable[str],
    declare: Mapping[str, str] | None = None,
) -> list[Located]:
    """Find models, and refuse selections with names that mean nothing in them.

    Only files' headers are read, without torch.

    Args:
        base: A folder or hub name.
        tuned: Likewise, or none.
        selections: What is to be kept.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.

    Returns:
        Where the models lie.

    Raises:
        CheckpointError: If one is not there.
        DownloadError: If it cannot be fetched.
        SelectionError: If a name is no mode, no component, and nothing in the base.
    """
    places = [locate(given) for given in (base, tuned) if given is not None]
    if holds_adapter(places[0].path):
        return places
    try:
        anatomy = anatomy_of(places[0].path, declare)
    except TaiaError:  # what loads it will say what is wrong with it
        return places
    # transformers fuses the experts of a file, under other names.
    if all(label.component != "experts" for label in anatomy.values()):
        for text in selections:
            Selection.parse(text).check_names(anatomy)
    return places


def doubts(base: str | Path, tuned: str | Path | None) -> tuple[str, ...]:
    """What speaks against two models belonging together, where both can be read.

    Args:
        base: A folder or hub name.
        tuned: Likewise, or none.
    """
    if tuned is None:
        return ()
    try:
        here, there = locate(base), locate(tuned)
        mine = here, Checkpoint.open(here.path)
        if holds_adapter(there.path):
            return check_adapter(mine, there, read_json(there.path / ADAPTER_CONFIG), strict=False)
        return check_pair(mine, (there, Checkpoint.open(there.path)), strict=False)
    except TaiaError:  # what loads them will say what is wrong
        return ()
