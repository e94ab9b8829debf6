"""What trains in a model, as differences to weights of its base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from peft.tuners.lora import Embedding as LoraEmbedding
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from taia.errors import AdapterError, InputError

#: Wrappers that appear as a component of a name, and are no part of it.
_WRAPPERS = {"_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "base_layer"}
#: LoRA's layers over bitsandbytes weights; PEFT has them only where bitsandbytes is.
_QUANTISED = {"Linear4bit", "Linear8bitLt"}
#: Ways to begin a LoRA that leave the base's weight alone. The others take a part out of it.
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")


class WeightUpdate(Protocol):
    """The difference between one weight and its base."""

    @property
    def name(self) -> str:
        """The weight's name in the base model."""
        ...

    @property
    def shape(self) -> torch.Size:
        """The weight's shape in the base model."""
        ...

    @property
    def needs_base(self) -> bool:
        """Whether the base's value is nowhere in the model once it has trained."""
        ...

    def parameters(self) -> tuple[Tensor, ...]:
        """What trains."""
        ...

    def base_weight(self) -> Tensor:
        """The base's weight: where ``needs_base``, the parameter itself."""
        ...

    def delta(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """The difference, of the weight's shape, from ``parameters()`` and a copy of the base."""
        ...

    def square(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """The sum of the difference's squares, as a scalar."""
        ...


def updates(model: nn.Module) -> Iterator[WeightUpdate]:
    """Everything that trains in a model.

    Args:
        model: A model, with adapters or without, or a wrapper around one (DDP, FSDP2, compiled).

    Yields:
        One update for each weight of the base that training changes; a shared weight once.

    Raises:
        AdapterError: If something trains that is no known difference of weights: another kind of
            adapter than LoRA, one that changed the base to begin with, a merged or a biased one.
        InputError: If DeepSpeed has partitioned the parameters.
    """
    if any(hasattr(each, "ds_id") for each in model.parameters() if each.requires_grad):
        raise InputError(
            "A regulariser needs whole parameters, and DeepSpeed has partitioned them.",
            "Train with FSDP, or without the regulariser.",
        )
    covered: set[int] = set()
    for path, module in model.named_modules():
        name = _base_name(path)
        _refuse_changed_base(name, module)
        if isinstance(module, AuxiliaryTrainingWrapper):
            found = list(_copies(name, module))
            covered |= {id(update.parameter) for update in found}
            yield from found
        elif isinstance(module, BaseTunerLayer):
            tuner: Any = module
            own = {
                key: parameter
                for key, parameter in tuner.named_parameters()
                if not key.startswith("base_layer.") and parameter.requires_grad
            }
            if own:
                update = _low_rank(name, tuner)
                used = {id(parameter) for parameter in update.parameters()}
                for key, parameter in own.items():
                    if id(parameter) not in used:
                        raise _unknown(name, f"{key} trains beside its factors")
                covered |= used
                yield update
    for path, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in covered:
            yield _Whole(_base_name(path), parameter, None)


@dataclass(frozen=True, slots=True)
class _Whole:
    """A parameter that trains itself, or a copy of one that trains beside its original."""

    name: str
    parameter: Tensor
    original: Tensor | None

    @property
    def shape(self) -> torch.Size:
        return self.parameter.shape

    @property
    def needs_base(self) -> bool:
        return self.original is None

    def parameters(self) -> tuple[Tensor, ...]:
        return (self.parameter,)

    def base_weight(self) -> Tensor:
        return self.parameter if self.original is None else self.original

    def delta(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        start = base if base is not None else self.original
        assert start is not None
        return wide(parameters[0]) - wide(start.detach())

    def square(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        return self.delta(parameters, base).square().sum()


@dataclass(frozen=True, slots=True)
class _LowRank:
    """s·BA, summed over the active adapters of a layer."""

    name: str
    layer: Any
    adapters: tuple[str, ...]

    @property
    def shape(self) -> torch.Size:
        wide, high = self.layer.in_features, self.layer.out_features
        return torch.Size((wide, high) if self._transposed else (high, wide))

    @property
    def needs_base(self) -> bool:
        return False

    def parameters(self) -> tuple[Tensor, ...]:
        if isinstance(self.layer, LoraEmbedding):
            a, b = self.layer.lora_embedding_A, self.layer.lora_embedding_B
            return tuple(each for key in self.adapters for each in (a[key], b[key]))
        a, b = self.layer.lora_A, self.layer.lora_B
        return tuple(each for key in self.adapters for each in (a[key].weight, b[key].weight))

    def base_weight(self) -> Tensor:
        weight = self.layer.get_base_layer().weight
        assert isinstance(weight, Tensor)
        if not weight.is_floating_point():
            raise AdapterError(
                f"{self.name} is quantised ({weight.dtype}); its values or gradient are needed.",
                "Load the base without quantisation.",
            )
        return weight

    def delta(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        a, b = self._factors(parameters)
        product = b @ a
        return product.T if self._transposed else product

    def square(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        a, b = self._factors(parameters)
        return ((b.T @ b) * (a @ a.T)).sum()

    def _factors(self, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """All adapters as one: [A₁; A₂] of shape (r, in) and [s₁B₁, s₂B₂] of shape (out, r)."""
        scales = [self.layer.scaling[key] for key in self.adapters]
        downs = [wide(gathered(each)) for each in parameters[0::2]]
        ups = [wide(gathered(each)) * s for each, s in zip(parameters[1::2], scales, strict=True)]
        return torch.cat(downs), torch.cat(ups, dim=1)

    @property
    def _transposed(self) -> bool:
        return isinstance(self.layer, LoraEmbedding) or bool(
            getattr(self.layer, "fan_in_fan_out", False)
        )


@dataclass(frozen=True, slots=True)
class _Dora(_LowRank):
    """m·(W + s·BA)/‖W + s·BA‖ − W, the norm being each output's (Liu et al., arXiv 2402.09353)."""

    def parameters(self) -> tuple[Tensor, ...]:
        magnitude = self.layer.lora_magnitude_vector[self.adapters[0]].weight
        return (*_LowRank.parameters(self), magnitude)

    def delta(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        a, b = self._factors(parameters[:2])
        weight = wide(gathered(self.base_weight().detach()))
        start = weight.mT if self._transposed else weight
        moved = start + b @ a
        scale = wide(gathered(parameters[2])).view(-1, 1) / moved.norm(dim=1, keepdim=True)
        change: Tensor = scale * moved - start
        return change.mT if self._transposed else change

    def square(self, parameters: Sequence[Tensor], base: Tensor | None) -> Tensor:
        return self.delta(parameters, base).square().sum()


def _low_rank(name: str, module: Any) -> _LowRank:  # noqa: ANN401 - PEFT is untyped
    known = isinstance(module, LoraLinear | LoraEmbedding) or type(module).__name__ in _QUANTISED
    if not (isinstance(module, LoraLayer) and known):
        raise _unknown(name, f"{type(module).__name__} is no LoRA of a matrix")
    adapters = tuple(key for key in module.active_adapters if key in module.scaling)
    if module.merged:
        raise _unknown(name, "the adapter is merged into the base")
    variants = {type(module.lora_variant[key]) for key in adapters if key in module.lora_variant}
    if not variants:
        return _LowRank(f"{name}.weight", module, adapters)
    if variants == {DoraLinearVariant} and len(adapters) == 1:
        dora = _Dora(f"{name}.weight", module, adapters)
        dora.base_weight()
        return dora
    raise _unknown(name, f"its kind of LoRA ({', '.join(sorted(v.__name__ for v in variants))})")


def _copies(name: str, module: AuxiliaryTrainingWrapper) -> Iterator[_Whole]:
    if not isinstance(module, ModulesToSaveWrapper):
        if any(parameter.requires_grad for parameter in module.parameters()):
            raise _unknown(name, f"{type(module).__name__} trains some of its rows")
        return
    originals = dict(module.original_module.named_parameters())
    for adapter in module.active_adapters:
        for key, parameter in module.modules_to_save[adapter].named_parameters():
            if parameter.requires_grad:
                yield _Whole(f"{name}.{key}", parameter, originals[key])


def _refuse_changed_base(name: str, module: nn.Module) -> None:
    configs = getattr(module, "peft_config", None)
    for config in configs.values() if isinstance(configs, dict) else ():
        start = getattr(config, "init_lora_weights", True)
        if start not in _PLAIN_STARTS:
            raise _unknown(name or "The model", f"init_lora_weights={start!r} changes the base")


def _unknown(name: str, why: str) -> AdapterError:
    return AdapterError(
        f"{name}: how far the adapter is from the base is not known: {why}.",
        "Train LoRA, rsLoRA or DoRA on linear layers and embeddings, or without the regulariser.",
    )


def _base_name(path: str) -> str:
    parts = [part for part in path.split(".") if part not in _WRAPPERS]
    while parts and parts[0] == "module":
        parts = parts[1:]
    if parts[:2] == ["base_model", "model"]:
        parts = parts[2:]
    return ".".join(parts)


def wide(tensor: Tensor) -> Tensor:
    """A tensor in the precision that sums are made in: float32, or float64 if it is that."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def gathered(tensor: Tensor) -> Tensor:
    """A tensor whole, where FSDP has spread it over processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor | None, other: Tensor) -> Tensor | None:
    """A constant, wide, on another tensor's device and laid out over processes as that one is."""
    if tensor is None:
        return None
    if isinstance(other, DTensor) and not isinstance(tensor, DTensor):
        tensor = distribute_tensor(tensor, other.device_mesh, other.placements)
    elif isinstance(tensor, DTensor) and not isinstance(other, DTensor):
        tensor = tensor.full_tensor()
    return wide(tensor.to(other.device))
