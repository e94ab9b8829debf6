"""A decoder's sizes, and how many parameters they make: for estimates before there is a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taia.errors import InputError


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a decoder with gated feed-forward blocks, as Llama, Qwen, Mistral and Gemma are.

    Attributes:
        layers: Decoder layers.
        hidden: Width of the residual stream.
        intermediate: Width inside the feed-forward block; of a mixture, of the experts that one
            token goes through together.
        heads: Attention heads.
        key_value_heads: Heads of keys and values.
        head_width: Width of a head.
        vocabulary: Tokens the head tells apart.
        tied: Whether the head is the embedding.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_width: int
    vocabulary: int
    tied: bool = False

    @property
    def queries(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_width

    @property
    def keys(self) -> int:
        """Width of all heads of keys, or of values, together."""
        return self.key_value_heads * self.head_width

    @property
    def linears(self) -> dict[str, list[tuple[int, int]]]:
        """The matrices of one layer, as (inputs, outputs), per component."""
        h, i, q, k = self.hidden, self.intermediate, self.queries, self.keys
        return {
            "attention": [(h, q), (h, k), (h, k), (q, h)],
            "mlp": [(h, i), (h, i), (i, h)],
        }

    def parameters(self) -> dict[str, int]:
        """Parameters per component, biases left out."""
        counts = {
            name: self.layers * sum(a * b for a, b in matrices)
            for name, matrices in self.linears.items()
        }
        counts["norm"] = (2 * self.layers + 1) * self.hidden
        counts["embedding"] = self.vocabulary * self.hidden
        if not self.tied:
            counts["head"] = self.vocabulary * self.hidden
        return counts

    def lora(self, rank: int) -> dict[str, int]:
        """Parameters of a LoRA on every matrix of every layer, per component: r (in + out) each."""
        return {
            name: self.layers * sum(rank * (a + b) for a, b in matrices)
            for name, matrices in self.linears.items()
        }

    def molora(self, rank: int, experts: int) -> dict[str, int]:
        """Parameters of a MoLoRA: LoRA on attention; a router and experts on each MLP matrix."""
        routers = self.layers * sum(a * experts for a, _ in self.linears["mlp"])
        plain = self.lora(rank)
        return {"attention": plain["attention"], "mlp": experts * plain["mlp"] + routers}


def shape_of(config: Any) -> Shape:  # noqa: ANN401 - every architecture has a class of its own
    """The sizes a transformers configuration states; where layers differ, those of the largest.

    Args:
        config: A ``PreTrainedConfig``; of a model with vision or audio, its text part is taken.

    Raises:
        InputError: If it does not state one: the model is not made of attention and feed-forward
            blocks.
    """
    config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    hidden = _stated(config, "hidden_size")
    heads = _stated(config, "num_attention_heads")
    inner = _largest(config, "intermediate_size", "n_inner") or 4 * hidden
    if chosen := _largest(config, "num_experts_per_tok"):
        inner = chosen * (_largest(config, "moe_intermediate_size") or inner)
    return Shape(
        layers=_stated(config, "num_hidden_layers"),
        hidden=hidden,
        intermediate=inner,
        heads=heads,
        key_value_heads=_largest(config, "num_key_value_heads") or heads,
        head_width=_largest(config, "head_dim") or hidden // heads,
        vocabulary=_stated(config, "vocab_size"),
        tied=bool(getattr(config, "tie_word_embeddings", False)),
    )


def _stated(config: Any, name: str) -> int:  # noqa: ANN401
    value = _largest(config, name)
    if value is None:
        raise InputError(
            f"The configuration of {config.model_type} does not state {name}.",
            "Train without an estimate of memory and time.",
        )
    return value


def _largest(config: Any, *names: str) -> int | None:  # noqa: ANN401
    """The first of some sizes that there is, at its largest over the layers."""
    layers = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
    for name in names:
        values = [getattr(layer, name, None) for layer in layers]
        numbers = [
            number
            for value in values
            for number in (value if isinstance(value, list | tuple) else [value])
            if number
        ]
        if numbers:
            return int(max(numbers))
    return None
