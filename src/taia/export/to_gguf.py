"""For llama.cpp: an adapter as a GGUF file.

llama.cpp applies ``adapter.lora.alpha`` / rank to every module, the rank being the tensor's own. So
a rank pattern needs nothing; an alpha pattern and rsLoRA are folded into B. Everything is float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.adapters.read import Adapter
from taia.errors import InputError
from taia.export.factors import Factors, factors
from taia.export.gguf_names import Names
from taia.export.limits import plain_low_rank
from taia.export.result import Check, Written

if TYPE_CHECKING:
    from taia.export.job import Job

#: The file in the output.
FILE: Final = "adapter.gguf"


def write(job: Job, folder: Path) -> Written:
    """Writes ``adapter.gguf``.

    Raises:
        AdapterError: If llama.cpp cannot carry something that the adapter has.
        InputError: If it is a whole checkpoint.
    """
    adapter = _adapter(job)
    plain_low_rank(adapter, "llama.cpp")
    names = Names.of(job.source.base_config)
    write_adapter(folder / FILE, adapter, names, job.output.name)
    base = "BASE.gguf" if job.base_gguf is None else str(job.base_gguf)
    return Written(use=f"llama-cli -m {base} --lora {{output}}/{FILE}")


def write_adapter(file: Path, adapter: Adapter, names: Names, title: str) -> None:
    """Writes an adapter of low-rank updates as GGUF.

    Args:
        file: Where.
        adapter: The adapter.
        names: The base's.
        title: What the file calls itself.
    """
    import gguf

    writer = gguf.GGUFWriter(file, names.architecture)
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
    name = names.tensor(module)
    theirs = alpha / each.a.shape[0]
    # Not multiplied where it is theirs: the product with 1.0000000000000002 may be another number.
    b = each.b if each.scaling == theirs else each.b * (each.scaling / theirs)
    return {f"{name}.lora_a": each.a, f"{name}.lora_b": names.ordered(module, b)}


def verify(job: Job, folder: Path) -> Check:
    """Runs llama.cpp with the adapter where it can, else reads the file back."""
    from taia.export.llama_cpp import missing, run

    reason = "No --base-gguf was given" if job.base_gguf is None else missing()
    if job.base_gguf is None or reason:
        check = _read_back(job, folder / FILE)
        return Check(f"{check.said} {reason}: llama.cpp itself was not run.", check.passed)
    return run(job, job.base_gguf, folder / FILE)


def _read_back(job: Job, file: Path) -> Check:
    """Compares scaling · B·A of the file with the source's, by what llama.cpp does with it."""
    import gguf
    import torch

    reader = gguf.GGUFReader(file)
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    adapter = _adapter(job)
    names = Names.of(job.source.base_config)
    furthest, left = 0.0, set(tensors)
    for each in factors(adapter):
        name = names.tensor(each.update.module)
        left -= {f"{name}.lora_a", f"{name}.lora_b"}
        a, b = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        ours = names.ordered(each.update.module, each.b) @ each.a * each.scaling
        apart = (b @ a * (alpha / a.shape[0]) - ours).abs().max()
        furthest = max(furthest, float(apart / ours.abs().max().clamp(min=1e-30)))
    said = (
        f"gguf reads it back: {len(adapter.updates)} updates, each the source's within "
        f"{furthest:.0e} of its largest number."
    )
    return Check(said, furthest < 1e-5 and not left, {"difference": furthest})


def _adapter(job: Job) -> Adapter:
    if job.source.adapter is None or job.merge:
        raise InputError(
            f"Whole checkpoints are not written as GGUF ({job.source.place.given}).",
            "Export it --to transformers (--merge), and use llama.cpp's convert_hf_to_gguf.py.",
        )
    return job.source.adapter
