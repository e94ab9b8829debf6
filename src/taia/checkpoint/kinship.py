"""Whether base and tuned are what they are given as, as far as names and records tell.

A base and its instruct model have the same shapes: nothing in the tensors says that an adapter was
trained on the other of the two. What can be known is what was written down: the base that PEFT
records, what ``taia_config.json`` says of a composed or trained model, the bytes themselves.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taia.checkpoint.folders import ADAPTER_CONFIG, holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located, home_written_out, is_there, locate
from taia.checkpoint.output.manifest import MANIFEST, sampled_hash, samples, together
from taia.checkpoint.reading import is_file, read_json
from taia.checkpoint.sources import Sources
from taia.errors import InputError, MismatchError, TaiaError


class DoubtfulPairWarning(UserWarning):
    """Base and tuned may not belong together: the message says why."""


def check_pair(
    base: tuple[Located, Checkpoint], tuned: tuple[Located, Checkpoint], strict: bool
) -> tuple[str, ...]:
    """What speaks against a base and a tuned checkpoint, as notes.

    Args:
        base: Where the base was found, and its headers.
        tuned: The same of the tuned model.
        strict: Whether that is an error instead.

    Raises:
        MismatchError: With ``strict``, if there is anything.
    """
    (here, mine), (there, theirs) = base, tuned
    if _same_place(here.path, there.path) or _same_bytes(mine, theirs):
        said = f"{there.given} and {here.given} are the same model: there is no update to keep."
        return _settled([said], strict)
    doubts = []
    if _is(_recorded(mine.folder), there, theirs):
        doubts.append(
            f"{here.given}, given as the base, was itself made from {there.given}, given as the "
            "tuned model: the two may be swapped."
        )
    else:
        doubts += _other_base(there.given, _recorded(theirs.folder), here, mine)
    return _settled(doubts, strict)


def check_adapter(
    base: tuple[Located, Checkpoint], adapter: Located, config: Mapping[str, Any], strict: bool
) -> tuple[str, ...]:
    """What speaks against a base for an adapter, as notes.

    Args:
        base: Where the base was found, and its headers.
        adapter: Where the adapter was found.
        config: Its ``adapter_config.json``.
        strict: Whether that is an error instead.

    Raises:
        MismatchError: With ``strict``, if there is anything.
    """
    recorded = _recorded(adapter.path)
    if not recorded:
        name = config.get("base_model_name_or_path")
        recorded = _named(name) if isinstance(name, str) and name else {}
        recorded = {**recorded, "revision": config.get("revision")}
    return _settled(_other_base(adapter.given, recorded, *base), strict)


def warn_of_doubts(base: str | Path, tuned: str | Path | None) -> None:
    """Warn whoever called taia of what speaks against two models belonging together.

    Args:
        base: A folder or hub name.
        tuned: Likewise, or none.
    """
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "taia":
        frame, level = frame.f_back, level + 1
    for doubt in doubts(base, tuned):
        warnings.warn(doubt, DoubtfulPairWarning, stacklevel=level)


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


def _settled(doubts: list[str], strict: bool) -> tuple[str, ...]:
    if doubts and strict:
        raise MismatchError(doubts[0], "Give the base that it was trained from, or leave --strict.")
    return tuple(doubts)


def _recorded(folder: Path) -> Mapping[str, Any]:
    """The base in a folder's ``taia_config.json``: ``repo`` or ``path``."""
    file = folder / MANIFEST
    base = read_json(file).get("base") if is_file(file) else None
    return base if isinstance(base, Mapping) else {}


def _named(name: str) -> Mapping[str, Any]:
    """The same, of a name that may be a path or a hub name."""
    is_path = name.startswith((".", "/", "~", "\\")) or name.count("/") != 1 or is_there(name)
    return {"path": name} if is_path else {"repo": name}


def _other_base(
    whose: str, recorded: Mapping[str, Any], base: Located, checkpoint: Checkpoint
) -> list[str]:
    name, repo = recorded.get("repo") or recorded.get("path"), recorded.get("repo")
    if not isinstance(name, str) or _is(recorded, base, checkpoint):
        return []
    if _is_repo(repo, base):
        name = f"{name}@{recorded.get('commit') or recorded.get('revision')}"
    elif _is_called(base, checkpoint, name):
        return []
    return [f"{whose} says that it was trained from {name}, and the base given is {base.given}."]


def _is(recorded: Mapping[str, Any], place: Located, checkpoint: Checkpoint) -> bool:
    """Whether a record means a model for certain: its place, or what was in its files."""
    repo, path = recorded.get("repo"), recorded.get("path")
    files, first = recorded.get("files"), checkpoint.shards[0]
    for file in files if isinstance(files, list) else ():
        if isinstance(file, Mapping) and file.get("bytes") == first.size:
            with Sources() as sources:
                if file.get("sampled_sha256") == sampled_hash(first, sources):
                    return True
    if isinstance(repo, str) and place.repo:
        return _is_repo(repo, place) and _is_revision(recorded, place)
    return isinstance(path, str) and not place.repo and _same_place(path, place.path)


def _is_repo(repo: object, place: Located) -> bool:
    return isinstance(repo, str) and bool(place.repo) and repo.lower() == str(place.repo).lower()


def _is_revision(recorded: Mapping[str, Any], place: Located) -> bool:
    """Whether a record's revision of a model is the one found, as far as the hub's cache tells."""
    commit, revision = recorded.get("commit"), recorded.get("revision")
    if isinstance(commit, str) and commit:
        return commit == place.commit
    if not isinstance(revision, str) or not revision or revision == place.revision:
        return True
    if not place.commit or ".." in revision:
        return False
    try:
        known = (place.path.parents[1] / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        known = revision
    return place.commit.startswith(known)


def _is_called(place: Located, checkpoint: Checkpoint, name: str) -> bool:
    """Whether a place is called like a recorded model that is not at hand to compare.

    Downloads lie in folders called like the model, or in the hub's ``models--org--name``.
    """
    known = home_written_out(name)
    if not place.repo and is_there(known):
        try:
            return _same_bytes(Checkpoint.open(known), checkpoint)
        except InputError:  # what lies there now is no model
            return False
    last = name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].lower()
    if place.repo:
        return place.repo.lower().rpartition("/")[2] == last
    parts = place.path.resolve().parts
    return any(part.lower().rpartition("--")[2] == last for part in parts[-3:])


def _same_place(one: str | Path, other: Path) -> bool:
    try:
        return os.path.realpath(home_written_out(one)) == os.path.realpath(other)
    except (OSError, ValueError):  # a record may hold what is no path
        return False


def _same_bytes(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints have the same tensors, by the first and last bytes of each."""
    if one.tensors.keys() != other.tensors.keys():
        return False
    with Sources() as sources:
        for mine in together(list(one.tensors.values())):
            theirs = [other.tensors[entry.name] for entry in mine]
            if [(e.dtype, e.shape) for e in mine] != [(e.dtype, e.shape) for e in theirs]:
                return False
            if samples(mine, sources) != samples(theirs, sources):
                return False
    return True
