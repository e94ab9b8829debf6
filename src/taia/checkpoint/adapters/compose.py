"""TAIA of an adapter: a filter. A PEFT adapter in, a standard PEFT adapter out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from taia.anatomy.components import COMPONENTS
from taia.checkpoint import companions
from taia.checkpoint.adapters.card import adapter_identity, write_adapter_card
from taia.checkpoint.adapters.config import Kept, narrow
from taia.checkpoint.adapters.experts import PEFT_TYPE
from taia.checkpoint.adapters.place import Placed, place
from taia.checkpoint.adapters.plan import Step, is_nothing, kept, plan
from taia.checkpoint.adapters.read import FILE, Adapter, read_adapter
from taia.checkpoint.composition import Composition, Progress, Row, Share
from taia.checkpoint.header import make_header
from taia.checkpoint.index import ADAPTER_CONFIG, Checkpoint
from taia.checkpoint.kinship import check_adapter
from taia.checkpoint.locate import Located, locate
from taia.checkpoint.manifest import identity, write_json, write_manifest
from taia.checkpoint.patterns import check_patterns
from taia.checkpoint.staging import check_output, staged
from taia.errors import AdapterError
from taia.selection import Selection

_CHUNK: Final = 1 << 20


def compose_adapter(
    base: Path | Located | None,
    adapter: Path | Located,
    output: Path | None,
    selection: Selection,
    *,
    merge: bool = False,
    hash_inputs: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    declare: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Composition:
    """Keeps what a selection says of a LoRA, rsLoRA, DoRA or MoLoRA adapter.

    The output is an adapter that PEFT, transformers, vLLM and llama.cpp load unchanged: tensors and
    ``adapter_config.json`` are narrowed together. MoLoRA without its experts is such an adapter,
    with them it needs taia beside PEFT. Where α is 0 or 1 bytes are copied and torch is
    not imported; a fraction is folded into B in float32.

    Args:
        base: The base model. Without it updates are labelled by their names alone, rows
            of fused projections cannot be told apart, and no fraction of a whole module is
            possible.
        adapter: The adapter.
        output: Where the result shall appear; ``None`` only for a dry run.
        selection: What to keep.
        merge: Write a whole checkpoint instead, W = W_base + α·ΔW. Needs the base.
        hash_inputs: Record SHA-256 of all input files, which means reading all of them.
        dry_run: Say what would happen, and write nothing.
        overwrite: Replace a model that is already at ``output``.
        strict: Refuse an adapter that says that it was trained on another base.
        declare: Labels for tensors that no rule knows.
        progress: Called with the bytes written so far and the bytes there will be.

    Raises:
        AdapterError: If the adapter cannot be filtered or merged faithfully.
        AnatomyError: If a tensor has no label.
        CheckpointError: If a file is damaged, or is not safetensors.
        MismatchError: If the adapter does not fit the base.
        OutputError: If the output cannot be written.
        SelectionError: If a part of the selection matches nothing.
    """
    base = locate(base) if isinstance(base, Path) else base
    adapter = locate(adapter) if isinstance(adapter, Path) else adapter
    if output is not None:
        output = check_output(output, [i.path for i in (base, adapter) if i is not None], overwrite)
    elif not dry_run:
        raise ValueError("an output is needed, but for a dry run")
    read = read_adapter(adapter.path)
    checkpoint = None if base is None else Checkpoint.open(base.path)
    doubts: tuple[str, ...] = ()
    if base is not None and checkpoint is not None:
        doubts = check_adapter((base, checkpoint), adapter, read.config, strict)
    if merge:
        from taia.checkpoint.merging.merge import Inputs, merge_adapter

        if base is None or checkpoint is None:
            raise AdapterError("--merge needs the base model", "give the base model's folder")
        return merge_adapter(
            Inputs(checkpoint, read, base, adapter, doubts),
            output,
            selection,
            hash_inputs=hash_inputs,
            dry_run=dry_run,
            overwrite=overwrite,
            declare=declare,
            progress=progress,
        )
    placed = place(read, checkpoint, selection, declare).items
    steps = plan(read, placed)
    remaining = [step for step in steps if not is_dropped(step)]
    if not remaining:
        raise AdapterError(
            f"{selection} keeps nothing of {adapter.given}: the result would be the base model",
            "use the base model, or select something that the adapter has; it has "
            + ", ".join(dict.fromkeys(step.component for step in steps)),
        )
    config = _narrowed(read, placed, checkpoint)
    composition = Composition(
        output=output,
        kind="adapter",
        selection=str(selection),
        rows=_rows(steps),
        alphas={step.entry.name: step.alpha for step in steps},
        notes=(*doubts, *_notes(config, placed, steps, checkpoint)),
        written=not dry_run,
    )
    if dry_run or output is None:
        return composition
    origin = None if base is None or checkpoint is None else identity(base, checkpoint, hash_inputs)
    needed = sum(step.entry.nbytes for step in remaining)
    with staged(output, overwrite, needed=needed) as folder:
        _write_tensors(folder / FILE, remaining, progress)
        companions.copy(companions.companions(read.folder, read.folder, True)[0], folder)
        plain = config["peft_type"] != PEFT_TYPE
        write_adapter_card(folder, composition, read, adapter, base, selection.text, plain)
        write_manifest(
            folder,
            composition,
            keep=selection.text,
            base=origin,
            tuned=adapter_identity(adapter, read, hash_inputs),
            declare=declare,
        )
        write_json(folder / ADAPTER_CONFIG, config)
    return composition


def is_dropped(step: Step) -> bool:
    """Whether a tensor is left out of the output."""
    return is_nothing(step.alpha) and step.make is None


def _narrowed(
    adapter: Adapter, placed: tuple[Placed, ...], base: Checkpoint | None
) -> dict[str, Any]:
    before = kept(placed, lambda item: True)
    after = kept(placed, lambda item: not is_nothing(item.alpha))
    freed = {
        module
        for item in placed
        if item.update.wrapper is not None and item.update.wrapper not in after.wholes
        for module in (item.update.wrapper, item.update.module)
    }
    rest = None if base is None else _rest(base, placed, after)
    check_patterns(adapter.config, rest or (), adapter.folder / ADAPTER_CONFIG)
    return narrow(adapter.config, before, after, freed, rest)


def _rest(base: Checkpoint, placed: Iterable[Placed], after: Kept) -> Collection[str]:
    """Paths of the base's modules that get no low-rank update."""
    with_update = {
        item.base.name.rpartition(".")[0]
        for item in placed
        if item.base is not None and item.update.module in after.modules
    }
    modules: set[str] = set()
    for name in base.tensors:
        parts = name.split(".")[:-1]
        modules |= {".".join(parts[:stop]) for stop in range(1, len(parts) + 1)}
    return modules - with_update


def _write_tensors(path: Path, steps: Iterable[Step], progress: Progress | None) -> None:
    steps = list(steps)
    total = sum(step.entry.nbytes for step in steps)
    done = 0
    with path.open("wb") as out:
        out.write(
            make_header(
                ((step.name, step.entry.dtype, step.entry.shape) for step in steps),
                {"format": "pt"},
            )
        )
        for step in steps:
            if step.make is not None:
                out.write(step.make())
            else:
                _copy(step, out.write)
            done += step.entry.nbytes
            if progress is not None:
                progress(done, total)


def _copy(step: Step, write: Callable[[bytes], object]) -> None:
    with step.entry.file.open("rb") as stream:
        stream.seek(step.entry.start)
        left = step.entry.nbytes
        while left:
            chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                raise AdapterError(
                    f"{step.entry.file} became shorter while it was read",
                    "wait until nothing writes to it, and try again",
                )
            write(chunk)
            left -= len(chunk)


def _rows(steps: Iterable[Step]) -> tuple[Row, ...]:
    rows: dict[str, Row] = {}
    for step in steps:
        row = rows.get(step.component, Row(step.component))
        share = Share(1, math.prod(step.entry.shape), step.entry.nbytes)
        if is_dropped(step):
            row = replace(row, base=row.base + share)
        elif step.make is None:
            row = replace(row, tuned=row.tuned + share)
        else:
            row = replace(row, blended=row.blended + share)
        rows[step.component] = row
    return tuple(rows[component] for component in COMPONENTS if component in rows)


def _notes(
    config: Mapping[str, Any],
    placed: Iterable[Placed],
    steps: tuple[Step, ...],
    base: Checkpoint | None,
) -> tuple[str, ...]:
    notes = []
    left_out = [step for step in steps if is_dropped(step)]
    if left_out:
        notes.append(f"{len(left_out)} of {len(steps)} tensors of the adapter are left out.")
    if _scattered(placed):
        notes.append(
            "Updates of single experts are kept in some layers or projections and not in others. "
            "With transformers 5, which fuses experts, PEFT puts them on all layers or refuses to "
            "load them: use --merge."
        )
    rounded = sorted({s.entry.dtype for s in steps if s.make is not None})
    if rounded:
        notes.append(
            f"Fractions were calculated in float32 and rounded to {' and '.join(rounded)}: unless "
            "α is a power of two, each number may be off by half a unit in its last place."
        )
    if base is None:
        notes.append("Without the base model, modules were told apart by their names alone.")
    elif missing := [item.update.parameter for item in placed if item.base is None]:
        notes.append(
            f"{len(missing)} adapted parameters are stored under other names in the base "
            f"checkpoint ({missing[0]} …) and were labelled by their own."
        )
    return (*notes, *_servers(config))


def _scattered(placed: Iterable[Placed]) -> bool:
    """Whether single experts (an older adapter's) are kept in part."""
    whole = {
        is_nothing(item.alpha)
        for item in placed
        if re.search(r"\.experts\.\d+\.", item.update.parameter)
    }
    return len(whole) > 1


def _servers(config: Mapping[str, Any]) -> Iterable[str]:
    """What vLLM 0.33 and llama.cpp cannot load, or load wrongly."""
    if config["peft_type"] == PEFT_TYPE:
        yield "MoLoRA is loaded by PEFT only, once taia.molora is imported."
    if config.get("use_dora"):
        yield "DoRA is loaded by PEFT only; for vLLM and llama.cpp use --merge."
    if config.get("modules_to_save"):
        yield (
            f"modules_to_save ({', '.join(config['modules_to_save'])}) is rejected by vLLM and "
            "llama.cpp; leave it out of the selection, or use --merge."
        )
    if config.get("trainable_token_indices"):
        yield "Trained tokens are loaded by PEFT only; for vLLM and llama.cpp use --merge."
    if config.get("bias", "none") != "none":
        yield "Trained biases are loaded by PEFT only; for vLLM and llama.cpp use --merge."
    if config.get("target_parameters"):
        yield "target_parameters needs peft 0.17 or later; for others use --merge."
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        yield (
            "rank_pattern and alpha_pattern give modules different scales; vLLM and llama.cpp "
            "apply one scale to all; use --merge for them."
        )
    if config.get("use_rslora"):
        yield "llama.cpp ignores use_rslora and would scale by alpha / r; use --merge for it."
