"""The parts of an adapter's update whose α a gradient reaches, and what stands in for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from taia.anatomy import Label
from taia.runtime.alphas import Alphas, LiveB, LiveScale, Slot
from taia.runtime.layers import Layer, Part
from taia.runtime.update import Changed


def changed(
    layers: Iterable[Layer], active: Sequence[str], labels: Mapping[str, Label]
) -> Iterator[Changed]:
    """What an adapter changes.

    Args:
        layers: The adapted layers.
        active: The adapters that are active.
        labels: Of all tensors, and of MoLoRA's parts.
    """
    found: dict[str, Changed] = {}
    for layer in layers:
        kinds = {part.kind: part.name for part in layer.parts}
        for part in layer.parts:
            follows = kinds["experts"] if part.kind == "router" else None
            found.setdefault(part.name, Changed(labels[part.name], _scales(layer, active), follows))
    yield from found.values()


def live_slots(layers: Iterable[Layer], active: Sequence[str], alphas: Alphas) -> Iterator[Slot]:
    """What stands in an adapter's layers where their α have a gradient.

    Args:
        layers: The adapted layers.
        active: The adapters that are active.
        alphas: The α; of other names, too.
    """
    for layer in layers:
        for part in layer.parts:
            if part.name in alphas:
                for adapter in active:
                    yield from _slots(layer, part, adapter, alphas)


def _scales(layer: Layer, active: Sequence[str]) -> bool:
    """Whether an update is linear in α, and stays so on its way into the model."""
    from peft.tuners.lora.layer import MultiheadAttention

    if layer.stands_in or isinstance(layer.module, MultiheadAttention):
        return False  # the latter adds its update to the weight out of a gradient's sight
    return not any(adapter in layer.module.lora_variant for adapter in active)


def _slots(layer: Layer, part: Part, adapter: str, alphas: Alphas) -> Iterator[Slot]:
    alpha = alphas.of(part.name)
    if part.kind == "low rank" and adapter in layer.module.lora_B:
        table = layer.module.lora_B._modules
        yield Slot(table, adapter, LiveB(table[adapter], alpha))
    elif adapter in part.scales:
        yield Slot(part.scales, adapter, LiveScale(part.tuned[adapter], alpha))
