"""How far two checkpoints lie apart, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from taia.analysis.measured import Measured
from taia.analysis.spectrum import of_matrices
from taia.analysis.streaming import difference, distance, size
from taia.anatomy import Label
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.pairing import pair_up
from taia.checkpoint.sources import FLOATS, Sources
from taia.checkpoint.steps import TensorPair


def checkpoint_norms(
    base: Checkpoint, folder: Path, declare: Mapping[str, str] | None, ranks: bool
) -> tuple[Iterator[Measured], tuple[str, ...]]:
    """Measure what lies between a base and a tuned checkpoint.

    Args:
        base: The base's headers.
        folder: The tuned model's folder or file.
        declare: Labels for tensors that no rule knows.
        ranks: Whether effective ranks are wanted, which take memory for a tensor and time.

    Returns:
        Each tensor of the base, read as it is asked for, and what is left out.

    Raises:
        AnatomyError: If a tensor cannot be labelled.
        CheckpointError: If a file is damaged.
        MismatchError: If they do not belong together.
    """
    # The base's vocabulary: rows that only the tuned model has are no update of anything.
    pairing = pair_up(base, Checkpoint.open(folder), "base", declare)
    pairs = [pair for pair in pairing.pairs.values() if pair.dtype in FLOATS]
    notes = []
    if pairing.resized is not None:
        notes.append(
            f"Only the {min(pairing.resized)} vocabulary rows that both have are compared."
        )
    if others := len(pairing.pairs) - len(pairs):
        notes.append(f"{others} tensors of whole numbers are left out.")
    return _measured(pairs, pairing.labels, ranks), tuple(notes)


def _measured(
    pairs: Iterable[TensorPair], labels: Mapping[str, Label], ranks: bool
) -> Iterator[Measured]:
    with Sources() as sources:
        for pair in pairs:
            update = 0.0
            found: tuple[float, ...] = ()
            if pair.tuned is not None:
                update = distance(pair.base, pair.tuned, sources)
                if ranks and len(pair.shape) > 1 and update and math.isfinite(update):
                    whole = difference(pair.base, pair.tuned, sources).reshape(pair.shape)
                    found = tuple(of_matrices(whole))
            yield Measured(labels[pair.name], update, size(pair.base, sources), found)
