"""What the layers of a live adapter are assigned in a mode: on or off, and a scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from taia.runtime.layers import Layer
from taia.runtime.rows import RowScales


class Scale(NamedTuple):
    """A number by which PEFT multiplies an update: ``table[adapter]``.

    Attributes:
        table: Where PEFT looks it up.
        adapter: By what.
        tuned: What it is where α is 1.
        part: Whose α it follows, in the order of a plan.
    """

    table: dict[str, Any]
    adapter: str
    tuned: float
    part: int


class LayerSwitch(NamedTuple):
    """What a layer's α decide.

    Attributes:
        modules: Are off where the α of all ``parts`` are 0.
        parts: By their place in a plan.
        scales: What is scaled.
    """

    modules: tuple[Any, ...]
    parts: tuple[int, ...]
    scales: list[Scale]


class Steps(NamedTuple):
    """What to assign.

    Attributes:
        off: Modules, and whether each is off.
        scales: Tables, adapters and the scale of each.
    """

    off: list[tuple[Any, bool]]
    scales: list[tuple[dict[str, Any], str, float | RowScales]]

    def assign(self) -> None:
        """Put the layers in the mode."""
        for module, off in self.off:
            # Not enable_adapters(False): that also stops the gradients, for good.
            module._disable_adapters = off
        for table, adapter, scale in self.scales:
            table[adapter] = scale


class Switches:
    """All adapted layers, to be switched and scaled.

    Args:
        layers: The layers.
        active: The adapters that are active.
    """

    def __init__(self, layers: Iterable[Layer], active: Sequence[str]) -> None:
        self._layers: list[LayerSwitch] = []
        at = 0
        for layer in layers:
            scales = [
                Scale(part.scales, adapter, part.tuned[adapter], at + offset)
                for offset, part in enumerate(layer.parts)
                for adapter in active
                if adapter in part.scales
            ]
            # A router decides nothing: it has no scale, and goes with its experts.
            parts = tuple(at + n for n, part in enumerate(layer.parts) if part.kind != "router")
            inner = [m for name, m in layer.module.named_children() if name == "token_adapter"]
            self._layers.append(LayerSwitch((layer.module, *inner), parts, scales))
            at += len(layer.parts)

    def steps(self, rows: tuple[tuple[float, ...], ...]) -> Steps:
        """What to assign, given each row's α by part."""
        by_part = [*zip(*rows, strict=True)]
        steps = Steps([], [])
        shared: dict[tuple[float, ...], RowScales] = {}
        for modules, parts, scales in self._layers:
            off = not any(any(by_part[part]) for part in parts)
            steps.off.extend((module, off) for module in modules)
            for table, adapter, tuned, part in scales:
                values = tuple(tuned if off else tuned * alpha for alpha in by_part[part])
                value: float | RowScales = values[0]
                if len(set(values)) > 1:
                    value = shared.setdefault(values, RowScales(values))
                steps.scales.append((table, adapter, value))
        return steps
