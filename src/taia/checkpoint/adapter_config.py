"""``adapter_config.json``: what taia can work on, and how it is narrowed to what was kept.

The rules by which PEFT matches names (peft 0.21, ``check_target_module_exists``,
``_inject_parameters``, ``get_pattern_key``) are written out here, because the narrowed
config has to match the kept modules and no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taia.errors import AdapterError

FILE: Final = "adapter_config.json"

#: PEFT's own word for "no module": it loads an adapter that consists of whole modules only.
NO_MODULES: Final = "dummy-target-modules"

_CHANGES_BASE: Final = {
    "pissa": "PiSSA moves the principal singular values of the base weights into the adapter",
    "olora": "OLoRA subtracts its initial adapter from the base weights",
    "corda": "CorDA moves part of the base weights into the adapter",
    "lora_ga": "LoRA-GA subtracts its initial adapter from the base weights",
    "loftq": "LoftQ replaces the base weights by quantised ones",
}
_VARIANTS: Final = {
    "use_qalora": "QALoRA",
    "monteclora_config": "MonteCLoRA",
    "use_bdlora": "BD-LoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
}
_CHECKPOINTS_INSTEAD: Final = (
    "merge it into its base with PEFT's merge_and_unload, save, and compose the two checkpoints"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What remains of an adapter.

    Attributes:
        modules: Paths of the modules that keep a low-rank update of their weight.
        parameters: Names of the parameters that keep one through ``target_parameters``.
        wholes: Paths of the modules kept whole (``modules_to_save``).
        tokens: Paths of the embeddings that keep trained tokens.
        biases: Whether any trained bias remains.
    """

    modules: frozenset[str]
    parameters: frozenset[str]
    wholes: frozenset[str]
    tokens: frozenset[str]
    biases: bool


def read_config(folder: Path) -> dict[str, Any]:
    """Reads an adapter's config.

    Raises:
        AdapterError: If it is missing, is not a JSON object, or is of a kind that taia cannot
            filter faithfully; the message says why.
    """
    path = folder / FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} has no {FILE}", "give the folder that PEFT's save_pretrained wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read: {error}", "save the adapter again") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{path} does not hold a JSON object", "save the adapter again")
    _check(config, path)
    return config


def _check(config: Mapping[str, Any], path: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterError(
            f"{path} describes a {kind} adapter; taia filters LoRA, rsLoRA and DoRA",
            _CHECKPOINTS_INSTEAD,
        )
    init = str(config.get("init_lora_weights", True)).lower()
    for name, reason in _CHANGES_BASE.items():
        if init.startswith(name):
            raise AdapterError(
                f"{path} has init_lora_weights={init!r}: {reason}, so without a module's update "
                "its base weights are not the base model's",
                "convert it to plain LoRA first: PEFT's save_pretrained(..., "
                "path_initial_model_for_weight_conversion=...) does",
            )
    for key, name in _VARIANTS.items():
        if config.get(key):
            raise AdapterError(
                f"{path} uses {name} ({key}), whose update is not B·A", _CHECKPOINTS_INSTEAD
            )
    if config.get("layer_replication"):
        raise AdapterError(
            f"{path} uses layer_replication: its layers are not the base model's layers",
            _CHECKPOINTS_INSTEAD,
        )
    if config.get("megatron_config"):
        raise AdapterError(
            f"{path} was trained on Megatron's parallel layers (megatron_config)",
            "convert it to a Hugging Face adapter first",
        )
    rank = config.get("r")
    if not isinstance(rank, int) or rank <= 0:
        raise AdapterError(f"{path} has r={rank!r}", "r must be a positive whole number")
    for key in ("rank_pattern", "alpha_pattern", "trainable_token_indices", "modules_to_save"):
        value = config.get(key)
        expected = (dict, type(None)) if key.endswith("pattern") else (dict, list, type(None))
        if not isinstance(value, expected):
            raise AdapterError(f"{path} has {key}={value!r}", "save the adapter again with PEFT")


def scaling(config: Mapping[str, Any], module: str) -> float:
    """The number PEFT multiplies B·A with for one module: ``alpha / r``, or ``alpha / √r``.

    Args:
        config: The adapter's config.
        module: The module's path; for ``target_parameters``, the parameter's name.
    """
    rank = _pattern(config.get("rank_pattern"), module, config["r"])
    alpha = _pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _pattern(pattern: Mapping[str, Any] | None, module: str, default: float) -> float:
    for key, value in (pattern or {}).items():
        if _pattern_matches(key, module):
            return float(value)
    return float(default)


def _pattern_matches(key: str, module: str) -> bool:
    try:
        return re.match(rf"(.*\.)?({key})$", module) is not None
    except re.error:
        return key == module


def targets(config: Mapping[str, Any], module: str) -> bool:
    """Whether PEFT would put a low-rank update on a module, by ``target_modules`` alone."""
    wanted = config.get("target_modules")
    if wanted is None or _excluded(config, module) or _saved_whole(config, module):
        return False
    if isinstance(wanted, str):
        return wanted.lower() == "all-linear" or re.fullmatch(wanted, module) is not None
    if module in wanted:
        return True
    return _ends_with_any(module, wanted) and _in_layers(config, module)


def _excluded(config: Mapping[str, Any], module: str) -> bool:
    excluded = config.get("exclude_modules")
    if not excluded:
        return False
    if isinstance(excluded, str):
        return re.fullmatch(excluded, module) is not None
    return module in excluded or _ends_with_any(module, excluded)


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
        if match := re.match(pattern, module):
            return int(match[1]) in ([wanted] if isinstance(wanted, int) else wanted)
    return False


def narrow(
    config: Mapping[str, Any],
    before: Kept,
    after: Kept,
    freed: Collection[str],
    base_rest: Collection[str] | None,
) -> dict[str, Any]:
    """The config for what was kept.

    Args:
        config: The adapter's config.
        before: What the adapter has.
        after: What is kept of it.
        freed: Paths of modules that were kept whole before and no longer are.
        base_rest: Paths of the base model's modules other than those in ``after.modules``,
            ``None`` when the base is not at hand. Their first parts may be missing (checkpoints
            leave out prefixes): endings are what counts.

    Returns:
        A config with the same keys. PEFT matches exactly ``after`` with it.
    """
    new = dict(config)
    if after.modules != before.modules or any(_would_target(config, m) for m in freed):
        dropped = (before.modules - after.modules) | set(freed)
        new["target_modules"] = _target_modules(config, after.modules, dropped, base_rest)
        new |= {key: None for key in ("layers_to_transform", "layers_pattern") if key in new}
    if not after.modules and not after.parameters:
        new["target_modules"] = NO_MODULES
    if after.parameters != before.parameters:
        new["target_parameters"] = _target_parameters(config, before, after)
    for key in ("rank_pattern", "alpha_pattern"):
        if new.get(key):
            new[key] = {
                pattern: value
                for pattern, value in new[key].items()
                if any(_pattern_matches(pattern, m) for m in after.modules | after.parameters)
            }
    if after.wholes != before.wholes:
        new["modules_to_save"] = _modules_to_save(config, before.wholes, after.wholes)
    if after.tokens != before.tokens:
        new["trainable_token_indices"] = _tokens(config, after.tokens)
    if config.get("bias", "none") != "none" and not after.biases:
        new["bias"] = "none"
    return new


def _would_target(config: Mapping[str, Any], module: str) -> bool:
    # PEFT leaves modules alone that it saves whole. Once they no longer are, it may want them.
    return targets({**config, "modules_to_save": None}, module)


def _target_modules(
    config: Mapping[str, Any],
    kept: Collection[str],
    dropped: Collection[str],
    base_rest: Collection[str] | None,
) -> list[str]:
    """The shortest endings that PEFT matches to the kept modules only, else full names.

    A regular expression is never written: for mixtures of experts PEFT 0.21 reduces one to the last
    parts of the names it matches, which widens it to other layers.
    """
    rest = [m for m in (*dropped, *(base_rest or ())) if m in dropped or not _excluded(config, m)]
    taken = {ending for module in rest for ending in _endings(module)}
    whole_universe = base_rest is not None
    wanted = config.get("target_modules")
    listed = [] if wanted is None or isinstance(wanted, str) else list(wanted)
    if config.get("layers_to_transform") not in (None, []):
        listed = []

    def shortest(module: str) -> str:
        for ending in _endings(module):
            if any(part.isdigit() for part in ending.split(".")):
                break
            # Without the base, an ending is safe where the adapter already matched all that has it.
            safe = whole_universe or any(f".{ending}".endswith(f".{known}") for known in listed)
            if safe and ending not in taken:
                return ending
        return module

    return sorted({shortest(module) for module in kept})


def _endings(module: str) -> list[str]:
    """``"a.b.c"`` → ``["c", "b.c", "a.b.c"]``."""
    parts = module.split(".")
    return [".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1)]


def _target_parameters(config: Mapping[str, Any], before: Kept, after: Kept) -> list[str] | None:
    return _narrow_list(config["target_parameters"], before.parameters, after.parameters, ".")


def _modules_to_save(
    config: Mapping[str, Any], before: Collection[str], after: Collection[str]
) -> list[str] | None:
    # PEFT wraps every module whose path ends with an entry, without asking for a dot before it.
    return _narrow_list(config["modules_to_save"], before, after, "")


def _narrow_list(
    entries: Iterable[str], before: Collection[str], after: Collection[str], joint: str
) -> list[str] | None:
    """Keeps entries all of whose matches are kept; writes the others' kept matches out in full."""
    new: list[str] = []
    for entry in entries:
        matches = [m for m in before if m == entry or m.endswith(joint + entry)]
        kept = [m for m in matches if m in after]
        new += [entry] if len(kept) == len(matches) else sorted(kept)
    return list(dict.fromkeys(new)) or None


def _tokens(config: Mapping[str, Any], kept: Collection[str]) -> object:
    indices = config["trainable_token_indices"]
    if not isinstance(indices, dict):
        return indices if kept else None
    new = {m: i for m, i in indices.items() if any(f".{k}".endswith(f".{m}") for k in kept)}
    return new or None
