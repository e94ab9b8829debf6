"""A method on a live adapter: other factors, or where it leaves no factors, another weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from taia.checkpoint.adapters.low_rank import LowRank, factors, stacked
from taia.errors import AdapterError
from taia.methods import Applied
from taia.methods.calculate import changed_factors
from taia.runtime.alphas import Slot
from taia.runtime.formulas import LiveFormula, array, like
from taia.runtime.layers import Layer
from taia.selection import Alpha


class Product(NamedTuple):
    """The update of an adapted layer: s·B·A, for each expert where it has experts.

    Attributes:
        name: The base's tensor that it changes.
        module: PEFT's layer.
        adapter: The adapter.
        scaling: s in the tuned model.
    """

    name: str
    module: Any
    adapter: str
    scaling: float

    def tables(self) -> tuple[Any, Any]:
        """Where A and B are, by the adapter: modules, or an embedding's parameters."""
        if self.adapter in self.module.lora_A:
            return self.module.lora_A, self.module.lora_B
        return self.module.lora_embedding_A, self.module.lora_embedding_B

    def weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B, stacked as PEFT stacks them."""
        a, b = (table[self.adapter] for table in self.tables())
        return getattr(a, "weight", a), getattr(b, "weight", b)

    @property
    def experts(self) -> int:
        """How many experts' factors are stacked."""
        return int(self.weights()[0].shape[0]) // int(self.module.r[self.adapter])

    @property
    def inputs_first(self) -> bool:
        """Whether the base's tensor is stored [inputs, outputs]."""
        if self.adapter not in self.module.lora_A:
            return True
        if self.experts > 1:
            return bool(getattr(self.module.get_base_layer(), "is_transposed", False))
        return bool(getattr(self.module, "fan_in_fan_out", False))

    @property
    def base(self) -> torch.Tensor:
        """The base's tensor.

        Raises:
            AdapterError: If it is quantised.
        """
        found: torch.Tensor = self.table[self.parameter]
        if getattr(found, "quant_state", None) is not None or not found.is_floating_point():
            raise AdapterError(
                f"The method needs the base's own numbers of {self.name}, which are quantised.",
                "Load the base whole, or use a method that does not read it.",
            )
        return found.data

    @property
    def table(self) -> dict[str, Any]:
        """The parameters among which the base's tensor is."""
        table: dict[str, Any] = self.module.get_base_layer()._parameters
        return table

    @property
    def parameter(self) -> str:
        """What it is called there."""
        return self.name.rpartition(".")[2]


def check_on_adapters(applied: Applied) -> None:
    """Refuse a method that means nothing on an adapter.

    Raises:
        AdapterError: Why it does not.
    """
    if why := applied.method.not_on_adapters:
        raise AdapterError(
            f"{applied.method.title} is for full fine-tuning, and the update is an adapter: {why}.",
            "Use another method.",
        )


def product_of(layer: Layer, active: Sequence[str], what: str) -> Product:
    """The one product that an adapted layer's update is.

    Args:
        layer: The layer, as in the tuned model.
        active: The adapters that are active.
        what: What works on it, for errors.

    Raises:
        AdapterError: If it is something else, or several.
    """
    used = [adapter for adapter in active if adapter in layer.parts[0].scales]
    kinds = [part.kind for part in layer.parts]
    variants = getattr(layer.module, "lora_variant", {})
    if kinds != ["low rank"] or len(used) != 1 or any(adapter in variants for adapter in used):
        raise AdapterError(
            f"{what} works on one product B·A, and the update of {layer.name} is not one alone.",
            "Leave it out of the selection, or compose on disk with `taia compose --merge` first.",
        )
    return Product(layer.name, layer.module, used[0], layer.parts[0].tuned[used[0]])


def slots_of(product: Product, formula: LiveFormula, alpha: Alpha) -> Iterator[Slot]:
    """What stands in an adapted layer in a mode by a method.

    A method on singular values leaves factors of the same rank, which are scaled by α as ever;
    others leave a weight of α's own, below a layer that is switched off.

    Raises:
        AdapterError: If the method reads a base that is quantised, or B has a bias that it would
            not reach.
        MethodError: If the update holds numbers that no formula can work with.
    """
    if formula.applied.method.spectrum is not None:
        yield from _factors(product, formula)
        return
    if getattr(product.tables()[1][product.adapter], "bias", None) is not None:
        raise AdapterError(
            f"{formula.applied.method.title} works on B·A, and the update of {product.name} has a "
            "bias, too.",
            "Compose it on disk with `taia compose --merge`, and load what that writes.",
        )
    base = product.base
    tuned = array(base)
    a, b = map(array, product.weights())
    pairs = factors(a, b, product.experts)
    each = [LowRank(*pair, product.scaling, inputs_first=product.inputs_first) for pair in pairs]
    if tuned.ndim == 3:
        tuned = tuned.copy()
        for number, one in enumerate(each):
            tuned[number] = one.tuned(tuned[number])
    else:
        tuned = each[0].tuned(tuned)
    made = formula.weight(product.name, base, tuned, alpha, inputs_first=product.inputs_first)
    yield Slot(product.table, product.parameter, nn.Parameter(made, requires_grad=False))


def _factors(product: Product, formula: LiveFormula) -> Iterator[Slot]:
    weights = product.weights()
    base = array(product.base) if formula.applied.method.reads_base else None
    whole = formula.given(product.name, base, None, inputs_first=product.inputs_first)
    is_stacked = product.experts > 1
    pairs = []
    whole_a, whole_b = map(array, weights)
    for number, (a, b) in enumerate(factors(whole_a, whole_b, product.experts)):
        given = whole.of_expert(number) if is_stacked else whole
        pairs.append(changed_factors(formula.applied, given, a, b, product.scaling))
    for table, old, new in zip(product.tables(), weights, stacked(pairs), strict=True):
        parameter = nn.Parameter(like(new, old), requires_grad=False)
        holder = table[product.adapter]
        if holder is old:  # an embedding's
            yield Slot(table, product.adapter, parameter)
        else:
            yield Slot(holder._parameters, "weight", parameter)
