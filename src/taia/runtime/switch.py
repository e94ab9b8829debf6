"""Change which part of a LoRA or MoLoRA update is active, in place and for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taia.anatomy import Anatomy, TensorInfo
from taia.checkpoint.adapters.experts import check_pair, name_of, relabelled
from taia.errors import AdapterError, SelectionError
from taia.selection import Alpha, Pieces, Selection

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer


@contextmanager
def lora_mode(model: PeftModel, selection: Selection) -> Iterator[None]:
    """Run a block with the part of a LoRA or MoLoRA adapter that a selection keeps.

    Nothing is copied and no weight changes. Where α is 0 the layer skips its adapter, so ``none``
    is the base model bit for bit; where it is 1 the layer is untouched; a fraction scales. Before
    the block ends, also by an exception, every layer is as it was.

    Args:
        model: A PEFT model with one active, unmerged LoRA or MoLoRA adapter.
        selection: What to keep, in terms of the base model's tensors; of MoLoRA also ``experts``,
            ``router`` and ``shared_experts``.

    Yields:
        Nothing; the model is in the mode.

    Raises:
        AdapterError: If the adapter is more than low-rank updates (biases, whole modules, trained
            tokens), is merged, is DoRA and should be scaled, which is not linear in α, or is
            MoLoRA and experts should be parted from their router.
        SelectionError: If the selection matches nothing, or cuts through a layer's rows.
    """
    layers = _layers(model)
    anatomy = dict(_anatomy(model))
    for name, layer in layers.items():
        parts = _parts(layer) if _expert_scaling(layer) else ()
        labels = [relabelled(anatomy[name], kind) for kind in parts]
        anatomy |= {label.tensor.name: label for label in labels}
    alphas = selection.alphas(anatomy)
    # Everything that can be refused is refused before anything is changed.
    plan = [
        (layer, scales)
        for name, layer in layers.items()
        for scales in [_scales(name, layer, alphas)]
    ]
    before = [
        (layer, layer._disable_adapters, [(table, dict(table)) for table, _ in scales])
        for layer, scales in plan
    ]
    try:
        for layer, scales in plan:
            if not any(alpha for _, alpha in scales):
                # Not enable_adapters(False): that also stops the gradients, for good.
                layer._disable_adapters = True
                continue
            for table, alpha in scales:
                for name in layer.active_adapters:
                    if alpha != 1 and name in table:
                        table[name] *= alpha
        yield
    finally:
        for layer, disabled, tables in before:
            layer._disable_adapters = disabled
            for table, values in tables:
                table.update(values)


def _expert_scaling(layer: LoraLayer) -> dict[str, float]:
    """Scale of the experts by adapter; empty where no active adapter has any."""
    from taia.molora import MoloraLinear

    table = layer.expert_scaling if isinstance(layer, MoloraLinear) else {}
    return table if any(name in table for name in layer.active_adapters) else {}


def _parts(layer: LoraLayer) -> dict[str, dict[str, float]]:
    """Kind of each part of a layer's update → its scale by adapter; the router has none."""
    parts: dict[str, dict[str, float]] = {}
    if any(name in layer.lora_A for name in layer.active_adapters):
        parts["low rank"] = layer.scaling
    if experts := _expert_scaling(layer):
        parts |= {"experts": experts, "router": {}}
    return parts


def _scales(
    name: str, layer: LoraLayer, alphas: Mapping[str, Alpha]
) -> list[tuple[dict[str, float], float]]:
    """Each scale of a layer, and the α for it."""
    parts = _parts(layer)
    found = {kind: _weight(name, layer, alphas[name_of(kind, name)]) for kind in parts}
    if "router" in found:
        check_pair(name.removesuffix(".weight"), found["experts"], found["router"])
    return [(parts[kind], alpha) for kind, alpha in found.items() if kind != "router"]


def _layers(model: PeftModel) -> dict[str, LoraLayer]:
    """Base weight's name → the LoRA layer that wraps it."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    layers: dict[str, LoraLayer] = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            raise AdapterError(
                f"The adapter trains {name} whole or in part, beside its low-rank updates.",
                "Compose it on disk with `taia compose`, which handles such modules.",
            )
        if not isinstance(module, BaseTunerLayer):
            continue
        if not isinstance(module, LoraLayer) or not hasattr(module.get_base_layer(), "weight"):
            raise AdapterError(
                f"{name} is tuned by {type(module).__name__}, which cannot be switched.",
                "Use a LoRA adapter on linear layers.",
            )
        if module.merged:
            raise AdapterError(f"The adapter is merged into {name}.", "Unmerge it first.")
        layers[f"{name}.weight"] = module
    if not layers:
        raise AdapterError("The model has no LoRA layers.", "Load an adapter with PEFT first.")
    for name in model.active_adapters:
        if getattr(model.peft_config[name], "bias", "none") != "none":
            raise AdapterError(
                f"The adapter {name!r} trains biases, which cannot be switched.",
                "Compose it on disk with `taia compose`, which handles biases.",
            )
    return layers


def _anatomy(model: PeftModel) -> Anatomy:
    """The base model's anatomy, under the names it had before PEFT wrapped it."""
    from peft.tuners.lora import LoraLayer

    base: Any = model.get_base_model()
    wrapped = {name for name, module in base.named_modules() if isinstance(module, LoraLayer)}

    def original(name: str) -> str | None:
        path, _, rest = name.partition(".base_layer.")
        if rest:
            return f"{path}.{rest}"
        return None if any(name.startswith(f"{inner}.") for inner in wrapped) else name

    tensors = []
    for name, tensor in base.state_dict().items():
        plain = original(name)
        if plain is not None:
            tensors.append(TensorInfo(plain, tuple(tensor.shape)))
    return Anatomy.of_tensors(tensors, base.config.to_dict())


def _weight(name: str, layer: LoraLayer, alpha: Alpha) -> float:
    if isinstance(alpha, Pieces):
        raise SelectionError(
            f"The selection keeps some rows of {name} and not others.",
            "Compose it on disk with `taia compose`, or select whole projections.",
        )
    if alpha not in (0, 1) and any(layer.use_dora.get(a) for a in layer.active_adapters):
        raise AdapterError(
            f"{name} is DoRA, whose update cannot be scaled by {alpha}.",
            "Use whole parts (0 or 1), or compose on disk with `taia compose`.",
        )
    return alpha
