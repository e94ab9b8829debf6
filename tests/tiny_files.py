"""Checkpoints made by hand, for tests: no torch, no safetensors library."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from taia.checkpoint.header import make_header, nbytes
from taia.checkpoint.index import Checkpoint

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def llama(
    layers: int = 2,
    *,
    dtype: str = "BF16",
    hidden: int = 16,
    vocabulary: int = 24,
    tied: bool = False,
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (dtype, shape) of a small Llama: 4 heads, 2 key heads."""
    width = hidden // 2
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj.weight": (hidden, hidden),
            f"{at}.self_attn.k_proj.weight": (width, hidden),
            f"{at}.self_attn.v_proj.weight": (width, hidden),
            f"{at}.self_attn.o_proj.weight": (hidden, hidden),
            f"{at}.mlp.gate_proj.weight": (2 * hidden, hidden),
            f"{at}.mlp.up_proj.weight": (2 * hidden, hidden),
            f"{at}.mlp.down_proj.weight": (hidden, 2 * hidden),
            f"{at}.input_layernorm.weight": (hidden,),
            f"{at}.post_attention_layernorm.weight": (hidden,),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (vocabulary, hidden)
    return {name: (dtype, shape) for name, shape in shapes.items()}


def llama_config(layers: int = 2, hidden: int = 16, vocabulary: int = 24, **more: object) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        **more,
    }


def write(
    folder: Path,
    tensors: Shapes,
    seed: int = 0,
    *,
    shards: Sequence[Sequence[str]] | None = None,
    config: Mapping[str, object] | None = None,
    content: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a checkpoint of random bytes; the bytes of a tensor depend on its name and the seed.

    Floats stay finite (their highest exponent bit is 0): arithmetic on them means something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = [list(tensors)] if shards is None else [list(group) for group in shards]
    weight_map = {}
    for number, group in enumerate(groups, 1):
        file = (
            "model.safetensors"
            if shards is None
            else f"model-{number:05}-of-{len(groups):05}.safetensors"
        )
        data = b"".join(
            (content or {}).get(name) or payload(name, *tensors[name], seed) for name in group
        )
        header = make_header(((name, *tensors[name]) for name in group), {"format": "pt"})
        (folder / file).write_bytes(header + data)
        weight_map |= dict.fromkeys(group, file)
    if shards is not None:
        total = sum(nbytes(*tensor) for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def payload(name: str, dtype: str, shape: tuple[int, ...], seed: int) -> bytes:
    data = bytearray(random.Random(f"{seed} {name}").randbytes(nbytes(dtype, shape)))
    size = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}.get(dtype)
    if size:
        for last in range(size - 1, len(data), size):
            data[last] &= 0xBF  # little-endian: the exponent's highest bit
    return bytes(data)


def content(folder: Path) -> dict[str, bytes]:
    """Every tensor's bytes, read the plain way."""
    found = {}
    for name, entry in Checkpoint.open(folder).tensors.items():
        found[name] = entry.file.read_bytes()[entry.start : entry.stop]
    return found


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def adapter(folder: Path, layers: int = 2, *, hidden: int = 16, rank: int = 2) -> Path:
    """Write a LoRA adapter of all linear modules of :func:`llama`, as PEFT names them."""
    tensors = {}
    for name, (_, shape) in llama(layers, hidden=hidden).items():
        if "_proj" in name:
            at = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{at}.lora_A.weight"] = ("F32", (rank, shape[1]))
            tensors[f"{at}.lora_B.weight"] = ("F32", (shape[0], rank))
    content = {
        name: struct.pack(
            f"<{shape[0] * shape[1]}f",
            *(random.Random(f"{name} {i}").gauss(0, 0.1) for i in range(shape[0] * shape[1])),
        )
        for name, (_, shape) in tensors.items()
    }
    write(folder, tensors, content=content)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    modules = sorted({name.split(".")[-3] for name in tensors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
