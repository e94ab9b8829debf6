"""For vLLM: an adapter with one rank and one scale, or a whole checkpoint.

vLLM 0.33 reads ``r`` and ``lora_alpha`` once for the whole adapter: ``rank_pattern`` and
``alpha_pattern`` are not looked at. Where they matter, scales are folded into B in float32, smaller
ranks are filled up with zeros, and ``lora_alpha = r`` makes the one scale 1.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taia.anatomy.label import number
from taia.checkpoint.adapters.read import FILE, Adapter
from taia.checkpoint.folders import ADAPTER_CONFIG
from taia.checkpoint.output.manifest import write_json
from taia.errors import AdapterError
from taia.export import to_transformers
from taia.export.job import Check, Written
from taia.export.low_rank import alike, factors, plain_low_rank

if TYPE_CHECKING:
    from taia.export.job import Job

#: What ``--max-lora-rank`` takes.
_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)


def write(job: Job, folder: Path) -> Written:
    """Writes a folder that vLLM loads.

    Raises:
        AdapterError: If vLLM cannot carry something that the adapter has.
    """
    adapter = job.source.adapter
    if adapter is None or job.merge:
        done = to_transformers.write(job, folder)
        return Written(done.notes, "vllm serve {output}")
    plain_low_rank(adapter, "vLLM")
    _check_modules(adapter)
    room = slots(adapter)
    to_transformers.write(job, folder)
    notes = () if alike(adapter) else _fold(adapter, _rank(adapter), folder)
    place = job.source.base
    base = shlex.quote(place.repo or str(place.path.resolve()))
    if place.repo and place.revision:
        base += f" --revision {shlex.quote(place.revision)}"
    use = (
        f"vllm serve {base} --enable-lora --max-lora-rank {room} "
        f"--lora-modules {shlex.quote(job.output.name)}={{output}}"
    )
    return Written(notes, use)


def slots(adapter: Adapter) -> int:
    """What ``--max-lora-rank`` must be for an adapter.

    Raises:
        AdapterError: If no value is large enough.
    """
    rank = _rank(adapter)
    for room in _RANKS:
        if room >= rank:
            return room
    raise AdapterError(
        f"vLLM takes ranks up to {_RANKS[-1]}, and {adapter.folder} has rank {rank}.",
        "Merge it: taia export DIR --to vllm --merge.",
    )


def _rank(adapter: Adapter) -> int:
    return max(adapter.rank(update) for update in adapter.updates)


def verify(job: Job, folder: Path) -> tuple[Check, ...]:
    """Compares what PEFT or transformers, which read the same files, make of the folder."""
    (check,) = to_transformers.verify(job, folder)
    return (replace(check, said=f"{check.said} vLLM itself was not run."),)


def _check_modules(adapter: Adapter) -> None:
    for update in adapter.updates:
        if not any(number(part) is not None for part in update.module.split(".")):
            raise AdapterError(
                f"vLLM adapts the layers' projections only; the adapter has {update.module}.",
                "Leave it out of the selection, or merge: taia export DIR --to vllm --merge.",
            )


def _fold(adapter: Adapter, rank: int, folder: Path) -> tuple[str, ...]:
    from safetensors.torch import save_file
    from torch.nn.functional import pad

    tensors = {}
    for each in factors(adapter):
        missing = rank - each.a.shape[0]
        parts = each.update.parts
        tensors[parts["lora_A"].name] = pad(each.a, (0, 0, 0, missing)).contiguous()
        tensors[parts["lora_B"].name] = pad(each.b * each.scaling, (0, missing)).contiguous()
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    config = dict(adapter.config)
    config.update(r=rank, lora_alpha=rank, use_rslora=False, rank_pattern={}, alpha_pattern={})
    write_json(folder / ADAPTER_CONFIG, config)
    return (f"Scales were folded into B in float32, and every module has rank {rank}.",)
