"""``adapter_config.json``: what taia can work on."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.adapters.names import PEFT_TYPE
from taia.checkpoint.adapters.patterns import BAD_PATTERN, LONGEST_PATTERN
from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.reading import is_file, read_json
from taia.errors import AdapterError

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
#: What null stands for where PEFT itself does not take it.
_NULLS: Final[Mapping[str, object]] = {
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "lora_dropout": 0.0,
}
#: What no module or token stands for, so that PEFT does not look for their weights.
_EMPTY: Final = ("trainable_token_indices",)
_CHECKPOINTS_INSTEAD: Final = (
    "merge it into its base with PEFT's merge_and_unload, save, and compose the two checkpoints"
)


def read_adapter_config(folder: Path) -> dict[str, Any]:
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
    config |= {key: value for key, value in _NULLS.items() if key in config and config[key] is None}
    config |= {key: None for key in _EMPTY if config.get(key) in ([], {})}
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
