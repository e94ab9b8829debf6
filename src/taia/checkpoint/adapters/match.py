"""Which modules the entries of an adapter's config mean, by PEFT's rules.

Written out from peft 0.21 (``check_target_module_exists``, ``get_pattern_key``), and tested against
it: a narrowed config has to match the kept modules and no other.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from taia.checkpoint.adapters.patterns import BAD_PATTERN

#: A regular expression in which at most dots mean anything.
_PLAIN: Final = re.compile(r"(?:[^\\^$*+?{}\[\]|()\n\0]|\\\.)*")


def scaling(config: Mapping[str, Any], module: str, times: int = 1) -> float:
    """The number PEFT multiplies B·A with for one module: ``alpha / r``, or ``alpha / √r``.

    Args:
        config: The adapter's config.
        module: The module's path; for ``target_parameters``, the parameter's name.
        times: How many times the config's rank and alpha it has, as shared experts do.
    """
    rank, alpha = (times * size for size in rank_and_alpha(config, module))
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def rank_and_alpha(config: Mapping[str, Any], module: str) -> tuple[int, float]:
    """The rank and the alpha of one module, named as for :func:`scaling`."""
    rank = _pattern(config.get("rank_pattern"), module, config["r"])
    return int(rank), _pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))


def with_shared(
    config: Mapping[str, Any], modules: Iterable[str], others: Iterable[str] = ()
) -> dict[str, Any]:
    """A MoLoRA config with the shared experts of some modules written out as LoRAs of their rank.

    Args:
        config: The adapter's.
        modules: Paths of modules whose LoRA is a shared expert.
        others: Paths of the other adapted modules, which the patterns must not match.
    """
    multiple = config.get("shared_expert") or 0
    sizes = {module: rank_and_alpha(config, module) for module in modules}
    new = dict(config)
    for slot, key in enumerate(("rank_pattern", "alpha_pattern")):
        values = {module: multiple * size[slot] for module, size in sizes.items()}
        # PEFT takes the first that matches.
        ours, theirs = by_ending(values, others), config.get(key) or {}
        new[key] = ours | {name: value for name, value in theirs.items() if name not in ours}
    return new


def by_ending(values: Mapping[str, float], others: Iterable[str]) -> dict[str, float]:
    """One entry for modules whose paths end alike, where all of those have the same value."""
    endings: dict[str, set[float | None]] = defaultdict(set)
    for module in (*values, *others):
        endings[module.rpartition(".")[2]].add(values.get(module))
    return {
        ending if len(endings[ending]) == 1 else module: value
        for module, value in values.items()
        for ending in [module.rpartition(".")[2]]
    }


def _pattern(pattern: Mapping[str, Any] | None, module: str, default: float) -> float:
    if not pattern:
        return default
    keys = _keys(pattern)
    first = min(keys.matching(module), default=None)
    return default if first is None else pattern[keys.names[first]]


def matching(pattern: Mapping[str, Any], modules: Iterable[str]) -> dict[str, Any]:
    """The entries of ``rank_pattern`` or ``alpha_pattern`` that are for any of some modules."""
    keys = _keys(pattern)
    found = {index for module in modules for index in keys.matching(module)}
    return {key: value for i, (key, value) in enumerate(pattern.items()) if i in found}


class _Keys:
    r"""The keys of a table, each of which matches a module as ``(.*\.)?(key)$`` does.

    An adapter of experts may have as many keys as modules, tens of thousands: those without
    anything special but dots are looked up, not tried.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.names = tuple(table)
        # Length, places of the dots, which match any character → key with those → its indices.
        self._plain: dict[int, dict[tuple[int, ...], dict[str, list[int]]]] = {}
        self._others: list[tuple[int, re.Pattern[str]]] = []
        for index, name in enumerate(self.names):
            if _PLAIN.fullmatch(name):
                text = name.replace(r"\.", "\0")
                dots = tuple(at for at, character in enumerate(text) if character == ".")
                same = self._plain.setdefault(len(text), {}).setdefault(dots, {})
                same.setdefault(text.replace("\0", "."), []).append(index)
            else:
                with suppress(*BAD_PATTERN):  # what is no pattern matches nothing
                    self._others.append((index, re.compile(rf"(.*\.)?({name})$")))

    def matching(self, module: str) -> Iterator[int]:
        """Indices of the keys that match, in no order."""
        text = module.removesuffix("\n")  # "$" also matches before one, and a dot matches none
        if "\n" not in text:
            starts = [0, *(at + 1 for at, character in enumerate(text) if character == ".")]
            for ending in (text[start:] for start in starts):
                for dots, keys in self._plain.get(len(ending), {}).items():
                    yield from keys.get(_dotted(ending, dots), ())
        for index, pattern in self._others:
            if pattern.match(module):
                yield index


def _dotted(text: str, places: tuple[int, ...]) -> str:
    characters = list(text)
    for place in places:
        characters[place] = "."
    return "".join(characters)


_Table = TypeVar("_Table", bound=Collection[str])
_Made = TypeVar("_Made")


class _Recent(Generic[_Table, _Made]):
    """What was made of the tables asked for last: the same ones are asked for once a module.

    A config is not changed in place, so a table is known by being the same object.
    """

    def __init__(self, make: Callable[[_Table], _Made]) -> None:
        self._make = make
        self._known: deque[tuple[_Table, int, _Made]] = deque(maxlen=8)

    def __call__(self, table: _Table) -> _Made:
        for known, size, made in tuple(self._known):
            if known is table and size == len(table):
                return made
        made = self._make(table)
        self._known.append((table, len(table), made))
        return made


_keys: Final = _Recent[Mapping[str, Any], _Keys](_Keys)
_names: Final = _Recent[Collection[str], frozenset[str]](frozenset)


def _match(pattern: str, text: str) -> re.Match[str] | None:
    """A match at the beginning; a pattern that is none matches nothing."""
    try:
        return re.match(pattern, text)
    except BAD_PATTERN:
        return None


def targets(config: Mapping[str, Any], module: str) -> bool:
    """Whether PEFT would put a low-rank update on a module, by ``target_modules`` alone."""
    wanted = config.get("target_modules")
    if wanted is None or excluded(config, module) or _saved_whole(config, module):
        return False
    if isinstance(wanted, str):
        return wanted.lower() == "all-linear" or re.fullmatch(wanted, module) is not None
    if module in _names(wanted):
        return True
    return _ends_with_any(module, _names(wanted)) and _in_layers(config, module)


def excluded(config: Mapping[str, Any], module: str) -> bool:
    """Whether ``exclude_modules`` keeps PEFT from a module."""
    unwanted = config.get("exclude_modules")
    if not unwanted:
        return False
    if isinstance(unwanted, str):
        return re.fullmatch(unwanted, module) is not None
    return module in _names(unwanted) or _ends_with_any(module, _names(unwanted))


def _saved_whole(config: Mapping[str, Any], module: str) -> bool:
    saved = config.get("modules_to_save")
    if not saved:
        return False
    parts = module.split(".")
    paths = (parts[:stop] for stop in range(1, len(parts) + 1))
    return any(
        ".".join(path) in _names(saved) or _ends_with_any(".".join(path), _names(saved))
        for path in paths
    )


def wrapper_of(config: Mapping[str, Any], module: str) -> str | None:
    """The module kept whole: the outermost whose path ends as ``modules_to_save`` says."""
    saved = config.get("modules_to_save") or ()
    parts = module.split(".")
    for stop in range(1, len(parts) + 1):
        path = ".".join(parts[:stop])
        if path.endswith(tuple(saved)):
            return path
    return None


def parameters_of(config: Mapping[str, Any], module: str, wrappers: int) -> list[str]:
    """The last parts of those ``target_parameters`` that lie in a module."""
    table = _holders(config.get("target_parameters") or ())
    starts = [0, *(at + 1 for at, mark in enumerate(module) if mark == ".")]
    holders = filter(None, (module[start:] for start in starts))
    named = sorted(entry for holder in holders for entry in table.get(holder, ()))
    bare = table.get("", [])  # may lie anywhere
    if len(found := list(dict.fromkeys(leaf for _, leaf in named))) == wrappers:
        return found
    return list(dict.fromkeys([*found, *(leaf for _, leaf in bare)]))


def _by_holder(entries: Collection[str]) -> dict[str, list[tuple[int, str]]]:
    """Path of a module, as far as entries give it → their places and last parts."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for place, entry in enumerate(entries):
        holder, _, leaf = entry.rpartition(".")
        found[holder].append((place, leaf))
    return found


_holders: Final = _Recent[Collection[str], dict[str, list[tuple[int, str]]]](_by_holder)


def _ends_with_any(module: str, suffixes: frozenset[str]) -> bool:
    """Whether some parts at a module's end, not all of it, are among names."""
    return any(module[at + 1 :] in suffixes for at, mark in enumerate(module) if mark == ".")


def _in_layers(config: Mapping[str, Any], module: str) -> bool:
    wanted = config.get("layers_to_transform")
    if wanted is None or wanted == []:
        return True
    given = config.get("layers_pattern")
    patterns = [r".*?\.[^.]*\.(\d+)\."]
    if given:
        given = [given] if isinstance(given, str) else given
        patterns = [rf"(?:^|.*?\.){pattern}\.(\d+)\." for pattern in given]
    for pattern in patterns:
        if match := _match(pattern, module):
            return int(match[1]) in ([wanted] if isinstance(wanted, int) else wanted)
    return False
