"""Which modules the entries of an adapter's config mean, by PEFT's rules.

Written out from peft 0.21 (``check_target_module_exists``, ``get_pattern_key``), and tested against
it: a narrowed config has to match the kept modules and no other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: What a regular expression may fail with while it is compiled.
BAD_PATTERN: Final = (re.error, OverflowError, RecursionError)


def scaling(config: Mapping[str, Any], module: str) -> float:
    """The number PEFT multiplies B·A with for one module: ``alpha / r``, or ``alpha / √r``.

    Args:
        config: The adapter's config.
        module: The module's path; for ``target_parameters``, the parameter's name.
    """
    rank, alpha = rank_and_alpha(config, module)
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
    for key, value in (pattern or {}).items():
        if pattern_matches(key, module):
            return value  # type: ignore[no-any-return]
    return default


def pattern_matches(key: str, module: str) -> bool:
    """Whether a key of ``rank_pattern`` or ``alpha_pattern`` is for a module."""
    return _match(rf"(.*\.)?({key})$", module) is not None


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
    if module in wanted:
        return True
    return _ends_with_any(module, wanted) and _in_layers(config, module)


def excluded(config: Mapping[str, Any], module: str) -> bool:
    """Whether ``exclude_modules`` keeps PEFT from a module."""
    unwanted = config.get("exclude_modules")
    if not unwanted:
        return False
    if isinstance(unwanted, str):
        return re.fullmatch(unwanted, module) is not None
    return module in unwanted or _ends_with_any(module, unwanted)


def _saved_whole(config: Mapping[str, Any], module: str) -> bool:
    return any(
        re.match(rf"(^|.*\.){re.escape(entry)}($|\..*)", module)
        for entry in config.get("modules_to_save") or ()
    )


def _ends_with_any(module: str, suffixes: Iterable[str]) -> bool:
    return any(module.endswith(f".{suffix}") for suffix in suffixes)


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
