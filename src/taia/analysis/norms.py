"""Where an update lives: how large it is in each layer, component and projection.

Sizes are Frobenius norms, ‖ΔW‖ of the update and ‖W‖ of the base's weights that it changes.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from taia.analysis.measured import Measured
from taia.checkpoint.folders import holds_adapter
from taia.checkpoint.index import Checkpoint
from taia.checkpoint.locate import locate
from taia.checkpoint.output.staging import write_file
from taia.checkpoint.reading import read_json
from taia.errors import CheckpointError, DataError

#: A run's file of norms.
UPDATE_FILE: Final = "update.json"
#: Of the file; a change that an older taia could not read raises it.
SCHEMA: Final = 2
#: Earlier ones that can be read: 1 had no ranks.
_READ: Final = (1, SCHEMA)


@dataclass(frozen=True, slots=True)
class Norm:
    """How large the update of some tensors is.

    Attributes:
        layer: Their layer, ``None`` outside of one.
        component: Their component.
        projection: The name their module has in the architecture; empty for a sum over several.
        update: ‖ΔW‖ over all of them.
        weight: ‖W‖ over the base's.
        tensors: How many there are.
        rank: The mean effective rank of the update's matrices
            (:func:`taia.analysis.spectrum.effective_rank`); ``None`` where it was not measured, or
            there is no update of a matrix.
    """

    layer: int | None
    component: str
    projection: str
    update: float
    weight: float
    tensors: int
    rank: float | None = None

    @property
    def ratio(self) -> float:
        """‖ΔW‖/‖W‖; infinite where only the weights were nothing."""
        if self.weight == 0:
            return math.inf if self.update else 0.0
        return self.update / self.weight


@dataclass(frozen=True)
class Norms:
    """Where an update lives.

    Attributes:
        base: The base, as it was given.
        tuned: The tuned model or adapter, as it was given.
        rows: One per layer, component and projection, in the model's order.
        notes: What was left out, and why.
    """

    base: str
    tuned: str
    rows: tuple[Norm, ...]
    notes: tuple[str, ...] = ()

    @property
    def by_component(self) -> tuple[Norm, ...]:
        """Summed over layers and projections."""
        groups: dict[str, list[Norm]] = defaultdict(list)
        for row in self.rows:
            groups[row.component].append(row)
        return tuple(
            Norm(
                None,
                component,
                "",
                math.hypot(*(row.update for row in found)),
                math.hypot(*(row.weight for row in found)),
                sum(row.tensors for row in found),
                _mean(row.rank for row in found if row.rank is not None),
            )
            for component, found in groups.items()
        )

    def share(self, *components: str) -> float:
        """The part of ‖ΔW‖² that lies in some components; nan where there is no update."""
        total = math.fsum(row.update**2 for row in self.rows)
        there = math.fsum(row.update**2 for row in self.rows if row.component in components)
        return there / total if total else math.nan

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "schema": SCHEMA,
            "base": self.base,
            "tuned": self.tuned,
            "rows": [asdict(row) for row in self.rows],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Norms:
        """Read what :meth:`to_json` gives.

        Raises:
            DataError: If it is something else, or of another version of taia.
        """
        mend = "Remove the file and run `taia eval` again."
        if plain.get("schema") not in _READ:
            raise DataError("The norms of the update are of another version of taia.", mend)
        try:
            rows = tuple(Norm(**row) for row in plain["rows"])
            return cls(plain["base"], plain["tuned"], rows, tuple(plain["notes"]))
        except (KeyError, TypeError) as error:
            raise DataError(f"These are no norms of an update: {error}.", mend) from error


def update_norms(
    base: str | Path,
    tuned: str | Path,
    declare: Mapping[str, str] | None = None,
    *,
    ranks: bool = False,
) -> Norms:
    """Measure where an update lives, one tensor at a time.

    Args:
        base: The model before fine-tuning: a folder, a ``.safetensors`` file or a hub name.
        tuned: The model after, the same way; or an adapter.
        declare: Pattern of a tensor's name → component, for names that anatomy does not know.
        ranks: Whether to measure effective ranks of whole matrices, too: a tensor at a time, in
            float64. An adapter's products are measured in any case, from their factors.

    Raises:
        InputError: If one cannot be read, is quantised, or they do not belong together.
        DownloadError: If one cannot be fetched.
    """
    here, there = locate(base), locate(tuned)
    checkpoint = Checkpoint.open(here.path)
    if holds_adapter(there.path):
        from taia.analysis.adapters import adapter_norms as measure
    else:
        from taia.analysis.checkpoints import checkpoint_norms as measure
    if (checkpoint.config or {}).get("quantization_config"):
        raise CheckpointError(
            f"{here.given!r} is quantised: its numbers are not the weights.",
            "Give the unquantised base model.",
        )
    measured, notes = measure(checkpoint, there.path, declare, ranks)
    return Norms(here.given, there.given, _summed(measured), notes)


def write_norms(path: Path, norms: Norms) -> None:
    """Write norms as JSON.

    Args:
        path: The file; in a run, :data:`UPDATE_FILE`.
        norms: What to write.
    """
    text = json.dumps(norms.to_json(), indent=1, ensure_ascii=False)
    write_file(path, f"{text}\n")


def read_norms(run: Path) -> Norms | None:
    """Read a run's norms; none where it has none.

    Raises:
        CheckpointError: If the file cannot be read.
        DataError: If it holds something else.
    """
    path = run / UPDATE_FILE
    return Norms.from_json(read_json(path)) if path.is_file() else None


def _summed(measured: Iterable[Measured]) -> tuple[Norm, ...]:
    groups: dict[tuple[int | None, str, str], list[Measured]] = defaultdict(list)
    for one in measured:
        if not (math.isfinite(one.update) and math.isfinite(one.weight)):
            raise CheckpointError(
                f"Tensor {one.label.tensor.name!r} holds values that are not numbers, before or "
                "after fine-tuning.",
                "Training diverged, or a file is damaged: look at the losses, or save it again.",
            )
        groups[one.label.layer, one.label.component, one.label.projection].append(one)
    return tuple(
        Norm(
            *place,
            math.hypot(*(one.update for one in found)),
            math.hypot(*(one.weight for one in found)),
            len(found),
            _mean(rank for one in found for rank in one.ranks),
        )
        for place, found in groups.items()
    )


def _mean(values: Iterable[float]) -> float | None:
    return fmean(known) if (known := [*values]) else None
