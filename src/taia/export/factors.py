"""An adapter's B·A with its scale, as targets take them that know one scale for all modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taia.checkpoint.adapters.read import Adapter, Update
from taia.checkpoint.arithmetic import load

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Factors:
    """A low-rank update: ΔW = scaling · B·A.

    Attributes:
        update: The update.
        a: ``[rank, inputs]``, float32.
        b: ``[outputs, rank]``, float32.
        scaling: What PEFT multiplies with.
    """

    update: Update
    a: torch.Tensor
    b: torch.Tensor
    scaling: float


def factors(adapter: Adapter) -> Iterator[Factors]:
    """The updates of an adapter that has nothing but low-rank ones, one at a time.

    Raises:
        AdapterError: If a tensor's dtype is not one to calculate with.
    """
    for update in adapter.updates:
        a, b = (
            load(adapter.entries[update.parts[side].tensor]).float()
            for side in ("lora_A", "lora_B")
        )
        yield Factors(update, a, b, adapter.scaling(update))


def alike(adapter: Adapter) -> bool:
    """Whether ``lora_alpha / r`` of the config is the scale of every module."""
    ranks = {adapter.rank(update) for update in adapter.updates}
    scales = {adapter.scaling(update) for update in adapter.updates}
    config = adapter.config
    return ranks == {config["r"]} and scales == {config.get("lora_alpha", 8) / config["r"]}
