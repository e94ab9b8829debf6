"""Runs read for a report: one, and several of the same modes and tasks side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from taia.analysis.norms import Norms, read_norms
from taia.evaluation.scores.results import read_results, read_run
from taia.evaluation.scores.summary import Summary
from taia.reporting.words import AVERAGE, called, capital, direction, mean, pairs, points, score


@dataclass(frozen=True)
class FinishedRun:
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
        """Heading → name → value: the recipe, the data, settings, hashes, versions and times."""
        record = self.record
        found = {
            "Modes": self.summary.selections,
            "Recipe": record.get("recipe") or {},
            "Training data": record.get("data") or {},
            "Settings": self.facts.get("settings") or {},
            "Hashes": self.facts.get("hashes") or {},
            "Versions and machine": {
                **(self.facts.get("versions") or {}),
                **(self.facts.get("machine") or {}),
            },
            "Seconds": self.facts.get("seconds") or {},
        }
        flat = {heading: _flat(values) for heading, values in found.items()}
        return {heading: values for heading, values in flat.items() if values}


def open_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """Read the folders of runs.

    Raises:
        DataError: If one is none, or has no results that belong together.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [
        FinishedRun(name, Summary.of(read_results(folder), read_run(folder)), read_norms(folder))
        for name, folder in zip(names, folders, strict=True)
    ]


def are_alike(runs: Sequence[FinishedRun]) -> bool:
    """Whether there are several runs, of the same modes and tasks."""
    kinds = {(run.summary.modes, run.summary.tasks, run.summary.averaged) for run in runs}
    return len(runs) > 1 and len(kinds) == 1


def columns(runs: Sequence[FinishedRun]) -> list[str]:
    """The average, and the tasks, with ``↓`` where lower is better."""
    summary = runs[0].summary
    names = [f"{task} {direction(summary, task)}".strip() for task in summary.tasks]
    return _with_average(summary, names, AVERAGE)


def side_by_side(runs: Sequence[FinishedRun]) -> dict[str, dict[str, list[str]]]:
    """Mode → run → its scores, in the order of :func:`columns`."""
    return {
        mode: {run.name: _scores(run.summary, mode) for run in runs}
        for mode in runs[0].summary.modes
    }


def run_to_run(runs: Sequence[FinishedRun]) -> list[str]:
    """How the averages' differences fall out from run to run."""
    return [
        sentence
        for mode, other in pairs(runs[0].summary.modes)
        if (sentence := _over_runs(runs, mode, other))
    ]


def _over_runs(runs: Sequence[FinishedRun], mode: str, other: str) -> str:
    found = [run.summary.average_difference(mode, other) for run in runs]
    values = [difference.value for difference in found if difference is not None]
    if len(values) < len(runs):
        return ""
    better = sum(value > 0 for value in values)
    return (
        f"{capital(called(mode))} minus {called(other)} on average, in {len(runs)} runs: "
        f"{', '.join(map(points, values))} points; mean {points(fmean(values))}, standard "
        f"deviation {100 * stdev(values):.1f}, above zero in {better} of them."
    )


def _scores(summary: Summary, mode: str) -> list[str]:
    found = [score(summary, mode, task) for task in summary.tasks]
    return _with_average(summary, found, mean(summary.average(mode)))


def _with_average(summary: Summary, cells: list[str], average: str) -> list[str]:
    return [average, *cells] if len(summary.averaged) > 1 else cells


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
