"""W_infer = W_base + α · (W_tuned − W_base), on disk: the one way from inputs to an output.

Base and tuned are found and opened, a plan says where every byte of the output comes from, and the
plan is written. A tuned checkpoint, a filtered adapter and a merged one differ in their plans only.

Where α is 0 or 1 the output's bytes are copied from the base's or the tuned model's files; only
fractions, changes of dtype and merged weights are computed. The output appears whole or not at all.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from taia.checkpoint.blend import plan_checkpoints
from taia.checkpoint.composition import ByteProgress, Composition
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.formula import Formula
from taia.checkpoint.heads import Vocab
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.kinship import check_adapter, check_pair
from taia.checkpoint.locate import Located, locate
from taia.checkpoint.output import manifest, tokenizer_files
from taia.checkpoint.output.card import adapter_card, called, checkpoint_card, public
from taia.checkpoint.output.destination import check_output
from taia.checkpoint.output.staging import staged
from taia.checkpoint.output.writer import writing
from taia.checkpoint.plan import OutputPlan
from taia.errors import AdapterError, InputError, MethodError
from taia.methods import Applied
from taia.selection import Selection

if TYPE_CHECKING:
    from taia.checkpoint.adapters.read import Adapter

#: What the small files of an output may take, added to the weights when space is checked.
_SLACK: Final = 1 << 20


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Python's search for reference cycles put off: there are none here.

    It would go through the values of a hundred thousand tensors again and again while they are
    read, which was a third of the time of planning.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_no_search_for_cycles()
def compose(
    base: str | Path | Located | None,
    tuned: str | Path | Located,
    output: str | Path | None,
    keep: str | Selection | None = None,
    *,
    method: str | Applied | None = None,
    statistics: str | Path | None = None,
    unaligned: str | Path | None = None,
    merge: bool = False,
    vocab: Vocab | None = None,
    hash_inputs: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    declare: Mapping[str, str] | None = None,
    progress: ByteProgress | None = None,
) -> Composition:
    """Keep a part of an update: write the model or adapter that has only that part.

    A filtered adapter is one that PEFT, transformers, vLLM and llama.cpp load unchanged: tensors
    and ``adapter_config.json`` are narrowed together. (MoLoRA without its experts is such an
    adapter; with them it needs taia beside PEFT.)

    Args:
        base: The model before fine-tuning: a folder, one ``.safetensors`` file, or a hub name as
            ``org/name`` or ``org/name@revision``. ``None`` only for an adapter that is filtered by
            its names alone.
        tuned: The model after, the same way; or an adapter.
        output: The folder to write; ``None`` only for a dry run.
        keep: What to keep of the update, a mode (``"taia"``) or a selection; ``"taia"`` unless told
            otherwise, or ``"all"`` where there is a method.
        method: What is made of the update before the selection takes its part: a formula by its
            name and values (``"magnitude:keep=0.2"``), see docs/methods.md.
        statistics: A folder with what calibration rows gave, for a method that needs it.
        unaligned: The model that the base was aligned from, for a method that needs it.
        merge: For an adapter, write a whole checkpoint.
        vocab: Whose vocabulary to take where base and tuned differ in its size.
        hash_inputs: Record SHA-256 of all input files, which means reading all of them.
        dry_run: Check everything and write nothing.
        overwrite: Replace a model that is there already.
        strict: Refuse what is otherwise a note: two equal models, base and tuned swapped, an
            adapter that says that it was trained on another base.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        progress: Called with the bytes written so far and the bytes there will be.

    Returns:
        What was done, or would be.

    Raises:
        InputError: If something given cannot be used (see :mod:`taia.errors` for its kinds).
        RunError: If the output cannot be written or an input cannot be fetched.
    """
    if keep is None:
        keep = "taia" if method is None else "all"
    selection = Selection.parse(keep) if isinstance(keep, str) else keep
    formula = _formula(method, statistics, unaligned)
    if vocab not in (None, "base", "tuned"):
        raise InputError(f"vocab is {vocab!r}.", "Use 'base' or 'tuned'.")
    if output is None and not dry_run:
        raise InputError("No output was given.", "Say where to write, or make it a dry run.")
    there = tuned if isinstance(tuned, Located) else locate(tuned)
    here = base if isinstance(base, Located) or base is None else locate(base)
    is_adapter = holds_adapter(there.path)
    if merge and not is_adapter:
        raise InputError(
            f"{there.given!r} is a whole checkpoint: there is no adapter to merge.",
            "Leave --merge away, or give the adapter.",
        )
    if merge and here is None:
        raise AdapterError("--merge needs the base model", "give the base model's folder")
    if not is_adapter and here is None:
        raise InputError("No base was given.", "Give the model that tuned was trained from.")
    if formula is not None and here is None:
        raise AdapterError("a method needs the base model", "give the base model's folder")
    target = None if output is None else Path(output)
    if target is not None:
        inputs = [place.path for place in (here, there) if place is not None]
        inputs += () if formula is None else formula.folders
        target = check_output(target, inputs, overwrite)
    sides = _Sides(
        here,
        there,
        None if here is None else Checkpoint.open(here.path),
        _adapter(there) if is_adapter else Checkpoint.open(there.path),
    )
    doubts = _doubts(sides, strict)
    plan = _plan(sides, selection, merge, vocab, declare, formula)
    done = Composition(
        output=target,
        kind=plan.kind,
        selection=str(selection),
        rows=plan.rows,
        alphas=plan.alphas,
        notes=(*doubts, *plan.notes),
        written=not dry_run,
        method=None if formula is None else str(formula.applied),
    )
    if target is not None and not dry_run:
        # Waiting for the disk takes longer than writing a checkpoint; it is worth it where a model
        # would be lost, and where the output is small.
        durable = plan.kind == "adapter" or target.exists()
        needed = plan.weights.size + _SLACK
        with staged(target, overwrite, needed=needed, durable=durable) as folder:
            settings = {
                "method": done.method,
                "statistics": None if statistics is None else str(statistics),
                "unaligned": None if unaligned is None else str(unaligned),
                "merge": merge,
                "vocab": vocab,
                "strict": strict,
                "declare": dict(declare or {}),
            }
            with writing(plan.weights, folder, progress):
                tokenizer_files.copy(plan.beside, folder)
                _describe(folder, plan, done, sides, selection.text, settings, hash_inputs, formula)
            if plan.config is not None:
                name, content = plan.config
                (folder / name).write_bytes(content)  # last: it makes the folder a model
    return done


@dataclass(frozen=True)
class _Sides:
    """Where base and tuned were found, and what they are."""

    here: Located | None
    there: Located
    base: Checkpoint | None
    tuned: Checkpoint | Adapter


def _doubts(sides: _Sides, strict: bool) -> tuple[str, ...]:
    """What speaks against the two belonging together."""
    here, there, base, tuned = sides.here, sides.there, sides.base, sides.tuned
    if here is None or base is None:
        return ()
    if isinstance(tuned, Checkpoint):
        return check_pair((here, base), (there, tuned), strict)
    return check_adapter((here, base), there, tuned.config, strict)


def _adapter(place: Located) -> Adapter:
    # What adapters need is imported for adapters only: half of the time that a copy starts in.
    from taia.checkpoint.adapters.read import read_adapter

    return read_adapter(place.path)


def _formula(
    method: str | Applied | None, statistics: str | Path | None, unaligned: str | Path | None
) -> Formula | None:
    if method is not None:
        return Formula.open(method, statistics, unaligned)
    for flag, given in (("--statistics", statistics), ("--unaligned", unaligned)):
        if given is not None:
            raise MethodError(f"{flag} does nothing without --method.", "Leave it out.")
    return None


def _plan(
    sides: _Sides,
    selection: Selection,
    merge: bool,
    vocab: Vocab | None,
    declare: Mapping[str, str] | None,
    formula: Formula | None,
) -> OutputPlan:
    base, tuned = sides.base, sides.tuned
    if isinstance(tuned, Checkpoint):
        assert base is not None
        return plan_checkpoints(
            base, tuned, selection, vocab=vocab, declare=declare, formula=formula
        )
    from taia.checkpoint.adapters.filter import plan_filter
    from taia.checkpoint.adapters.find import with_live_names
    from taia.checkpoint.adapters.merge import plan_merge

    if base is not None:
        tuned = with_live_names(tuned, base)
    if merge:
        assert base is not None
        return plan_merge(base, tuned, selection, vocab=vocab, declare=declare, formula=formula)
    return plan_filter(base, tuned, selection, vocab=vocab, declare=declare, formula=formula)


def _describe(
    folder: Path,
    plan: OutputPlan,
    done: Composition,
    sides: _Sides,
    keep: str,
    settings: Mapping[str, Any],
    hash_inputs: bool,
    formula: Formula | None,
) -> None:
    """Write the card and the record."""
    here, there, tuned = sides.here, sides.there, sides.tuned
    base = None
    if here is not None and sides.base is not None:
        base = manifest.identity(here, sides.base, hash_inputs)
    origin = manifest.identity(there, tuned, hash_inputs)
    title = "OUTPUT" if done.output is None else done.output.name
    made = manifest.command(
        called(here) if here else "BASE", called(there), keep, title, *_flags(_public(settings))
    )
    if plan.kind == "adapter":
        named = (tuned.config or {}).get("base_model_name_or_path")
        trained_on = named if isinstance(named, str) else None
        text = adapter_card(done, here, there, made, trained_on=trained_on, alone=plan.alone)
    else:
        text = checkpoint_card(done, here, there, made)
    (folder / "README.md").write_text(text, "utf-8", "backslashreplace")
    given = {key: value for key, value in settings.items() if value}
    more = {} if formula is None else formula.read(hash_inputs)
    manifest.write_manifest(folder, done, keep=keep, base=base, tuned=origin, more=more, **given)


def _public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a card may have them, which tells nobody's folders."""
    folders = {key: public(settings[key]) for key in ("statistics", "unaligned") if settings[key]}
    return {**settings, **folders}


def _flags(settings: Mapping[str, Any]) -> Iterator[str]:
    """Settings as on the command line."""
    for name, value in settings.items():
        if value is True:
            yield f"--{name}"
        elif isinstance(value, str):
            yield from (f"--{name}", value)
        elif value:
            for pattern, label in value.items():
                yield from (f"--{name}", f"{pattern}={label}")
