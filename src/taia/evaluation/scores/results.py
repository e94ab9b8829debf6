"""What one mode achieved in one task, as it lies on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from taia.checkpoint.output.staging import write_file
from taia.errors import DataError

#: Of the files below; a change that an older taia could not read raises it.
SCHEMA: Final = 2

#: The file of a run's facts.
RUN_FILE: Final = "run.json"
#: Where its results lie: ``results/<mode>/<task>.json``, names percent-encoded.
RESULTS: Final = "results"
#: Where those lie that another took the place of: ``aside/<mode>/<task>/<key>.json``.
ASIDE: Final = "aside"


@dataclass(frozen=True, slots=True)
class Sample:
    """How one item went.

    Attributes:
        id: The item's, unique in its task and the same for every mode.
        score: What the item adds to the task's metric: 1 or 0 where answers are right or wrong;
            nan where the metric is of all items together and the item has no number of its own.
        group: The part of the task it belongs to, or nothing.
        scores: Further metrics of the item by name, such as another reading of a refusal.
        options: Of how many options one is right, so that a guess may be; None where there are
            none.
        prompt: What was asked; only with ``--log-samples``.
        response: What the model wrote; only with ``--log-samples``.
        gold: The right answer; only with ``--log-samples``.
    """

    id: str
    score: float = math.nan
    group: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    options: int | None = None
    prompt: str | None = None
    response: str | None = None
    gold: str | None = None


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What one mode achieved in one task.

    Attributes:
        mode: The mode's name.
        selection: What it stands for.
        task: The task's name.
        metric: The main metric. The task's score is the mean of ``Sample.score``, but for a metric
            of all items together, which has :attr:`drawn`.
        higher_is_better: False for an attack's success or a perplexity.
        samples: Every item, in the task's order.
        metrics: Every metric of the task by name, as lm-evaluation-harness aggregates it.
        protocol: How answers were matched: ``taia``, ``authors``, or ``lm-eval``.
        version: Of the task.
        key: SHA-256 of ``identity``; a result counts only for the same one.
        identity: What the result depends on: hashes of weights and tokenizer, selection, task,
            settings.
        seconds: How long it took; where modes ran together, its share.
        documents: How many items lm-evaluation-harness counts, by which it weighs tasks in a
            group; 0: as many as there are samples.
        value: The main metric of all items together, where it is no mean of theirs; else ``None``.
        drawn: That metric over items drawn with replacement, see
            :mod:`taia.evaluation.scores.resampling`; empty of too few items.
    """

    mode: str
    selection: str
    task: str
    metric: str
    higher_is_better: bool
    samples: tuple[Sample, ...]
    metrics: Mapping[str, float]
    protocol: str
    version: str
    key: str
    identity: Mapping[str, Any]
    seconds: float
    documents: int = 0
    value: float | None = None
    drawn: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """How much the task weighs in a group that weighs tasks by their items."""
        return self.documents or len(self.samples)

    @property
    def scores(self) -> list[float]:
        """Each item's score."""
        return [sample.score for sample in self.samples]

    @property
    def is_binary(self) -> bool:
        """Whether every item is right or wrong."""
        return all(score in (0, 1) for score in self.scores)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        plain = {"schema": SCHEMA, **asdict(self)}
        plain["samples"] = [_slim(sample) for sample in self.samples]
        plain["metrics"] = {name: _finite(value) for name, value in self.metrics.items()}
        plain["drawn"] = [_finite(value) for value in self.drawn]
        return plain


def result_path(run: Path, mode: str, task: str) -> Path:
    """Where a run keeps a mode's result of a task."""
    return run / RESULTS / quote(mode, safe="") / f"{quote(task, safe='')}.json"


def aside_path(run: Path, mode: str, task: str, key: str) -> Path:
    """Where a run keeps a result that does not count at present."""
    return run / ASIDE / quote(mode, safe="") / quote(task, safe="") / f"{key}.json"


def read_results(run: Path) -> list[TaskResult]:
    """Read all results of a run.

    Args:
        run: The folder that ``taia eval`` wrote.

    Returns:
        The results, in the order of the run's modes and tasks where ``run.json`` tells it.

    Raises:
        DataError: If there are none, or one cannot be read; the file is named.
    """
    facts = read_run(run)
    paths = sorted((run / RESULTS).glob("*/*.json"))
    if not paths:
        raise DataError(f"{run} has no results yet.", "Let `taia eval` finish a task first.")
    found = [read_result(path) for path in paths]
    modes, tasks = list(facts.get("modes", ())), list(facts.get("tasks", ()))

    def order(result: TaskResult) -> tuple[int, int]:
        return _place(modes, result.mode), _place(tasks, result.task)

    return sorted(found, key=order)


def read_run(run: Path) -> dict[str, Any]:
    """Read a run's facts: its modes, tasks, settings, hashes, versions and command.

    Returns:
        What ``run.json`` holds, and as ``aside`` the (mode, task) of which a result was set aside.

    Raises:
        DataError: If the folder is no run of ``taia eval``.
    """
    facts = _object(run / RUN_FILE, "Give a folder that `taia eval` wrote.")
    aside = sorted({path.parent for path in (run / ASIDE).glob("*/*/*.json")})
    return {**facts, "aside": [(unquote(at.parent.name), unquote(at.name)) for at in aside]}


def write_row(path: Path, row: Mapping[str, Any]) -> None:
    """Write one of a run's files, there whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_file(path, json.dumps(row, indent=1, ensure_ascii=False) + "\n")


def read_result(path: Path) -> TaskResult:
    """Read one result.

    Raises:
        DataError: If it is none, or is of a newer taia.
    """
    mend = "Remove the file and run `taia eval` again."
    row = _object(path, mend)
    if row.pop("schema", None) != SCHEMA:
        raise DataError(f"{path} is not a result of this version of taia.", mend)
    try:
        samples = tuple(Sample(**sample) for sample in row.pop("samples"))
        metrics = {name: _number(value) for name, value in row.pop("metrics").items()}
        drawn = tuple(map(_number, row.pop("drawn")))
        return TaskResult(samples=samples, metrics=metrics, drawn=drawn, **row)
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is not a result: {error}.", mend) from error


def _place(names: list[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def _slim(sample: Sample) -> dict[str, Any]:
    plain = {key: value for key, value in asdict(sample).items() if value not in (None, "", {})}
    return (
        plain if math.isfinite(sample.score) else {k: v for k, v in plain.items() if k != "score"}
    )


def _finite(value: float) -> float | None:
    """A number as JSON has it, which knows none that is not finite."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _object(path: Path, mend: str) -> dict[str, Any]:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", mend) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}.", mend) from error
    if not isinstance(row, dict):
        raise DataError(f"{path} is not a JSON object.", mend)
    return row
