"""For llama.cpp: a whole model as a GGUF file, or an adapter as one for its base.

llama.cpp applies ``adapter.lora.alpha`` / rank to every module, the rank being the tensor's own. So
a rank pattern needs nothing; an alpha pattern and rsLoRA are folded into B. An adapter is float32.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.adapters.read import Adapter
from taia.checkpoint.locate import Located
from taia.export.architectures import Names
from taia.export.gguf_keys import rope_factors
from taia.export.gguf_model import names_of, plan, settled, values, write_model
from taia.export.job import SCRATCH, Check, Written
from taia.export.low_rank import Factors, factors, plain_low_rank
from taia.export.to_transformers import merge
from taia.text import printable

if TYPE_CHECKING:
    import torch

    from taia.export.job import Job, Outtype

#: An adapter's file in the output, and a whole model's.
ADAPTER: Final = "adapter.gguf"
MODEL: Final = "model.gguf"
#: How far rounding takes a number, as a share of it; of the largest of its block for q8_0.
_ROUNDING: Final = {"F32": 0.0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 0.5 / 127 + 2**-10}


def write(job: Job, folder: Path) -> Written:
    """Writes ``model.gguf`` for a whole model, ``adapter.gguf`` for an adapter.

    Raises:
        InputError: If llama.cpp cannot carry something, or taia does not know the architecture.
    """
    adapter = job.source.adapter
    if adapter is None or job.merge:
        return _write_model(job, folder)
    plain_low_rank(adapter, "llama.cpp")
    names = Names.of(job.source.base_config)
    write_adapter(folder / ADAPTER, adapter, names, printable(job.output.name))
    base = "BASE.gguf" if job.base_gguf is None else shlex.quote(str(job.base_gguf))
    return Written(use=f"llama-cli -m {base} --lora {{output}}/{ADAPTER}")


def _write_model(job: Job, folder: Path) -> Written:
    place = job.source.place if job.source.adapter is None else job.source.base
    names_of(place)  # what is refused is refused before anything is merged
    place = _place(job, folder)
    notes = merge(job, place.path).notes if job.merge else ()
    outtype = settled(place, job.outtype)
    notes += write_model(place, folder / MODEL, printable(job.output.name), outtype)
    return Written((*notes, f"Matrices are {outtype}."), f"llama-cli -m {{output}}/{MODEL}")


def _place(job: Job, folder: Path) -> Located:
    """The checkpoint that the model's file is made of."""
    merged = Located("the merged model", folder / SCRATCH / "merged")
    return merged if job.merge else job.source.place


def write_adapter(file: Path, adapter: Adapter, names: Names, title: str) -> None:
    """Writes an adapter of low-rank updates as GGUF, under the base's names."""
    import gguf

    writer = gguf.GGUFWriter(file, names.architecture.name)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_name(title)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    alpha = one_alpha(adapter)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for each in factors(adapter):
        for name, tensor in _tensors(each, names, alpha).items():
            writer.add_tensor(name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def one_alpha(adapter: Adapter) -> float:
    """The alpha of the whole file; never 0, which llama.cpp takes for "do not scale"."""
    return float(adapter.config.get("lora_alpha", 8)) or 1.0


def _tensors(each: Factors, names: Names, alpha: float) -> dict[str, Any]:
    module = each.update.module
    name = names.weight(module)
    theirs = alpha / each.a.shape[0]
    # Not multiplied where it is theirs: the product with 1.0000000000000002 may be another number.
    b = each.b if each.scaling == theirs else each.b * (each.scaling / theirs)
    return {f"{name}.lora_a": each.a, f"{name}.lora_b": names.ordered(module, b)}


def verify(job: Job, folder: Path) -> tuple[Check, ...]:
    """Reads the file back, and runs llama.cpp with it where that can be."""
    from taia.export import llama_cpp

    missing, adapter = llama_cpp.missing(), job.source.adapter
    if adapter is None or job.merge:
        check = _model_back(job, folder)
        if not check.passed:
            return (check,)
        outtype = settled(_place(job, folder), job.outtype)
        if not missing:
            return check, llama_cpp.run_model(job, folder / MODEL, outtype)
        told = f"llama.cpp itself was not run: {missing}."
        again = llama_cpp.run_in_transformers(job, folder / MODEL, outtype)
        if again is None:
            return (replace(check, said=f"{check.said} {told}"),)
        return check, replace(again, said=f"{again.said} {told}")
    check = _adapter_back(job, adapter, folder / ADAPTER)
    if not check.passed:
        return (check,)
    reason = "no --base-gguf was given" if job.base_gguf is None else missing
    if job.base_gguf is None or reason:
        return (replace(check, said=f"{check.said} llama.cpp itself was not run: {reason}."),)
    return check, llama_cpp.run(job, job.base_gguf, folder / ADAPTER)


def compare_file(place: Located, file: Path, outtype: Outtype) -> tuple[int, int]:
    """Reads a file back and compares each tensor with the checkpoint's.

    What the file says is undone, not done again: dequantised, it must be the checkpoint's numbers
    within what the dtype can hold.

    Returns:
        How many tensors are as they should be, and of how many.
    """
    import gguf
    import torch

    names = names_of(place)
    wanted = {each.name: each for each in plan(place, names, outtype)}
    factors = rope_factors(place)
    right = 0
    found = gguf.GGUFReader(file).tensors
    for tensor in found:
        each = wanted.pop(tensor.name, None)
        if each is None:
            known = factors.pop(tensor.name, None)
            right += known is not None and (known == tensor.data).all()
            continue
        if tuple(reversed(tensor.shape.tolist())) != each.shape or tensor.tensor_type != each.kind:
            continue
        rows = tensor.data.reshape(prod(tensor.data.shape[:-1]), tensor.data.shape[-1])
        start, same = 0, True
        for part in values(each, names):
            part = part.float().reshape(-1, part.shape[-1])
            stop = start + part.shape[0]
            back = gguf.quants.dequantize(rows[start:stop], tensor.tensor_type)
            same &= _near(torch.from_numpy(back.copy()).reshape(part.shape), part, each.kind.name)
            start = stop
        right += same and start == len(rows)
    return int(right), len(found) + len(wanted) + len(factors)


def _near(back: torch.Tensor, wanted: torch.Tensor, kind: str) -> bool:
    """Whether numbers were rounded as their dtype rounds, and no further."""
    import torch

    size = wanted.abs()
    if kind == "Q8_0":  # 32 numbers share a float16 scale, their largest / 127
        blocks = size.reshape(*size.shape[:-1], -1, 32).amax(-1, keepdim=True)
        size = blocks.expand(*blocks.shape[:-1], 32).reshape(size.shape)
    allowed = _ROUNDING[kind] * size + (2.0**-24 if kind in ("F16", "Q8_0") else 0)
    apart = (back - wanted).abs()
    same = (apart <= allowed) | (back == wanted) | (torch.isnan(back) & torch.isnan(wanted))
    return bool(same.all())


def _model_back(job: Job, folder: Path) -> Check:
    place = _place(job, folder)
    equal, of = compare_file(place, folder / MODEL, settled(place, job.outtype))
    said = f"gguf reads it back: {equal} of {of} tensors are the checkpoint's, rounded."
    return Check(said, equal == of, {"equal": equal, "of": of})


def _adapter_back(job: Job, adapter: Adapter, file: Path) -> Check:
    """Compares scaling · B·A of the file with the source's, by what llama.cpp does with it."""
    import gguf
    import torch

    reader = gguf.GGUFReader(file)
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    names = Names.of(job.source.base_config)
    furthest, left = 0.0, set(tensors)
    for each in factors(adapter):
        name = names.weight(each.update.module)
        left -= {f"{name}.lora_a", f"{name}.lora_b"}
        a, b = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        ours = names.ordered(each.update.module, each.b) @ each.a * each.scaling
        apart = (b @ a * (alpha / a.shape[0]) - ours).abs().max()
        furthest = max(furthest, float(apart / ours.abs().max().clamp(min=1e-30)))
    nearness = f"within {furthest:.0e} of its largest number" if furthest else "exactly"
    said = f"gguf reads it back: {len(adapter.updates)} updates, each the source's {nearness}."
    return Check(said, furthest < 1e-5 and not left, {"difference": furthest})
