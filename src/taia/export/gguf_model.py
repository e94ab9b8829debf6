"""A whole checkpoint as a GGUF file, one tensor after another.

No more is in memory than the largest tensor, in its own dtype, and a block of its rows as they are
written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.arithmetic import load
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import Located
from taia.errors import CheckpointError, InputError
from taia.export.architectures import Names
from taia.export.gguf_keys import add_keys, rope_factors
from taia.export.gguf_tokenizer import add_tokenizer
from taia.export.job import Outtype

if TYPE_CHECKING:
    import numpy as np
    import torch

#: As llama.cpp's converter has it: these stay float32, whatever the matrices become.
_FLOAT32: Final = ("_norm.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight")
_POSITIONS: Final = "position_embd.weight"
#: Masks and tables that transformers makes itself, and old checkpoints hold.
_UNUSED: Final = (
    ".rotary_emb.inv_freq",
    *(f".{module}.{mask}" for module in ("attn", "attention") for mask in ("bias", "masked_bias")),
)
_BLOCK: Final = 1 << 24  # numbers converted at once
_INSTEAD: Final = "Use llama.cpp's convert_hf_to_gguf.py for it."


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the file.

    Attributes:
        name: In GGUF.
        parts: What it is made of, first axis after first axis: one tensor, or a layer's experts.
        shape: As numpy has it.
        kind: Its dtype, as ``gguf.GGMLQuantizationType``.
    """

    name: str
    parts: tuple[Entry, ...]
    shape: tuple[int, ...]
    kind: Any

    @property
    def bytes(self) -> int:
        """Its size."""
        import gguf

        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return prod(self.shape) // block * size


def write_model(place: Located, file: Path, title: str, outtype: Outtype) -> tuple[str, ...]:
    """Writes a checkpoint as GGUF, with matrices of a type that is not "auto".

    Returns:
        What a careful reader would want to know.

    Raises:
        CheckpointError: If a tensor has no name in GGUF, or the tokenizer's texts are no text.
        InputError: If taia does not know the architecture, or the file cannot say what it does.
    """
    import gguf
    import numpy as np

    names = names_of(place)
    planned = tuple(plan(place, names, outtype))
    writer = gguf.GGUFWriter(file, names.architecture.name)
    try:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(title)
        writer.add_file_type(_file_type(outtype))
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        notes = add_keys(writer, place, names)
        notes += add_tokenizer(writer, place, _vocabulary(planned))
        factors = rope_factors(place)
        for name, values in factors.items():
            writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
        known_by_kind = np.dtype(np.float32)
        for each in planned:
            writer.add_tensor_info(each.name, each.shape, known_by_kind, each.bytes, each.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for values in factors.values():
            writer.write_tensor_data(values)
        stream = (writer.fout or [])[0]
        for each in planned:
            writer.write_padding(stream, stream.tell())
            for values in blocks(each, names):
                values.tofile(stream)
            writer.write_padding(stream, each.bytes)
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"The tokenizer or template of {place.given} holds half a character (a surrogate).",
            "Download or save its files again.",
        ) from error
    finally:
        writer.close()
    return notes


def settled(place: Located, outtype: Outtype) -> Outtype:
    """The dtype that "auto" stands for."""
    if outtype != "auto":
        return outtype
    dtypes = {entry.dtype for entry in Checkpoint.open(place.path).tensors.values()}
    return "bf16" if "BF16" in dtypes else "f16"


def names_of(place: Located) -> Names:
    """The names for a checkpoint.

    Raises:
        InputError: If taia does not know the architecture.
    """
    config = Checkpoint.open(place.path).config
    if config is None:
        raise CheckpointError(f"{place.given} has no config.json.", "Give a model folder.")
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{place.given} is quantised; taia writes GGUF of 16- and 32-bit floating point.",
            "Give the model before it was quantised, or dequantise it first.",
        )
    return Names.of(config)


def plan(place: Located, names: Names, outtype: Outtype) -> Iterator[Stored]:
    """The file's tensors, in the checkpoint's order.

    Raises:
        CheckpointError: If a tensor has no name in GGUF, or none to go with it.
    """
    tensors = Checkpoint.open(place.path).tensors
    stacks: dict[str, dict[int, Entry]] = {}
    for name, entry in tensors.items():
        if name.endswith(_UNUSED):
            continue
        expert, stack = _expert(name)
        found = names.find(stack)
        if found is None:
            raise CheckpointError(
                f"GGUF has no name for {name!r} of a {names.architecture.name} model.", _INSTEAD
            )
        if found == "output.weight" and names.tied:
            continue  # llama.cpp takes the embedding
        stacks.setdefault(found, {})
        if expert in stacks[found]:
            raise CheckpointError(
                f"Two tensors of {place.given} are {found!r} in GGUF, {name!r} is the second.",
                _INSTEAD,
            )
        stacks[found][expert] = entry
    for name, experts in stacks.items():
        parts = tuple(experts[number] for number in sorted(experts))
        shape = _shape(name, parts, names)
        yield Stored(name, parts, shape, _kind(name, shape, outtype))


def blocks(stored: Stored, names: Names) -> Iterator[np.ndarray[Any, Any]]:
    """A tensor's bytes as the file has them, a part of its rows at a time.

    Raises:
        InputError: If a number is too large for float16.
    """
    import gguf
    import numpy as np

    for rows in values(stored, names):
        wide = rows.float().numpy()
        with np.errstate(over="ignore"):
            made: np.ndarray[Any, Any] = gguf.quants.quantize(wide, stored.kind)
        if (
            stored.kind == gguf.GGMLQuantizationType.F16
            and (np.isinf(made) & ~np.isinf(wide)).any()
        ):
            raise InputError(
                f"{stored.parts[0].name!r} has numbers that float16 cannot hold.",
                "Export it with --outtype bf16 or f32.",
            )
        yield made


def values(stored: Stored, names: Names) -> Iterator[torch.Tensor]:
    """A tensor's numbers before they are rounded, a part of its rows at a time."""
    import torch

    for entry in stored.parts:
        tensor = torch.from_numpy(load(entry))
        module, _, leaf = entry.name.rpartition(".")
        if names.architecture.transposed and leaf == "weight" and ".c_" in module:
            tensor = tensor.T
        tensor = names.ordered(module, tensor)
        if names.architecture.plus_one and stored.name.endswith("norm.weight"):
            tensor = tensor.float() + 1
        if tensor.dim() < 2:
            yield tensor.reshape(stored.shape).contiguous()
            continue
        step = max(1, _BLOCK // tensor.shape[-1])
        for start in range(0, tensor.shape[0], step):
            yield tensor[start : start + step].contiguous()


def _expert(name: str) -> tuple[int, str]:
    """An expert's number, and its tensor's name without it; 0 for what is no expert's."""
    before, found, after = name.partition(".experts.")
    number, dot, rest = after.partition(".")
    if found and dot and number.isascii() and number.isdigit() and len(number) < 6:
        return int(number), f"{before}.experts.{rest}"
    return 0, name


def _shape(name: str, parts: tuple[Entry, ...], names: Names) -> tuple[int, ...]:
    shapes = {entry.shape for entry in parts}
    if len(shapes) > 1:
        raise CheckpointError(
            f"The experts of {name!r} have different shapes.", "Give a complete, undamaged model."
        )
    (shape,) = shapes
    if names.architecture.transposed and ".c_" in parts[0].name and len(shape) == 2:
        shape = shape[::-1]
    return (len(parts), *shape) if "_exps." in name else shape


def _kind(name: str, shape: tuple[int, ...], outtype: Outtype) -> Any:  # noqa: ANN401 - gguf's
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2 or name.endswith(_FLOAT32) or name == _POSITIONS:
        return GGMLQuantizationType.F32
    wanted = GGMLQuantizationType[outtype.upper()]
    if shape[-1] % GGML_QUANT_SIZES[wanted][0]:
        return GGMLQuantizationType.F16  # rows that are no whole number of blocks
    return wanted


def _file_type(outtype: Outtype) -> Any:  # noqa: ANN401 - gguf's
    from gguf import LlamaFileType

    return LlamaFileType["ALL_F32" if outtype == "f32" else f"MOSTLY_{outtype.upper()}"]


def _vocabulary(planned: tuple[Stored, ...]) -> int:
    for each in planned:
        if each.name == "token_embd.weight":
            return each.shape[0]
    raise CheckpointError("The model has no embedding.", "Give a complete model.")
