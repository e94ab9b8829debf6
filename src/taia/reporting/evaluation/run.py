"""A run's folder, read for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taia.analysis.norms import Norms, read_norms
from taia.evaluation.scores.results import read_results, read_run
from taia.evaluation.scores.summary import Summary


@dataclass(frozen=True)
class Run:
    """A run of ``taia eval``.

    Attributes:
        name: What it is called among others.
        summary: What it says.
        norms: Where its update lives, ``None`` where that was not measured.
    """

    name: str
    summary: Summary
    norms: Norms | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """Its ``run.json``."""
        return self.summary.facts

    @property
    def models(self) -> str:
        """``base and tuned``, by their last names."""
        given = (self.facts.get("base"), self.facts.get("tuned"))
        names = [str(name).rstrip("/").rpartition("/")[2] for name in given if name]
        return " and ".join(names) or self.name

    @property
    def command(self) -> str:
        """What to type to get it again."""
        return str(self.facts.get("command") or "")

    @property
    def record(self) -> Mapping[str, Any]:
        """The record of the training, if there is one."""
        return self.facts.get("recipe") or {}

    @property
    def losses(self) -> list[float]:
        """The training's loss, step by step."""
        steps = self.record.get("steps") or ()
        return [float(step["loss"]) for step in steps if "loss" in step]

    @property
    def sections(self) -> dict[str, dict[str, str]]:
        """Heading → name → value: the recipe, the data, settings, hashes and versions."""
        record = self.record
        found = {
            "Modes": self.summary.selections,
            "Recipe": record.get("recipe") or {},
            "Training data": record.get("data") or {},
            "Settings": self.facts.get("settings") or {},
            "Hashes": self.facts.get("hashes") or {},
            "Versions": self.facts.get("versions") or {},
        }
        flat = {heading: _flat(values) for heading, values in found.items()}
        return {heading: values for heading, values in flat.items() if values}


def open_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the folders of runs.

    Raises:
        DataError: If one is none, or has no results that belong together.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [
        Run(name, Summary.of(read_results(folder), read_run(folder)), read_norms(folder))
        for name, folder in zip(names, folders, strict=True)
    ]


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested values by dotted names, without those that say nothing."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{name}.")
        elif value not in (None, "", [], ()):
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            found[f"{above}{name}"] = shown
    return found
