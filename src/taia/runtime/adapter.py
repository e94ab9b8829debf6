"""An adapter of a live model: layers are switched off and on, and scaled.

What an adapter replaces in the base instead of adding to it (trained biases, a resized embedding)
is exchanged by reference, as the tensors of a tuned checkpoint are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from taia.checkpoint.adapters.place import check_router
from taia.errors import AdapterError, SelectionError
from taia.runtime.alphas import Alphas, Slot, Slots
from taia.runtime.exchange import Exchanged, exchange, same_bits, stand_ins
from taia.runtime.factored import check_on_adapters, product_of, slots_of
from taia.runtime.formulas import LiveFormula, by_formula
from taia.runtime.layers import Layer, base_tensors, read_anatomy, read_layers, with_parts
from taia.runtime.live import changed, live_slots
from taia.runtime.switches import Steps, Switches
from taia.runtime.update import Changed, Plan, changing, check_scales
from taia.selection import Alpha, Pieces, Selection

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from taia.anatomy import Anatomy
    from taia.methods import Applied

#: Of how many different batches the steps are kept.
_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class AdapterSteps:
    """What a mode assigns: to the adapter's layers, and to what the adapter replaces."""

    switches: Steps
    replaced: tuple[Alpha | torch.Tensor, ...]


class AdapterUpdate:
    """The active adapters of a PEFT model.

    No weight is copied or changed. Where α is 0 a layer skips its adapter, so that ``none`` is the
    base model bit for bit; where it is 1 the layer is as it was; a fraction scales.

    Args:
        model: With LoRA or MoLoRA adapters, active and not merged.
        declare: Labels for tensors that no rule knows.
        replaced: Name → the base's values of what loading the adapter wrote over; None where
            nobody kept them.

    Raises:
        AdapterError: As :func:`read_layers` does; or if the adapter replaces tensors of the base
            and nobody kept them.
    """

    has_update: Final = True
    found_in: Final = "tuned"

    def __init__(
        self,
        model: PeftModel,
        declare: Mapping[str, str] | None = None,
        replaced: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self._model = model
        self._active = list(model.active_adapters)
        layers = read_layers(model)
        self._layers = [layer for layer in layers if layer.parts]
        anatomy = read_anatomy(model, layers, declare)
        self.labels = with_parts(anatomy, self._layers)
        self._switches = Switches(self._layers, self._active)
        self._replaced = _replaced(model, layers, replaced)
        #: What was kept of the base's, for whoever wraps the model anew.
        self.replaced = None if replaced is None else {t.name: t.base for t in self._replaced}
        self.changed = (
            *changed(self._layers, self._active, self.labels),
            *(Changed(self.labels[tensor.name]) for tensor in self._replaced),
        )
        self._slots = Slots()
        self._row_steps = lru_cache(_KEPT)(self._switches.steps)
        #: Why rows of one batch cannot be in different modes.
        self.cannot_mix = _why_not_mix(self._layers, self._active, anatomy, self._replaced)

    def plan(self, selection: Selection, method: Applied | None = None) -> Plan:
        """Work out what a selection does to each layer, and a method before it; nothing is changed.

        Args:
            selection: In terms of the base model's tensors; of MoLoRA also ``experts``, ``router``
                and ``shared_experts``.
            method: What is done to the update first.

        Raises:
            AdapterError: If DoRA should be scaled, which is not linear in α, MoLoRA's experts
                should be parted from their router, or the method means nothing on an update.
            MethodError: If the method lacks what it needs, or a tensor is none for it.
            SelectionError: If the selection matches nothing, or cuts through a tensor's rows.
        """
        found = selection.alphas(self.labels)
        if method is not None:
            formula = LiveFormula(method, self.labels)
            found = formula.weighed(found)
        alphas = tuple(alpha for layer in self._layers for alpha in self._alphas(layer, found))
        replaced = tuple(found[tensor.name] for tensor in self._replaced)
        steps = self._switches.steps((alphas,))
        plan = Plan((*alphas, *replaced), AdapterSteps(steps, replaced))
        if method is None:
            return plan
        with self._slots.lifted():
            return self._by_method(plan, formula, found)

    def plan_at(self, alphas: Alphas) -> Plan:
        """Work out what stands in for the adapter's parts while α have a gradient.

        Raises:
            InputError: If one is no part that can be scaled.
        """
        check_scales(self.changed, alphas)
        steps = self.plan(Selection.parse("all")).steps
        replaced = tuple(0.0 if tensor.name in alphas else 1.0 for tensor in self._replaced)
        with self._slots.lifted():
            slots = (
                *live_slots(self._layers, self._active, alphas),
                *stand_ins(self._model, self._replaced, alphas),
            )
        return Plan(changing(), replace(steps, replaced=replaced), slots)

    def _by_method(self, plan: Plan, formula: LiveFormula, found: Mapping[str, Alpha]) -> Plan:
        """A plan with what a method makes of the updates that it is for."""
        check_on_adapters(formula.applied)
        slots: list[Slot] = []
        off: set[str] = set()
        for layer in self._layers:
            if any(formula.calculates(part.name, found[part.name]) for part in layer.parts):
                product = product_of(layer, self._active, formula.applied.method.title)
                slots += slots_of(product, formula, found[layer.name])
                off |= {layer.name} if formula.applied.method.spectrum is None else set()
        alphas = tuple(
            0.0 if layer.name in off else alpha
            for layer in self._layers
            for alpha in self._alphas(layer, found)
        )
        replaced = tuple(
            by_formula(self._model, tensor, formula, found[tensor.name])
            for tensor in self._replaced
        )
        steps = AdapterSteps(self._switches.steps((alphas,)), replaced)
        made = bool(slots) or replaced != plan.steps.replaced
        return Plan(plan.alphas, steps, tuple(slots), str(formula.applied) if made else "")

    def apply(self, plan: Plan) -> None:
        """Put the model in a mode.

        Raises:
            AdapterError: If other adapters are active than when the update was read.
            CheckpointError: If the model was moved since.
        """
        self._check_active()
        self._slots.put(())
        exchange(self._replaced, plan.steps.replaced)
        plan.steps.switches.assign()
        self._slots.put(plan.slots)

    def apply_rows(self, plans: Sequence[Plan]) -> None:
        """Put each row of a batch in a mode of its own.

        Raises:
            AdapterError: As :meth:`apply` does.
        """
        self._check_active()
        self._slots.put(())
        self._row_steps(tuple(plan.alphas for plan in plans)).assign()

    def _check_active(self) -> None:
        if self._model.active_adapters != self._active:
            raise AdapterError(
                f"The active adapter is {', '.join(self._model.active_adapters)}, and was "
                f"{', '.join(self._active)} when the model was made switchable.",
                "Wrap the model again.",
            )

    def _alphas(self, layer: Layer, found: Mapping[str, Alpha]) -> list[float]:
        if layer.stands_in:
            return self._ends(layer, [found[part.name] for part in layer.parts])
        of = {part.kind: self._alpha(layer, found[part.name]) for part in layer.parts}
        if "router" in of:
            check_router(layer.name.removesuffix(".weight"), of["experts"], of["router"])
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

    def _ends(self, layer: Layer, alphas: list[Alpha]) -> list[float]:
        """All of a module that stands in for the base's, or nothing of it."""
        first = alphas[0]
        if first not in (0, 1) or any(alpha != first for alpha in alphas):
            raise AdapterError(
                f"The adapter has {layer.name.rpartition('.')[0]} whole, or some of its rows, and "
                "a live model takes all of that or nothing.",
                "Select the whole module at 0 or 1, or compose on disk with `taia compose`.",
            )
        return [float(bool(first)) for _ in alphas]


def _replaced(
    model: PeftModel, layers: list[Layer], replaced: Mapping[str, torch.Tensor] | None
) -> tuple[Exchanged, ...]:
    """What the adapter has in place of the base's own tensors, where the two differ.

    Raises:
        AdapterError: If that is to be expected, and nobody kept the base's.
    """
    if replaced is None:
        for adapter in model.active_adapters:
            if getattr(model.peft_config[adapter], "bias", "none") != "none":
                raise AdapterError(
                    f"The adapter {adapter!r} trains biases, and has written over the base's.",
                    "Use SwitchableModel.load, which keeps the base's, or `taia compose`.",
                )
        return ()
    return tuple(
        Exchanged(name, live, replaced[name], live.data, live.data_ptr())
        for name, live in base_tensors(model.get_base_model(), layers)
        if name in replaced and not same_bits(live.data, replaced[name])
    )


def _why_not_mix(
    layers: list[Layer], active: list[str], anatomy: Anatomy, replaced: Sequence[Exchanged]
) -> str | None:
    from peft.tuners.lora.layer import MultiheadAttention, ParamWrapper

    if any(label.component == "experts" for label in anatomy.values()):
        return "its experts see the tokens of all rows together"
    if replaced:
        return f"{replaced[0].name} is replaced, and all rows share it"
    for layer in layers:
        if layer.stands_in:
            return f"{layer.name} is replaced by the adapter's own, and all rows share it"
        if isinstance(layer.module, ParamWrapper | MultiheadAttention):
            return f"the update of {layer.name} is added to the weight, which all rows share"
        if any(adapter in layer.module.lora_variant for adapter in active):
            return f"the update of {layer.name} is not LoRA's plain product (DoRA is not)"
    return None
