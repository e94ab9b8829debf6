"""Adapters for programs that know low-rank updates of matrices, with one scale, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from taia.checkpoint.adapters.names import PEFT_TYPE
from taia.checkpoint.adapters.read import Adapter, ParameterUpdate
from taia.checkpoint.arithmetic import load
from taia.errors import AdapterError

if TYPE_CHECKING:
    import torch

#: Kind of an update → what people call it.
_KINDS: Final = {
    "embedding": "a low-rank update of the embedding",
    "tokens": "trained tokens",
    "whole": "tensors saved whole (modules_to_save, or an embedding's beside its update)",
    "bias": "trained biases",
}
_MERGE: Final = "Merge it: add --merge, and it becomes a whole model."


@dataclass(frozen=True, slots=True)
class Factors:
    """A low-rank update: ΔW = scaling · B·A.

    Attributes:
        update: The update.
        a: ``[rank, inputs]``, float32.
        b: ``[outputs, rank]``, float32.
        scaling: What PEFT multiplies with.
    """

    update: ParameterUpdate
    a: torch.Tensor
    b: torch.Tensor
    scaling: float


def factors(adapter: Adapter) -> Iterator[Factors]:
    """The updates of an adapter that has nothing but low-rank ones, one at a time.

    Raises:
        AdapterError: If a tensor's dtype is not one to calculate with.
    """
    import torch

    for update in adapter.updates:
        a, b = (
            torch.from_numpy(load(adapter.entries[update.parts[side].tensor])).float()
            for side in ("lora_A", "lora_B")
        )
        yield Factors(update, a, b, adapter.scaling(update))


def alike(adapter: Adapter) -> bool:
    """Whether ``lora_alpha / r`` of the config is the scale of every module."""
    ranks = {adapter.rank(update) for update in adapter.updates}
    scales = {adapter.scaling(update) for update in adapter.updates}
    config = adapter.config
    return ranks == {config["r"]} and scales == {config.get("lora_alpha", 8) / config["r"]}


def plain_low_rank(adapter: Adapter, program: str) -> None:
    """Checks, for a program, that an adapter is low-rank updates of matrices and nothing else.

    Raises:
        AdapterError: With the first thing that the program cannot carry, and the alternative.
    """
    if adapter.config["peft_type"] == PEFT_TYPE and adapter.routed:
        raise AdapterError(
            f"{program} has no MoLoRA: {adapter.folder} holds a router and experts.",
            "Compose a part of it without experts, or export it --to transformers.",
        )
    for what, where in _beyond(adapter):
        raise AdapterError(f"{program} cannot carry {what}; the adapter has {where}.", _MERGE)


def _beyond(adapter: Adapter) -> Iterator[tuple[str, str]]:
    if adapter.config.get("alora_invocation_tokens"):
        yield "an activated LoRA", "alora_invocation_tokens"
    for update in adapter.updates:
        if update.kind != "low rank":
            yield _KINDS.get(update.kind, update.kind), update.parameter
        elif update.through_parameter:
            yield "an update of a bare parameter (target_parameters)", update.parameter
        elif beyond := _more_than_a_product(adapter, update):
            yield beyond, update.parameter


def _more_than_a_product(adapter: Adapter, update: ParameterUpdate) -> str | None:
    if "magnitude" in update.parts:
        return "DoRA"
    if "lora_B_bias" in update.parts:
        return "a bias beside B (lora_bias)"
    if adapter.shape(update.parts["lora_A"])[0] != adapter.rank(update):
        return "an update of stacked experts"
    return None
