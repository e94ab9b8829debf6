"""A model's hyper-parameters as GGUF's keys, read from its config as transformers fills it in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.locate import Located
from taia.errors import InputError
from taia.export.architectures import Names
from taia.loading.models import load_config

if TYPE_CHECKING:
    import numpy as np

#: Method of the writer → the config's names for it, of which a model has one.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "add_block_count": ("num_hidden_layers",),
    "add_context_length": ("max_position_embeddings",),
    "add_embedding_length": ("hidden_size",),
    "add_head_count": ("num_attention_heads",),
    "add_vocab_size": ("vocab_size",),
    "add_layer_norm_rms_eps": ("rms_norm_eps",),
    "add_layer_norm_eps": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "add_expert_count": ("num_local_experts", "num_experts"),
    "add_expert_used_count": ("num_experts_per_tok",),
}
#: Models whose norms have their epsilon in the code.
_EPSILON: Final = {"olmo": 1e-5}
#: Activations by the families that llama.cpp has fixed for an architecture.
_GATES: Final[Mapping[str, tuple[str, ...]]] = {
    "silu": ("silu", "swish"),
    "gelu": ("gelu_pytorch_tanh", "gelu_new", "gelu", "gelu_fast"),
}
#: Who uses GELU; every other architecture of the table uses SiLU.
_GELU: Final = ("gemma", "gemma2", "gemma3", "gpt2", "gptneox", "starcoder2", "phi2")
#: Whose sliding window llama.cpp leaves out.
_WINDOWED: Final = ("mistral", "mixtral", "starcoder2")
_MEND: Final = "Export it --to transformers, and serve it with vLLM or transformers."


def add_keys(writer: Any, place: Located, names: Names) -> tuple[str, ...]:  # noqa: ANN401 - gguf's
    """Writes a model's hyper-parameters with a ``gguf.GGUFWriter``.

    Returns:
        What a careful reader would want to know.

    Raises:
        CheckpointError: If there is no config that transformers knows.
        InputError: If llama.cpp would compute another model.
    """
    config: Any = load_config(place)
    _check(place, config, names)
    for method, keys in _KEYS.items():
        value = next((v for key in keys if (v := getattr(config, key, None)) is not None), None)
        if value is not None:
            getattr(writer, method)(value)
    if epsilon := _EPSILON.get(config.model_type):
        writer.add_layer_norm_eps(epsilon)
    heads, width = config.num_attention_heads, _head(config)
    inner = config.n_inner if hasattr(config, "n_inner") else config.intermediate_size
    writer.add_feed_forward_length(inner or 4 * config.hidden_size)
    grouped = not (names.architecture.by_head or names.architecture.transposed)
    own = getattr(config, "num_key_value_heads", None) if grouped else None
    writer.add_head_count_kv(own or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    for key, method in names.architecture.keys.items():
        if (value := getattr(config, key, None)) is not None:
            getattr(writer, method)(value)
    _add_rope(writer, place, config)
    window = getattr(config, "sliding_window", None)
    if config.model_type == "phi3":
        # 0 says that there is no window; without the key llama.cpp takes its own.
        writer.add_sliding_window(window or 0)
    elif config.model_type in _WINDOWED and window and window < config.max_position_embeddings:
        return (
            f"llama.cpp does not use the sliding window of {window:,} tokens: longer texts are "
            "seen whole.",
        )
    return ()


def rope_factors(place: Located) -> dict[str, np.ndarray[Any, Any]]:
    """What llama.cpp divides the rotary frequencies by, for the scalings that it has no rule for.

    Returns:
        Tensor's name in GGUF → its values, float32, ``[head / 2]``.
    """
    import numpy as np
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config: Any = load_config(place)
    rope = _rope(config)
    kind = rope.get("rope_type")
    if kind == "longrope":
        return {
            f"rope_factors_{length}.weight": np.asarray(rope[f"{length}_factor"], np.float32)
            for length in ("long", "short")
        }
    if kind != "llama3":
        return {}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    width = _rotated(config, rope)
    plain = 1.0 / rope["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    return {"rope_freqs.weight": (plain / scaled).numpy()}


def _check(place: Located, config: Any, names: Names) -> None:  # noqa: ANN401 - a config
    architecture = names.architecture
    for key, wanted in architecture.needs.items():
        found = getattr(config, key, wanted)
        if (found or False) != (wanted or False):
            raise InputError(
                f"{place.given} has {key}={found!r}; llama.cpp's {architecture.name} knows "
                f"{wanted!r} only.",
                _MEND,
            )
    family = _GATES["gelu" if architecture.name in _GELU else "silu"]
    used = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    used = used or getattr(config, "activation_function", None)
    if used is not None and used not in family:
        raise InputError(
            f"{place.given} has the activation {used!r}; llama.cpp's {architecture.name} has "
            f"{family[0]}.",
            _MEND,
        )
    scalar = getattr(config, "query_pre_attn_scalar", None)
    if scalar is not None and scalar not in (_head(config), _by_width(config)):
        raise InputError(
            f"{place.given} has query_pre_attn_scalar={scalar!r}; llama.cpp scales by the size "
            f"of a head, {_head(config)}.",
            _MEND,
        )


def _by_width(config: Any) -> float | None:  # noqa: ANN401 - a config
    """The 27B models of Gemma 2 and 3, which llama.cpp knows by their number of layers."""
    large = config.num_hidden_layers in (46, 62)
    return config.hidden_size / config.num_attention_heads if large else None


def _head(config: Any) -> int:  # noqa: ANN401 - a config
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def _rope(config: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a config
    rope = getattr(config, "rope_parameters", None) or {}
    full = rope.get("full_attention", rope)
    return full if isinstance(full, Mapping) else {}


def _rotated(config: Any, rope: Mapping[str, Any]) -> int:  # noqa: ANN401 - a config
    part = rope.get("partial_rotary_factor", getattr(config, "partial_rotary_factor", None))
    return int(_head(config) * (part or 1.0))


def _add_rope(writer: Any, place: Located, config: Any) -> None:  # noqa: ANN401
    rope = _rope(config)
    if not rope:
        return
    writer.add_rope_dimension_count(_rotated(config, rope))
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    sliding = getattr(config, "rope_parameters", {}).get("sliding_attention")
    if isinstance(sliding, Mapping):
        writer.add_rope_freq_base_swa(float(sliding["rope_theta"]))
    kind = str(rope.get("rope_type", "default"))
    if kind not in _SCALINGS:
        raise InputError(
            f"{place.given} scales its rotary positions by {kind!r}, which taia cannot say in "
            "GGUF.",
            _MEND,
        )
    _SCALINGS[kind](writer, config, rope)


def _plain(writer: Any, config: Any, rope: Mapping[str, Any]) -> None:  # noqa: ANN401
    if config.model_type == "phi3":
        writer.add_rope_scaling_orig_ctx_len(config.max_position_embeddings)


def _linear(writer: Any, config: Any, rope: Mapping[str, Any]) -> None:  # noqa: ANN401
    from gguf import RopeScalingType

    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(float(rope["factor"]))


def _yarn(writer: Any, config: Any, rope: Mapping[str, Any]) -> None:  # noqa: ANN401
    from gguf import RopeScalingType

    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(rope["factor"]))
    writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    for key, method in (
        ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
        ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
    ):
        if rope.get(key) is not None:
            method(float(rope[key]))


def _longrope(writer: Any, config: Any, rope: Mapping[str, Any]) -> None:  # noqa: ANN401
    from gguf import RopeScalingType

    before = int(rope["original_max_position_embeddings"])
    scale = config.max_position_embeddings / before
    factor = rope.get("attention_factor")
    if factor is None:
        factor = math.sqrt(1 + math.log(scale) / math.log(before)) if scale > 1 else 1.0
    writer.add_rope_scaling_type(RopeScalingType.LONGROPE)
    writer.add_rope_scaling_orig_ctx_len(before)
    writer.add_rope_scaling_attn_factors(float(factor))


def _by_tensor(writer: Any, config: Any, rope: Mapping[str, Any]) -> None:  # noqa: ANN401
    """llama3: :func:`rope_factors` has it all."""


_SCALINGS: Final[Mapping[str, Callable[[Any, Any, Mapping[str, Any]], None]]] = {
    "default": _plain,
    "linear": _linear,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _by_tensor,
}
