"""Which of the tuned model's bytes are which of the base's tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taia.anatomy.fused import FUSED_EXPERTS, TRANSPOSED_EXPERTS
from taia.checkpoint.header import Entry
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.live import live_names
from taia.checkpoint.sources import Runs, runs_of
from taia.checkpoint.spelling import (
    NOT_LOADED,
    constant,
    expert,
    fused,
    newer,
    unfinished,
    unwrapped,
    wrapper,
)
from taia.errors import CheckpointError, MismatchError

_LAYER: Final = re.compile(r"^(?:model\.)?layers\.([0-9]{1,9})\.")


@dataclass(frozen=True, slots=True)
class SidePart:
    """One side's elements of a tensor that the other side may cut otherwise."""

    dtype: str
    shape: tuple[int, ...]
    runs: Runs


@dataclass(frozen=True)
class Alignment:
    """The tuned model's tensors under the base's names.

    Attributes:
        parts: Base's name → the tuned model's part; ``None`` where the base's is kept always.
        missing: The base's tensors that the tuned model lacks.
        extra: The tuned model's tensors that the base lacks.
        notes: What had to be respelled, kept or left out.
    """

    parts: dict[str, SidePart | None]
    missing: tuple[Entry, ...]
    extra: tuple[Entry, ...]
    notes: tuple[str, ...]


def part(entry: Entry) -> SidePart:
    """A whole tensor of the tuned model."""
    return SidePart(entry.dtype, entry.shape, runs_of(entry, "tuned"))


def align(base: Checkpoint, tuned: Checkpoint) -> Alignment:
    """Find every base tensor in the tuned model: by name, by its other name, in a fused tensor.

    Raises:
        CheckpointError: If the base's names are those of a wrapped model, or either's of one that
            was saved with an adapter on it.
        MismatchError: If experts are fused on one side in a way that cannot be taken apart.
    """
    refuse_wrapped(base)
    refuse_unfinished(tuned)
    parts: dict[str, SidePart | None] = {
        name: part(tuned.tensors[name]) for name in base.tensors if name in tuned.tensors
    }
    missing = {name: entry for name, entry in base.tensors.items() if name not in parts}
    extra = {name: entry for name, entry in tuned.tensors.items() if name not in parts}
    notes: list[str] = []
    if missing or extra:
        _rename(missing, extra, parts, notes)
        if missing and extra and (live := live_names(base.config)):
            _rename(missing, extra, parts, notes, live.name)
        _experts(missing, extra, parts, notes, base.config or {})
        _constants(missing, extra, parts, notes)
        _unloaded(missing, parts, notes, base.config or {})
    return Alignment(parts, tuple(missing.values()), tuple(extra.values()), tuple(notes))


def refuse_wrapped(checkpoint: Checkpoint) -> None:
    """Refuse names that no model has, only a wrapper around one.

    Raises:
        CheckpointError: Naming the wrapper.
    """
    refuse_unfinished(checkpoint)
    for name in checkpoint.tensors:
        if whose := wrapper(name):
            raise CheckpointError(
                f"{checkpoint.folder} was saved inside {whose}: its {name!r} is a model's "
                f"{unwrapped(name)!r}, and transformers would not load it.",
                "Save the model itself: accelerator.unwrap_model(model).save_pretrained(NEW), or "
                "merge_and_unload() first where PEFT wraps it.",
            )


def refuse_unfinished(checkpoint: Checkpoint) -> None:
    """Refuse names of parts that a model's weights are yet to be made of, on whichever side.

    Raises:
        CheckpointError: With what makes a model of them.
    """
    for name in checkpoint.tensors:
        if found := unfinished(name):
            how, mend = found
            raise CheckpointError(f"{checkpoint.folder} was saved {how}: it has {name!r}.", mend)


_Side = dict[str, Entry]
_Parts = dict[str, SidePart | None]


def _unique(names: Iterable[str], spell: Callable[[str], str] = newer) -> dict[str, str]:
    """Newer name → name, for the names whose newer name is theirs alone."""
    pairs = [(spell(name), name) for name in names]
    count = Counter(new for new, _ in pairs)
    return {new: name for new, name in pairs if count[new] == 1}


def _rename(
    missing: _Side,
    extra: _Side,
    parts: _Parts,
    notes: list[str],
    spell: Callable[[str], str] = newer,
) -> None:
    mine, theirs = _unique(missing, spell), _unique(extra, spell)
    renamed = [(mine[new], theirs[new]) for new in mine if new in theirs]
    for name, other in renamed:
        parts[name] = part(extra.pop(other))
        del missing[name]
    if renamed:
        name, other = renamed[0]
        whose = wrapper(other)
        saved = f", which was saved inside {whose}" if whose else ""
        notes.append(
            f"{len(renamed)} tensors have other names in the tuned model{saved} (its {other!r} is "
            f"the base's {name!r}); the output uses the base's."
        )


def _experts(
    missing: _Side, extra: _Side, parts: _Parts, notes: list[str], config: Mapping[str, Any]
) -> None:
    mine, theirs = _unique(missing), _unique(extra)
    apart = _by_fused(mine), _by_fused(theirs)
    for new, name in mine.items():
        found = fused(new)
        if found and found in apart[1]:
            _refuse_transposed(config, name, theirs[next(iter(apart[1][found].values()))])
            pieces = {key: extra[theirs[one]] for key, one in apart[1][found].items()}
            parts[name] = _stacked(missing[name], found[1], pieces)
            del missing[name]
            for entry in pieces.values():
                del extra[entry.name]
            if found[1] == "gate_up_proj":
                _note_experts(notes, "fuses its experts and the tuned model keeps them apart")
    for new, name in theirs.items():
        found = fused(new)
        if found and found in apart[0]:
            _refuse_transposed(config, mine[next(iter(apart[0][found].values()))], name)
            pieces = {key: missing[mine[one]] for key, one in apart[0][found].items()}
            for key, entry in pieces.items():
                parts[entry.name] = _slice(extra[name], found[1], key, entry, len(pieces))
                del missing[entry.name]
            del extra[name]
            if found[1] == "gate_up_proj":
                _note_experts(notes, "keeps its experts apart and the tuned model fuses them")


def _note_experts(notes: list[str], how: str) -> None:
    note = f"The base {how}; the output is laid out like the base."
    if note not in notes:
        notes.append(note)


def _by_fused(names: Mapping[str, str]) -> dict[tuple[str, str], dict[tuple[int, int], str]]:
    """(stem, fused part) → (expert, which part) → newer name."""
    found: dict[tuple[str, str], dict[tuple[int, int], str]] = {}
    for new in names:
        place = expert(new)
        if place:
            stem, whole, number, which, _ = place
            found.setdefault((stem, whole), {})[number, which] = new
    return found


def _refuse_transposed(config: Mapping[str, Any], name: str, other: str) -> None:
    if config.get("model_type") in TRANSPOSED_EXPERTS:
        raise _layouts_differ(name, other, "they are also transposed")


def _stacked(whole: Entry, kind: str, pieces: Mapping[tuple[int, int], Entry]) -> SidePart:
    """A fused tensor of the base, from the tuned model's tensors of single experts."""
    count = len(FUSED_EXPERTS[kind])
    example = next(iter(pieces.values()))
    rows, columns = _matrix(whole, count, example)
    expected = {(number, which) for number in range(whole.shape[0]) for which in range(count)}
    if pieces.keys() != expected:
        raise _layouts_differ(whole.name, example.name, "they differ in the number of experts")
    for entry in pieces.values():
        if entry.shape != (rows, columns) or entry.dtype != example.dtype:
            raise _layouts_differ(whole.name, entry.name, f"its shape is {entry.shape}")
    runs = tuple(run for key in sorted(pieces) for run in runs_of(pieces[key], "tuned"))
    return SidePart(example.dtype, whole.shape, runs)


def _slice(whole: Entry, kind: str, key: tuple[int, int], single: Entry, present: int) -> SidePart:
    """One expert's tensor of the base, from a fused tensor of the tuned model."""
    count = len(FUSED_EXPERTS[kind])
    rows, columns = _matrix(whole, count, single)
    if present != whole.shape[0] * count or key[0] >= whole.shape[0]:
        raise _layouts_differ(single.name, whole.name, "they differ in the number of experts")
    if single.shape != (rows, columns):
        raise _layouts_differ(single.name, whole.name, f"its shape is {whole.shape}")
    size = rows * columns
    first = (key[0] * count + key[1]) * size
    (run,) = runs_of(whole, "tuned")
    return SidePart(whole.dtype, single.shape, (run.cut(first, first + size),))


def _matrix(whole: Entry, count: int, single: Entry) -> tuple[int, int]:
    if len(whole.shape) != 3 or whole.shape[1] % count:
        raise _layouts_differ(whole.name, single.name, f"its shape is {whole.shape}")
    return whole.shape[1] // count, whole.shape[2]


def _layouts_differ(name: str, other: str, why: str) -> MismatchError:
    return MismatchError(
        f"Base and tuned lay their experts out differently ({name!r}, {other!r}), and {why}.",
        "Save both with one version of transformers: load each with from_pretrained and "
        "save_pretrained it.",
    )


def _constants(missing: _Side, extra: _Side, parts: _Parts, notes: list[str]) -> None:
    for side, what in ((missing, "kept from the base"), (extra, "left out")):
        kinds = {name: constant(name, entry.shape) for name, entry in side.items()}
        found = {name: kind for name, kind in kinds.items() if kind}
        for name in found:
            del side[name]
            if side is missing:
                parts[name] = None
        if found:
            names = " and ".join(sorted(set(found.values())))
            whose = "base" if side is missing else "tuned model"
            notes.append(
                f"{len(found)} constants that only the {whose} saved ({names}) are {what}."
            )


def _unloaded(missing: _Side, parts: _Parts, notes: list[str], config: Mapping[str, Any]) -> None:
    depth = config.get("num_hidden_layers")
    found = []
    for name in missing:
        layer = _LAYER.match(name)
        beyond = layer is not None and isinstance(depth, int) and int(layer[1]) >= depth
        if beyond or NOT_LOADED.match(name):
            found.append(name)
    for name in found:
        del missing[name]
        parts[name] = None
    if found:
        notes.append(
            f"{len(found)} tensors that transformers does not load (multi-token prediction, "
            f"{found[0]!r}) are absent in the tuned model and kept from the base."
        )
