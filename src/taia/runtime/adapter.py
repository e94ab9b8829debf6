"""A LoRA or MoLoRA update of a live model: layers are switched off and on, and scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taia.checkpoint.adapters.place import check_pair
from taia.errors import AdapterError, SelectionError
from taia.runtime.layers import Layer, read_anatomy, read_layers, with_parts
from taia.runtime.rows import RowScales
from taia.runtime.update import Plan
from taia.selection import Alpha, Pieces, Selection

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    from taia.anatomy import Anatomy

#: Of how many different batches the steps are kept.
_KEPT: Final = 256


class _Scale(NamedTuple):
    """A number by which PEFT multiplies an update: ``table[adapter]``."""

    table: dict[str, Any]
    adapter: str
    tuned: float  # what it is where α is 1
    part: int  # whose α it follows, in the order of a plan


class _Steps(NamedTuple):
    off: list[tuple[LoraLayer, bool]]
    scales: list[tuple[dict[str, Any], str, float | RowScales]]


class AdapterUpdate:
    """The active adapters of a PEFT model.

    No weight is copied or changed. Where α is 0 a layer skips its adapter, so that ``none`` is the
    base model bit for bit; where it is 1 the layer is as it was; a fraction scales.

    Args:
        model: With LoRA or MoLoRA adapters, active and not merged.

    Raises:
        AdapterError: As :func:`read_layers` does.
    """

    has_update: Final = True
    found_in: Final = "tuned"

    def __init__(self, model: PeftModel) -> None:
        self._model = model
        self._active = list(model.active_adapters)
        self._layers = [layer for layer in read_layers(model) if layer.parts]
        anatomy = read_anatomy(model, self._layers)
        self._labels = with_parts(anatomy, self._layers)
        self._switches = _switches(self._layers, self._active)
        self._row_steps = lru_cache(_KEPT)(self._steps)
        #: Why rows of one batch cannot be in different modes.
        self.cannot_mix = _why_not_mix(self._layers, self._active, anatomy)

    def plan(self, selection: Selection) -> Plan:
        """Work out what a selection does to each layer; nothing is changed.

        Args:
            selection: In terms of the base model's tensors; of MoLoRA also ``experts``, ``router``
                and ``shared_experts``.

        Raises:
            AdapterError: If DoRA should be scaled, which is not linear in α, or MoLoRA's experts
                should be parted from their router.
            SelectionError: If the selection matches nothing, or cuts through a tensor's rows.
        """
        found = selection.alphas(self._labels)
        alphas = tuple(alpha for layer in self._layers for alpha in self._alphas(layer, found))
        return Plan(alphas, self._steps((alphas,)))

    def apply(self, plan: Plan) -> None:
        """Put the model in a mode.

        Raises:
            AdapterError: If other adapters are active than when the update was read.
        """
        self._assign(plan.steps)

    def apply_rows(self, plans: Sequence[Plan]) -> None:
        """Put each row of a batch in a mode of its own.

        Raises:
            AdapterError: As :meth:`apply` does.
        """
        self._assign(self._row_steps(tuple(plan.alphas for plan in plans)))

    def _assign(self, steps: _Steps) -> None:
        if self._model.active_adapters != self._active:
            raise AdapterError(
                f"The active adapter is {', '.join(self._model.active_adapters)}, and was "
                f"{', '.join(self._active)} when the model was made switchable.",
                "Wrap the model again.",
            )
        for module, off in steps.off:
            # Not enable_adapters(False): that also stops the gradients, for good.
            module._disable_adapters = off
        for table, adapter, scale in steps.scales:
            table[adapter] = scale

    def _alphas(self, layer: Layer, found: Mapping[str, Alpha]) -> list[float]:
        of = {part.kind: self._alpha(layer, found[part.name]) for part in layer.parts}
        if "router" in of:
            check_pair(layer.name.removesuffix(".weight"), of["experts"], of["router"])
        return [*of.values()]

    def _alpha(self, layer: Layer, alpha: Alpha) -> float:
        if isinstance(alpha, Pieces):
            raise SelectionError(
                f"The selection keeps some rows of {layer.name} and not others.",
                "Compose it on disk with `taia compose`, or select whole projections.",
            )
        if alpha not in (0, 1) and any(layer.module.use_dora.get(a) for a in self._active):
            raise AdapterError(
                f"{layer.name} is DoRA, whose update cannot be scaled by {alpha}.",
                "Use whole parts (0 or 1), or compose on disk with `taia compose`.",
            )
        return alpha

    def _steps(self, rows: tuple[tuple[float, ...], ...]) -> _Steps:
        """What to assign, given each row's α by part."""
        by_part = [*zip(*rows, strict=True)]
        steps = _Steps([], [])
        shared: dict[tuple[float, ...], RowScales] = {}
        for module, scales in self._switches:
            off = not any(any(by_part[scale.part]) for scale in scales)
            steps.off.append((module, off))
            for table, adapter, tuned, part in scales:
                values = tuple(tuned if off else tuned * alpha for alpha in by_part[part])
                value: float | RowScales = values[0]
                if len(set(values)) > 1:
                    value = shared.setdefault(values, RowScales(values))
                steps.scales.append((table, adapter, value))
        return steps


def _switches(layers: list[Layer], active: list[str]) -> list[tuple[LoraLayer, list[_Scale]]]:
    switches, at = [], 0
    for layer in layers:
        scales = [
            _Scale(part.scales, adapter, part.scales[adapter], at + offset)
            for offset, part in enumerate(layer.parts)
            for adapter in active
            if adapter in part.scales
        ]
        switches.append((layer.module, scales))
        at += len(layer.parts)
    return switches


def _why_not_mix(layers: list[Layer], active: list[str], anatomy: Anatomy) -> str | None:
    from peft.tuners.lora.layer import MultiheadAttention, ParamWrapper

    if any(label.component == "experts" for label in anatomy.values()):
        return "its experts see the tokens of all rows together"
    for layer in layers:
        if isinstance(layer.module, ParamWrapper | MultiheadAttention):
            return f"the update of {layer.name} is added to the weight, which all rows share"
        if any(adapter in layer.module.lora_variant for adapter in active):
            return f"the update of {layer.name} is not LoRA's plain product (DoRA is not)"
    return None
