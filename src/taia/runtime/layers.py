"""The adapted layers of a live PEFT model, the parts of their updates, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from taia.anatomy import Anatomy, Label, TensorInfo
from taia.checkpoint.adapters.names import name_of
from taia.checkpoint.adapters.place import relabelled
from taia.errors import AdapterError

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

#: What PEFT's wrappers put into the name of a tensor of the base.
_WRAPPERS: Final = (".base_layer", ".original_module", ".token_adapter")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a layer's update.

    Attributes:
        kind: ``"low rank"``; of MoLoRA also ``"experts"`` and ``"router"``; ``"whole"`` for a
            tensor of a module that stands in for the base's, ``"tokens"`` for some of its rows.
        name: What a selection's α for it goes by.
        scales: Its scale by adapter, where PEFT looks it up; none for a router, and for what has
            no scale.
        tuned: The same in the tuned model.
    """

    kind: str
    name: str
    scales: dict[str, Any] = field(default_factory=dict)
    tuned: Mapping[str, float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tuned", dict(self.scales))


@dataclass(frozen=True, slots=True)
class Layer:
    """An adapted layer.

    Attributes:
        name: The base's tensor that it changes, or the first of them.
        module: PEFT's layer, or its wrapper around a whole module.
        parts: The parts of its update by the active adapters; none where those leave it alone.
    """

    name: str
    module: Any
    parts: tuple[Part, ...]

    @property
    def stands_in(self) -> bool:
        """Whether its update takes the base's place, so that it is all or nothing."""
        return any(part.kind in ("whole", "tokens") for part in self.parts)


def read_layers(model: PeftModel) -> list[Layer]:
    """All layers of a model with a LoRA or MoLoRA adapter, and the modules it trains whole.

    Raises:
        AdapterError: If it is another method's adapter, or is merged or switched off.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    layers: list[Layer] = []
    inside: tuple[str, ...] = ()
    modules = dict(model.get_base_model().named_modules())
    for path, module in modules.items():
        if path.startswith(inside):
            continue
        if isinstance(module, AuxiliaryTrainingWrapper):
            layers.append(_wrapper(path, module, modules))
            inside += (f"{path}.",)
        elif isinstance(module, BaseTunerLayer):
            layers.append(_layer(path, module))
    if not layers:
        raise AdapterError("The model has no LoRA layers.", "Load an adapter with PEFT first.")
    return layers


def read_anatomy(
    model: PeftModel, layers: list[Layer], declare: Mapping[str, str] | None = None
) -> Anatomy:
    """The base model's anatomy, under the names it had before PEFT wrapped it."""
    base: Any = model.get_base_model()
    tensors = {
        name: TensorInfo(name, _shape(tensor)) for name, tensor in base_tensors(base, layers)
    }
    return Anatomy.of_tensors(tensors.values(), base.config.to_dict(), declare)


def base_tensors(base: Any, layers: list[Layer]) -> list[tuple[str, Any]]:  # noqa: ANN401 - a model
    """The tensors that the base had before PEFT wrapped it, by the names they had."""
    wrapped = {id(layer.module) for layer in layers}
    of_adapter = tuple(
        f"{path}.{holder}{name}."
        for path, module in base.named_modules()
        if id(module) in wrapped
        for holder, inner in (("", module), ("token_adapter.", _token_adapter(module)))
        if inner is not None
        for name, _ in inner.named_children()
        if f".{name}" not in _WRAPPERS
    )
    return [
        (original(name), tensor)
        for name, tensor in _tensors(base)
        if not name.startswith(of_adapter)
    ]


def with_parts(anatomy: Anatomy, layers: list[Layer]) -> dict[str, Label]:
    """An anatomy in which MoLoRA's experts and routers have labels of their own."""
    labels = dict(anatomy)
    for layer in layers:
        if any(part.kind in ("experts", "router") for part in layer.parts):
            label = anatomy[layer.name]
            labels |= {part.name: relabelled(label, part.kind) for part in layer.parts}
    return labels


def token_embedding(model: Any) -> Any:  # noqa: ANN401 - a module
    """A model's token embedding, out of whatever PEFT has wrapped around it."""
    module = model.get_input_embeddings()
    while inner := [m for name in _WRAPPERS if (m := module._modules.get(name[1:])) is not None]:
        module = inner[0]
    return module


def original(name: str) -> str:
    """A name as it was before PEFT put wrappers around, which may lie one inside another."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _layer(path: str, module: Any) -> Layer:  # noqa: ANN401 - any tuner's layer
    from peft.tuners.lora import LoraLayer, ParamWrapper

    if not isinstance(module, LoraLayer):
        raise AdapterError(
            f"{path} is tuned by {type(module).__name__}, which cannot be switched.",
            "Use a LoRA or MoLoRA adapter.",
        )
    _check_at_work(path, module.merged, module.disable_adapters)
    parameter = module.parameter_name if isinstance(module, ParamWrapper) else "weight"
    name = f"{original(path)}.{parameter}"
    return Layer(name, module, _parts(name, module))


def _wrapper(path: str, module: Any, modules: Mapping[str, Any]) -> Layer:  # noqa: ANN401 - PEFT's
    """A module that the adapter has whole (``modules_to_save``), or trained tokens of."""
    tokens = _token_adapter(module)
    _check_at_work(path, tokens is not None and tokens.merged, module.disable_adapters)
    if tokens is not None and tokens.tied_adapter is not None:
        # A tied head shows the embedding's tokens: they are one update.
        path = next(p for p, m in modules.items() if m is tokens.tied_adapter)
    kind = "whole" if tokens is None else "tokens"
    names = [f"{original(path)}.{name}" for name, _ in _tensors(module.original_module)]
    used = [adapter for adapter in module.active_adapters if adapter in module._adapters]
    return Layer(names[0], module, tuple(Part(kind, name) for name in names if used))


def _check_at_work(path: str, merged: bool, off: bool) -> None:
    if merged:
        raise AdapterError(f"The adapter is merged into {path}.", "Unmerge it first.")
    if off:
        raise AdapterError(
            f"The adapter is switched off in {path}.",
            "Leave disable_adapter(), or the mode that the model is in, first.",
        )


def _parts(name: str, module: LoraLayer) -> tuple[Part, ...]:
    from taia.molora import MoloraLinear

    active = module.active_adapters
    scales: dict[str, dict[str, float]] = {}
    if any(adapter in module.lora_A or adapter in module.lora_embedding_A for adapter in active):
        scales["low rank"] = module.scaling
    if isinstance(module, MoloraLinear) and any(a in module.expert_scaling for a in active):
        scales |= {"experts": module.expert_scaling, "router": {}}
    return tuple(Part(kind, name_of(kind, name), table) for kind, table in scales.items())


def _token_adapter(module: Any) -> Any:  # noqa: ANN401 - PEFT's
    return module._modules.get("token_adapter")


def _tensors(model: Any) -> list[tuple[str, Any]]:  # noqa: ANN401 - any model
    """Parameters and saved buffers; not what a quantised layer adds to its state."""
    saved = model.state_dict().keys()
    found = list(model.named_parameters(remove_duplicate=False))
    return found + [(name, buffer) for name, buffer in model.named_buffers() if name in saved]


def _shape(tensor: Any) -> tuple[int, ...]:  # noqa: ANN401 - a tensor, maybe quantised
    """What it was before it was packed into 4 bits."""
    state = getattr(tensor, "quant_state", None)
    return tuple(tensor.shape if state is None else state.shape)
