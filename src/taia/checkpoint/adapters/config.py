"""``adapter_config.json``: what taia can work on, and how it is narrowed to what was kept."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taia.anatomy.label import number
from taia.checkpoint.adapters.experts import PEFT_TYPE, narrowed
from taia.checkpoint.adapters.match import excluded, pattern_matches, targets
from taia.checkpoint.index import ADAPTER_CONFIG, read_json
from taia.checkpoint.patterns import BAD_PATTERN, LONGEST_PATTERN
from taia.checkpoint.reading import is_file
from taia.errors import AdapterError

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


def _whole(value: object) -> bool:
    # bool is an int to isinstance; the limit keeps what is made of it within floats
    return type(value) is int and 0 <= value < 2**63


def _number(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number beyond all floats
        return False


def _list(value: object, each: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(map(each, value))


def _text(value: object) -> bool:
    return isinstance(value, str)


def _table(value: object, each: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(map(each, value.values()))


def _patterns(value: object, each: Callable[[object], bool]) -> bool:
    keys = value if isinstance(value, dict) else ()
    return _table(value, each) and all(len(key) <= LONGEST_PATTERN for key in keys)


def _names(value: object) -> bool:
    return value is None or _list(value, _text)


def _pattern_or_names(value: object) -> bool:
    if not isinstance(value, str):
        return _names(value)
    if len(value) > LONGEST_PATTERN:
        return False
    try:
        re.compile(value)
    except BAD_PATTERN:
        return False
    return True


#: Key → whether a value is as PEFT writes it, and what that is.
_SHAPES: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "r": (lambda v: _whole(v) and v != 0, "a positive whole number"),
    "lora_alpha": (_number, "a number"),
    "rank_pattern": (
        lambda v: v is None or _patterns(v, lambda x: _whole(x) and x != 0),
        "a table of positive whole numbers",
    ),
    "alpha_pattern": (lambda v: v is None or _patterns(v, _number), "a table of numbers"),
    "target_modules": (_pattern_or_names, "a regular expression or a list of names"),
    "exclude_modules": (_pattern_or_names, "a regular expression or a list of names"),
    "target_parameters": (_names, "a list of names"),
    "modules_to_save": (_names, "a list of names"),
    "layers_to_transform": (
        lambda v: v is None or _whole(v) or _list(v, _whole),
        "a layer or a list of layers",
    ),
    "layers_pattern": (lambda v: _text(v) or _names(v), "a name or a list of names"),
    "trainable_token_indices": (
        lambda v: v is None or _list(v, _whole) or _table(v, lambda x: _list(x, _whole)),
        "a list of tokens, or one for each embedding",
    ),
    "bias": (lambda v: v in ("none", "all", "lora_only"), "'none', 'all' or 'lora_only'"),
    "num_experts": (lambda v: _whole(v) and v != 0, "a positive whole number"),
    "shared_expert": (_whole, "a whole number"),
    "expert_modules": (_pattern_or_names, "a regular expression or a list of names"),
}
_CHECKPOINTS_INSTEAD: Final = (
    "merge it into its base with PEFT's merge_and_unload, save, and compose the two checkpoints"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What remains of an adapter.

    Attributes:
        modules: Paths of the modules that keep a low-rank update of their weight, or experts.
        parameters: Names of the parameters that keep one through ``target_parameters``.
        wholes: Paths of the modules kept whole (``modules_to_save``).
        tokens: Paths of the embeddings that keep trained tokens.
        biases: Whether any trained bias remains.
        low_rank: Paths of the modules that keep a low-rank update.
        experts: Paths of the modules that keep MoLoRA's experts.
    """

    modules: frozenset[str]
    parameters: frozenset[str]
    wholes: frozenset[str]
    tokens: frozenset[str]
    biases: bool
    low_rank: frozenset[str] = frozenset()
    experts: frozenset[str] = frozenset()


def read_config(folder: Path) -> dict[str, Any]:
    """Reads an adapter's config.

    Raises:
        AdapterError: If it is missing, or of a kind that taia cannot filter faithfully; the message
            says why.
        CheckpointError: If it is not a JSON object.
    """
    path = folder / ADAPTER_CONFIG
    if not is_file(path):
        raise AdapterError(
            f"{folder} has no {ADAPTER_CONFIG}", "give the folder that PEFT's save_pretrained wrote"
        )
    config = read_json(path)
    _check(config, path)
    return config


def _check(config: Mapping[str, Any], path: Path) -> None:
    kind = config.get("peft_type")
    if kind not in ("LORA", PEFT_TYPE):
        raise AdapterError(
            f"{path} describes a {kind} adapter; taia filters LoRA, rsLoRA, DoRA and MoLoRA",
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
    for key, (fits, wanted) in _SHAPES.items():
        if key in config and not fits(config[key]):
            raise AdapterError(
                f"{path} has {key}={reprlib.repr(config[key])}, which is not {wanted}",
                "save the adapter again with PEFT",
            )
    if "r" not in config:
        raise AdapterError(f"{path} does not say r", "save the adapter again with PEFT")


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
                if any(pattern_matches(pattern, m) for m in after.modules | after.parameters)
            }
    if after.wholes != before.wholes:
        new["modules_to_save"] = _modules_to_save(config, before.wholes, after.wholes)
    if after.tokens != before.tokens:
        new["trainable_token_indices"] = _tokens(config, after.tokens)
    if config.get("bias", "none") != "none" and not after.biases:
        new["bias"] = "none"
    return narrowed(new, before, after) if before.experts else new


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
    rest = [m for m in (*dropped, *(base_rest or ())) if m in dropped or not excluded(config, m)]
    taken = {ending for module in rest for ending in _endings(module)}
    whole_universe = base_rest is not None
    wanted = config.get("target_modules")
    listed = [] if wanted is None or isinstance(wanted, str) else list(wanted)
    if config.get("layers_to_transform") not in (None, []):
        listed = []

    def shortest(module: str) -> str:
        for ending in _endings(module):
            if any(number(part) is not None for part in ending.split(".")):
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
