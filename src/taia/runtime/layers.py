"""The adapted layers of a live PEFT model, the parts of their updates, and their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taia.anatomy import Anatomy, Label, TensorInfo
from taia.checkpoint.adapters.names import name_of
from taia.checkpoint.adapters.place import relabelled
from taia.errors import AdapterError

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a layer's update.

    Attributes:
        kind: ``"low rank"``; of MoLoRA also ``"experts"`` and ``"router"``.
        name: What a selection's α for it goes by.
        scales: Its scale by adapter; a router has none.
    """

    kind: str
    name: str
    scales: dict[str, float]


@dataclass(frozen=True, slots=True)
class Layer:
    """An adapted layer.

    Attributes:
        name: The base's tensor that it changes.
        module: PEFT's layer.
        parts: The parts of its update by the active adapters; none where those leave it alone.
    """

    name: str
    module: LoraLayer
    parts: tuple[Part, ...]


def read_layers(model: PeftModel) -> list[Layer]:
    """All layers of a model with a LoRA or MoLoRA adapter.

    Raises:
        AdapterError: If the adapter is more than low-rank updates (biases, whole modules, trained
            tokens), or is merged or switched off.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    layers = []
    for path, module in model.get_base_model().named_modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            raise AdapterError(
                f"The adapter trains {path} whole or in part, beside its low-rank updates.",
                "Compose it on disk with `taia compose`, which handles such modules.",
            )
        if isinstance(module, BaseTunerLayer):
            layers.append(_layer(path, module))
    if not layers:
        raise AdapterError("The model has no LoRA layers.", "Load an adapter with PEFT first.")
    for adapter in model.active_adapters:
        if getattr(model.peft_config[adapter], "bias", "none") != "none":
            raise AdapterError(
                f"The adapter {adapter!r} trains biases, which cannot be switched.",
                "Compose it on disk with `taia compose`, which handles biases.",
            )
    return layers


def read_anatomy(model: PeftModel, layers: list[Layer]) -> Anatomy:
    """The base model's anatomy, under the names it had before PEFT wrapped it."""
    base: Any = model.get_base_model()
    wrapped = {id(layer.module) for layer in layers}
    of_adapter = {
        f"{path}.{name}."
        for path, module in base.named_modules()
        if id(module) in wrapped
        for name, _ in module.named_children()
        if name != "base_layer"
    }
    tensors = {
        plain: TensorInfo(plain, _shape(tensor))
        for name, tensor in _tensors(base)
        if not name.startswith(tuple(of_adapter))
        for plain in [_original(name)]
    }
    return Anatomy.of_tensors(tensors.values(), base.config.to_dict())


def with_parts(anatomy: Anatomy, layers: list[Layer]) -> dict[str, Label]:
    """An anatomy in which MoLoRA's experts and routers have labels of their own."""
    labels = dict(anatomy)
    for layer in layers:
        if any(part.kind != "low rank" for part in layer.parts):
            label = anatomy[layer.name]
            labels |= {part.name: relabelled(label, part.kind) for part in layer.parts}
    return labels


def _layer(path: str, module: Any) -> Layer:  # noqa: ANN401 - any tuner's layer
    from peft.tuners.lora import LoraLayer, ParamWrapper

    if not isinstance(module, LoraLayer):
        raise AdapterError(
            f"{path} is tuned by {type(module).__name__}, which cannot be switched.",
            "Use a LoRA or MoLoRA adapter.",
        )
    if module.merged:
        raise AdapterError(f"The adapter is merged into {path}.", "Unmerge it first.")
    if module.disable_adapters:
        raise AdapterError(
            f"The adapter is switched off in {path}.",
            "Leave disable_adapter(), or the mode that the model is in, first.",
        )
    parameter = module.parameter_name if isinstance(module, ParamWrapper) else "weight"
    name = f"{_original(path)}.{parameter}"
    return Layer(name, module, _parts(name, module))


def _parts(name: str, module: LoraLayer) -> tuple[Part, ...]:
    from taia.molora import MoloraLinear

    active = module.active_adapters
    scales: dict[str, dict[str, float]] = {}
    if any(adapter in module.lora_A or adapter in module.lora_embedding_A for adapter in active):
        scales["low rank"] = module.scaling
    if isinstance(module, MoloraLinear) and any(a in module.expert_scaling for a in active):
        scales |= {"experts": module.expert_scaling, "router": {}}
    return tuple(Part(kind, name_of(kind, name), table) for kind, table in scales.items())


def _original(name: str) -> str:
    """A name as it was before PEFT put wrappers around, which may lie one inside another."""
    return name.replace(".base_layer", "")


def _tensors(model: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 - any model
    """Parameters and saved buffers; not what a quantised layer adds to its state."""
    saved = model.state_dict().keys()
    found = list(model.named_parameters(remove_duplicate=False))
    return found + [(name, buffer) for name, buffer in model.named_buffers() if name in saved]


def _shape(tensor: Any) -> tuple[int, ...]:  # noqa: ANN401 - a tensor, maybe quantised
    """What it was before it was packed into 4 bits."""
    state = getattr(tensor, "quant_state", None)
    return tuple(tensor.shape if state is None else state.shape)
