"""Writing a composed checkpoint, once everything is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taia.anatomy.labels import Label
from taia.checkpoint import companions, manifest
from taia.checkpoint.card import write_card
from taia.checkpoint.composition import Composition, Progress
from taia.checkpoint.index import INDEX, Checkpoint
from taia.checkpoint.locate import Located
from taia.checkpoint.pairing import Vocab
from taia.checkpoint.plan import Plan, table
from taia.checkpoint.reading import read_bytes
from taia.checkpoint.staging import staged
from taia.checkpoint.weights import write_weights
from taia.selection import Selection

#: What the small files of an output may take, added to the weights when space is checked.
_SLACK: Final = 1 << 20


@dataclass(frozen=True)
class Options:
    """What was asked for besides the selection; see :func:`taia.checkpoint.compose.compose`."""

    vocab: Vocab | None
    hash_inputs: bool
    declare: Mapping[str, str] | None

    @property
    def flags(self) -> tuple[str, ...]:
        """Those that change the result, as on the command line."""
        vocab = ("--vocab", self.vocab) if self.vocab else ()
        declared = (f"{pattern}={label}" for pattern, label in (self.declare or {}).items())
        return (*vocab, *(word for text in declared for word in ("--declare", text)))


@dataclass(frozen=True)
class Work:
    """Everything decided, nothing written."""

    here: Located
    there: Located
    base: Checkpoint
    tuned: Checkpoint
    output: Path | None
    selection: Selection
    options: Options
    plan: Plan
    labels: Mapping[str, Label]
    config: dict[str, Any] | None
    files: dict[str, Path]
    notes: tuple[str, ...]

    def composition(self, written: bool) -> Composition:
        """As a value for the caller."""
        return Composition(
            output=self.output,
            kind="checkpoint",
            selection=str(self.selection),
            rows=table(self.plan, self.labels),
            alphas=self.plan.alphas,
            notes=self.notes,
            written=written,
        )


def write(work: Work, output: Path, overwrite: bool, progress: Progress | None) -> None:
    """Write a composed checkpoint: the weights, what comes along, and ``config.json`` last.

    Raises:
        CheckpointError: If an input changes while it is read.
        OutputError: If the output cannot be written.
    """
    # Waiting for the disk takes longer than copying; it is worth it where a model would be lost.
    durable = output.exists()
    with staged(output, overwrite, needed=work.plan.size + _SLACK, durable=durable) as folder:
        origins = [
            manifest.identity(where, checkpoint, work.options.hash_inputs)
            for where, checkpoint in ((work.here, work.base), (work.there, work.tuned))
        ]
        write_weights(work.plan, folder, progress)
        if work.plan.index is not None:
            _write_json(work.plan.index, work.base.index, work.base.folder, folder / INDEX)
        companions.copy(work.files, folder)
        composition = work.composition(written=True)
        keep = work.selection.text
        write_card(folder, composition, work.here, work.there, keep, work.options.flags)
        manifest.write_manifest(
            folder,
            composition,
            keep=keep,
            base=origins[0],
            tuned=origins[1],
            vocab=work.options.vocab,
            declare=dict(work.options.declare) if work.options.declare else None,
        )
        if work.base.config is not None:
            config = work.config if work.config is not None else work.base.config
            _write_json(config, work.base.config, work.base.folder, folder / "config.json")


def _write_json(
    value: Mapping[str, Any], original: Mapping[str, Any] | None, source: Path, target: Path
) -> None:
    """Write JSON, as it was in the source folder where nothing changed in it."""
    if value == original:
        target.write_bytes(read_bytes(source / target.name))
    else:
        manifest.write_json(target, value)
