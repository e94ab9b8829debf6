"""What each tensor of a PEFT adapter file is, from its name.

PEFT names a tensor after the module it wraps (peft 0.21, ``save_and_load.py``)::

    base_model.model.<module>.lora_A.weight            [r, inputs]
    base_model.model.<module>.lora_B.weight            [outputs, r], and .bias with lora_bias
    base_model.model.<module>.lora_embedding_A         [r, vocabulary], and _B [width, r]
    base_model.model.<module>.lora_magnitude_vector    DoRA, one number per output
    base_model.model.<module>.base_layer.lora_A.weight a second wrapper around the same module,
                                                       when several of its parameters are adapted
    base_model.model.<module>.token_adapter.trainable_tokens_delta    whole rows of an embedding
    base_model.model.<module>.base_layer.bias          a trained bias (``bias="lora_only"``)
    base_model.model.<module>.weight                   a whole copy (``modules_to_save``)
    base_model.model.<module>.base_layer.weight        what lies below an update of an embedding or
                                                       head, which PEFT saves as well; below trained
                                                       tokens ``.token_adapter.base_layer.weight``
    base_model.model.<module>.original_module.weight   saved beside a whole copy, and not used

and taia's MoLoRA, on a module with experts, whose LoRA (if it has one) is the shared expert::

    base_model.model.<module>.lora_router.weight       [experts, inputs]
    base_model.model.<module>.lora_experts.A           [experts, r, inputs]
    base_model.model.<module>.lora_experts.B           [experts, r, outputs]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Final

from taia.checkpoint.spelling import unwrapped
from taia.errors import AdapterError

PREFIX: Final = "base_model.model."

#: MoLoRA's name in ``adapter_config.json``.
PEFT_TYPE: Final = "MOLORA"

#: Kinds of updates that change the same parameter as the module's LoRA: they need names of their
#: own.
BESIDE: Final = frozenset({"experts", "router"})

#: Kinds that make up a low-rank update.
LOW_RANK: Final = frozenset(
    {"lora_A", "lora_B", "lora_B_bias", "embedding_A", "embedding_B", "magnitude"}
)

_ADAPTER = r"(?:\.(?!weight$|bias$)[^.]+)?"  # files saved by hand keep the adapter's name here
_LORA = re.compile(rf"(?P<path>.+)\.lora_(?P<side>[AB]){_ADAPTER}\.(?P<leaf>weight|bias)")
_EMBEDDING = re.compile(rf"(?P<path>.+)\.lora_embedding_(?P<side>[AB]){_ADAPTER}")
_MAGNITUDE = re.compile(rf"(?P<path>.+)\.lora_magnitude_vector{_ADAPTER}(?:\.weight)?")
_TOKENS = re.compile(rf"(?P<path>.+)\.token_adapter\.trainable_tokens_delta{_ADAPTER}")
_ROUTER = re.compile(rf"(?P<path>.+)\.lora_router{_ADAPTER}\.weight")
_EXPERTS = re.compile(rf"(?P<path>.+)\.lora_experts{_ADAPTER}\.(?P<side>[AB])")
_WHOLE = re.compile(r"(?P<path>.+?)(?P<saved>\.modules_to_save(?:\.default)?)?\.(?P<leaf>\w+)")


@dataclass(frozen=True, slots=True)
class AdapterTensor:
    """One tensor of an adapter.

    Attributes:
        tensor: Its name in the file.
        module: Dotted path, in the base model, of the module it belongs to.
        kind: ``"lora_A"``, ``"lora_B"``, ``"lora_B_bias"``, ``"embedding_A"``, ``"embedding_B"``,
            ``"magnitude"``, ``"router"``, ``"experts_A"``, ``"experts_B"``, ``"tokens"``,
            ``"whole"`` for a tensor that replaces the base's, or ``"unused"``.
        leaf: Parameter of the module that it changes: ``"weight"``, ``"bias"``, …
        depth: How many further wrappers of the same module lie outside this one.
        name: The name PEFT would give it today, which is what gets written.
    """

    tensor: str
    module: str
    kind: str
    leaf: str
    depth: int
    name: str

    @property
    def parameter(self) -> str:
        """Name of the base model's parameter that it changes."""
        return f"{self.module}.{self.leaf}"


def parts_of(tensors: Collection[str]) -> Iterator[AdapterTensor]:
    """Reads the names of all tensors of an adapter.

    Where PEFT saved a module twice, or beside a whole copy what it replaces, the tensors that it
    does not load are unused.

    Raises:
        AdapterError: As :func:`part_of` does.
    """
    for tensor in tensors:
        loaded = re.sub(r"\.(original_module|modules_to_save(\.default)?)\.", ".", tensor)
        if loaded != tensor and loaded in tensors:
            part = part_of(loaded)
            yield replace(part, tensor=tensor, name=tensor, kind="unused")
        else:
            yield part_of(tensor)


def part_of(tensor: str) -> AdapterTensor:
    """Reads a tensor's name.

    Raises:
        AdapterError: If it is not a name that PEFT gives, or belongs to a method taia cannot read.
    """
    if not tensor.startswith(PREFIX):
        raise AdapterError(
            f"adapter tensor {tensor!r} does not begin with {PREFIX!r}, so PEFT would ignore it",
            "save the adapter with PEFT's save_pretrained",
        )
    path = unwrapped(tensor[len(PREFIX) :])
    if match := _LORA.fullmatch(path):
        side, leaf = match["side"], match["leaf"]
        if leaf == "bias" and side == "A":
            raise _unknown(tensor)
        kind = f"lora_{side}" if leaf == "weight" else "lora_B_bias"
        return _low_rank(tensor, match["path"], kind, f"lora_{side}.{leaf}")
    if match := _EMBEDDING.fullmatch(path):
        side = match["side"]
        return _low_rank(tensor, match["path"], f"embedding_{side}", f"lora_embedding_{side}")
    if match := _MAGNITUDE.fullmatch(path):
        return _low_rank(tensor, match["path"], "magnitude", "lora_magnitude_vector")
    if match := _ROUTER.fullmatch(path):
        return _low_rank(tensor, match["path"], "router", "lora_router.weight")
    if match := _EXPERTS.fullmatch(path):
        side = match["side"]
        return _low_rank(tensor, match["path"], f"experts_{side}", f"lora_experts.{side}")
    if match := _TOKENS.fullmatch(path):
        module, name = match["path"], "token_adapter.trainable_tokens_delta"
        return AdapterTensor(tensor, module, "tokens", "weight", 0, f"{PREFIX}{module}.{name}")
    match = _WHOLE.fullmatch(path)
    if match is None or ".lora_" in path or ".original_module." in path:
        raise _unknown(tensor)
    inner, leaf = match["path"], match["leaf"]
    module = inner.removesuffix(".base_layer").removesuffix(".token_adapter")
    name = f"{PREFIX}{inner}.{leaf}"
    return AdapterTensor(tensor, module, "whole", leaf, 0, name)


def name_of(kind: str, tensor: str) -> str:
    """What an update of a kind goes by, given the base's tensor that it changes."""
    return f"{tensor} ({kind})" if kind in BESIDE else tensor


def _low_rank(tensor: str, path: str, kind: str, tail: str) -> AdapterTensor:
    module = path
    while module.endswith(".base_layer"):
        module = module.removesuffix(".base_layer")
    depth = (len(path) - len(module)) // len(".base_layer")
    return AdapterTensor(tensor, module, kind, "weight", depth, f"{PREFIX}{path}.{tail}")


def _unknown(tensor: str) -> AdapterError:
    return AdapterError(
        f"adapter tensor {tensor!r} is not one that taia can read",
        "taia reads LoRA, rsLoRA, DoRA and MoLoRA adapters; merge others with their own library "
        "and compose the checkpoints",
    )
