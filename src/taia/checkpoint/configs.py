"""The two ``config.json``: are they one architecture, and which values does the output take.

The output's config is the base's, but for what the kept tensors need to be read as they were
trained: how attention encodes positions comes with the attention, the vocabulary's size and
special tokens with the vocabulary.
"""

from __future__ import annotations

import copy
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from taia.checkpoint.reading import is_file, read_json
from taia.errors import CheckpointError, MismatchError

_Config = Mapping[str, Any]

#: Keys that count something there is a module for, under all names that configs give them.
_COUNT: Final = re.compile(r"((?:num|n)_\w*(?:layer|head|expert)\w*)|\w+_(?:layers|heads|experts)")
#: More than any model has: what is made for each takes time and memory.
_MOST_LAYERS: Final = 1024
_MOST: Final = 1 << 16
#: Keys that are read as a table wherever they are read.
_TABLES: Final = ("text_config", "rope_scaling", "rope_parameters")

#: What makes two models different models, under the names that configs give it. None of these
#: shows for certain in the tensors' shapes.
ARCHITECTURE: Final = (
    "model_type",
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "hidden_size",
    "n_embd",
    "intermediate_size",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "num_experts_per_tok",
)

#: What the attention's weights were trained with.
POSITIONS: Final = (
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rope_local_base_freq",
    "partial_rotary_factor",
    "max_position_embeddings",
    "sliding_window",
    "use_sliding_window",
)

#: What belongs to the vocabulary.
TOKENS: Final = ("bos_token_id", "eos_token_id", "pad_token_id")

#: What may differ without a word.
_INDIFFERENT: Final = frozenset(
    {
        *POSITIONS,
        *TOKENS,
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "id2label",
        "label2id",
        "quantization_config",
        "text_config",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "vision_config",
        "vocab_size",
    }
)

#: What plays a part in training alone.
_TRAINING: Final = re.compile("drop|init|pretraining_tp|router_aux_loss_coef")


def read_config(folder: Path) -> dict[str, Any] | None:
    """What a model's ``config.json`` holds, ``None`` without one.

    Raises:
        CheckpointError: If it cannot be read, or a value that models are built by is of the wrong
            kind or beyond all models.
    """
    file = folder / "config.json"
    if not is_file(file):
        return None
    config = read_json(file)
    _check(config, file)
    return config


def _check(config: _Config, file: Path) -> None:
    for key, value in config.items():
        if key in _TABLES and not isinstance(value, Mapping | None):
            raise _wrong(file, key, value, "a table")
        if key == "model_type" and not isinstance(value, str | None):
            raise _wrong(file, key, value, "a name")
        if key == "architectures" and not _is_list_of_names(value):
            raise _wrong(file, key, value, "a list of names")
        count = _COUNT.fullmatch(key)
        if isinstance(value, Mapping) and not (count and count[1]):
            _check(value, file)
        elif count:
            most = _MOST_LAYERS if "layer" in key else _MOST
            # Some architectures count layer by layer; and "some_layers" may be no number.
            for one in value if isinstance(value, list) else [value]:
                beyond = not 0 <= one <= most if type(one) is int else bool(count[1])
                if one is not None and beyond:
                    raise _wrong(file, key, value, f"a whole number from 0 to {most}")


def _is_list_of_names(value: object) -> bool:
    listed = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return value is None or listed


def _wrong(file: Path, key: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(
        f"{file} has {key}={reprlib.repr(value)}, which is not {wanted}.",
        "Download or save the file again.",
    )


def text_config(config: _Config) -> _Config:
    """The part that describes the language model."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def check_kinship(base: _Config | None, tuned: _Config | None) -> None:
    """Refuse configs that describe different architectures.

    Raises:
        MismatchError: Naming the first key that differs.
    """
    if base is None or tuned is None:
        return
    for mine, theirs in ((base, tuned), (text_config(base), text_config(tuned))):
        for key in ARCHITECTURE:
            here, there = mine.get(key), theirs.get(key)
            if here is not None and there is not None and here != there:
                raise MismatchError(
                    f"Base and tuned differ in {key}: {here!r} and {there!r}.",
                    "Base must be the model that tuned was trained from.",
                )
    quantised = [side for side in (base, tuned) if side.get("quantization_config")]
    if len(quantised) == 1:
        whose = "base" if quantised[0] is base else "tuned model"
        method = quantised[0]["quantization_config"]
        name = method.get("quant_method") if isinstance(method, Mapping) else method
        raise MismatchError(
            f"Only the {whose} is quantised ({name}).",
            "Give both in one format; dequantise the quantised one first.",
        )


def composed_config(
    base: _Config | None,
    tuned: _Config | None = None,
    *,
    attention_tuned: bool = False,
    tokens_tuned: bool = False,
    rows: int | None,
    untied: bool,
) -> tuple[dict[str, Any] | None, list[str]]:
    """The output's config.

    Args:
        base: The base's, where it has one.
        tuned: The tuned model's, where what is kept may need it.
        attention_tuned: Whether any of the tuned model's attention is kept.
        tokens_tuned: Whether the output has the tuned model's tokenizer.
        rows: The output's vocabulary rows where the two models differ in them.
        untied: Whether head and embedding differ where the base's config ties them.

    Returns:
        The config, ``None`` where the base's can be taken as it is or is none; and notes.
    """
    if base is None:
        return None, []
    config, notes = copy.deepcopy(dict(base)), []
    inner = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    if tuned is not None:
        theirs = text_config(tuned)
        differing = _positions(inner) != _positions(theirs)
        if differing and attention_tuned:
            for key in POSITIONS:
                inner.pop(key, None)
            inner.update({key: theirs[key] for key in POSITIONS if key in theirs})
        if differing:
            whose = "tuned model's, as its attention is" if attention_tuned else "base's"
            notes.append(
                f"The two configs encode positions differently; the output has the {whose}."
            )
        if tokens_tuned:
            for side, source in ((config, tuned), (inner, theirs)):
                side.update({key: source[key] for key in TOKENS if source.get(key) is not None})
        if others := _others(inner, theirs):
            notes.append(f"config.json differs in {', '.join(others)}; the base's values are kept.")
    if rows is not None:
        for side in (config, inner):
            if "vocab_size" in side:
                side["vocab_size"] = rows
    if untied:
        for side in (config, inner):
            if side.get("tie_word_embeddings", side is config):
                side["tie_word_embeddings"] = False
        notes.append("Head and embedding differ, so config.json no longer ties them.")
    return (config if config != base else None), notes


def check_exchangeable(base: _Config, tuned: _Config) -> None:
    """Refuse configs of which one live model cannot be both, whichever tensors it holds.

    Raises:
        MismatchError: If they describe different architectures, or tensors are not all that tells
            the two models apart.
    """
    check_kinship(base, tuned)
    mine, theirs = text_config(base), text_config(tuned)
    others = [key for key in _others(mine, theirs) if not _TRAINING.search(key)]
    if others or _positions(mine) != _positions(theirs):
        what = f"differ in {others[0]}" if others else "encode positions differently"
        raise MismatchError(
            f"The configs of base and tuned {what}, which a live model cannot switch.",
            "Compose on disk with `taia compose`, which writes one config for what is kept.",
        )


def _others(base: _Config, tuned: _Config) -> list[str]:
    """Keys with different values that play a part and have no rule of their own."""
    return sorted(
        key for key in base.keys() & tuned.keys() - _INDIFFERENT if base[key] != tuned[key]
    )


def may_tie(config: _Config | None) -> bool:
    """Whether head and embedding may become one on loading; architectures differ in the default."""
    if config is None:
        return False
    return any(side.get("tie_word_embeddings", True) for side in (config, text_config(config)))


def _positions(config: _Config) -> dict[str, Any]:
    """How positions are encoded, alike for the spellings of transformers 4 and 5."""
    rope: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = config.get(key)
        if isinstance(value, Mapping):
            rope.update(value)
    for key in ("rope_theta", "partial_rotary_factor"):
        if config.get(key) is not None:
            rope.setdefault(key, config[key])
    kind = rope.pop("type", None) or rope.pop("rope_type", None) or "default"
    rope.pop("rope_type", None)
    rest = {
        key: config[key]
        for key in ("max_position_embeddings", "sliding_window", "use_sliding_window")
        if config.get(key) is not None
    }
    return {"kind": kind, **rope, **rest}
