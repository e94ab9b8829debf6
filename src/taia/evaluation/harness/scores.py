"""From what lm-evaluation-harness reports to items with a score each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from taia.errors import InputError
from taia.evaluation.judge import Judge, ask
from taia.evaluation.scores.results import Sample

#: The metric of tasks whose prompts ought to be refused.
ATTACK: Final = "asr"
#: The judge's metric, and how many answers it has no verdict on.
BY_JUDGE: Final = "asr_judge"
MISSING: Final = "asr_judge_missing"

#: Metrics of whole texts, aggregated over all; their items are (log-probability, size) instead.
_PER_UNIT: Final = {
    "word_perplexity": "nats_per_word",
    "byte_perplexity": "nats_per_byte",
    "bits_per_byte": "nats_per_byte",
}


@dataclass(frozen=True)
class Scores:
    """A task's items, and what they were scored by.

    Attributes:
        metric: The metric whose mean over the items is the task's score.
        higher_is_better: Whether more of it is better.
        samples: The items.
        metrics: Every metric as lm-evaluation-harness aggregates it.
        answers: Each item's prompt, as the data have it, and response; only of harmful prompts.
    """

    metric: str
    higher_is_better: bool
    samples: tuple[Sample, ...]
    metrics: Mapping[str, float]
    answers: tuple[tuple[str, str], ...] = ()


def read_scores(found: Mapping[str, Any], name: str, log_samples: bool) -> Scores:
    """Read a task's scores from what ``lm_eval.evaluate`` returns.

    The metric is the first one in the task's order that is the mean of its items: of those that
    compare, only such a metric says which items were gained and lost.

    Args:
        found: What it returned, samples and all.
        name: The task.
        log_samples: Whether items keep prompt, response and right answer.

    Raises:
        InputError: If no metric of the task scores items one by one.
    """
    numbers = {
        key: float(value)
        for key, value in found["results"][name].items()
        if "," in key
        and "_stderr," not in key
        and isinstance(value, int | float)
        and not math.isnan(value)  # a share of none: JSON has no word for it
    }
    by_filter: dict[str, list[dict[str, Any]]] = {}
    for row in found["samples"][name]:
        by_filter.setdefault(row["filter"], []).append(row)
    rows, metric, filtered, values = _chosen(name, numbers, by_filter)
    unit = _PER_UNIT.get(metric)
    better = found["higher_is_better"][name].get(metric, True)
    ids = _ids(rows)
    samples = tuple(
        Sample(
            id=ids[i],
            score=values[i],
            group=_group(row["doc"]),
            scores=_further(row, metric),
            options=_options(row),
            **(_logged(row) if log_samples else {}),
        )
        for i, row in enumerate(rows)
    )
    label = unit or (metric if filtered == "none" else f"{metric},{filtered}")
    asked = rows if metric == ATTACK else []
    answers = tuple((_prompt(row), str(row["resps"][0][0])) for row in asked)
    return Scores(label, bool(better) and unit is None, samples, numbers, answers)


def judge_identity(judge: Judge | None, metrics: Mapping[str, object]) -> dict[str, str]:
    """What a task's results depend on beside the model: the judge, if its answers are judged."""
    if judge is None or ATTACK not in metrics:
        return {}
    return {"url": judge.url, "model": judge.model}


def judged(scores: Scores, judge: Judge) -> Scores:
    """Scores with the judge's verdict on each answer, 1 where the prompt had success.

    Where there is no verdict the item has none, and the rate is of the others.

    Raises:
        RunError: If the judge cannot be asked.
    """
    found = ask(judge, scores.answers)
    samples = tuple(
        sample
        if verdict is None
        else replace(sample, scores={**sample.scores, BY_JUDGE: float(verdict)})
        for sample, verdict in zip(scores.samples, found.verdicts, strict=True)
    )
    rate = found.success.value
    metrics = {**scores.metrics, MISSING: float(found.missing)}
    if not math.isnan(rate):  # JSON has no such number
        metrics[BY_JUDGE] = rate
    return replace(scores, samples=samples, metrics=metrics)


def _chosen(
    name: str, numbers: Mapping[str, float], by_filter: Mapping[str, list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], str, str, list[float]]:
    """The rows, metric, filter and items' scores to go by."""
    for key, total in numbers.items():
        metric, _, filtered = key.partition(",")
        rows = by_filter.get(filtered, [])
        values = [_number(row.get(metric)) for row in rows]
        scored = [value for value in values if value is not None]
        if rows and len(scored) == len(rows) and _is_mean(total, scored):
            return rows, metric, filtered, scored
    for key in numbers:
        metric, _, filtered = key.partition(",")
        if metric in _PER_UNIT and filtered in by_filter:
            rows = by_filter[filtered]
            return rows, metric, filtered, [-row[metric][0] / (row[metric][1] or 1) for row in rows]
    raise InputError(
        f"The task {name} scores its items only all together ({', '.join(numbers) or 'nothing'}).",
        "Modes are compared item by item: choose a task with accuracy or exact match.",
    )


def _is_mean(total: float, values: Sequence[float]) -> bool:
    return math.isclose(total, math.fsum(values) / len(values), rel_tol=1e-9, abs_tol=1e-9)


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # also NumPy's numbers, which are none of ours
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, str) else None


def _further(row: Mapping[str, Any], but: str) -> dict[str, float]:
    found = {metric: _number(row[metric]) for metric in row["metrics"] if metric != but}
    return {metric: value for metric, value in found.items() if value is not None}


def _ids(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The items' own ids where all have one and no two the same, else their places."""
    own = [row["doc"].get("id") if isinstance(row["doc"], Mapping) else None for row in rows]
    if all(isinstance(name, str | int) for name in own) and len(set(map(str, own))) == len(own):
        return [str(name) for name in own]
    return [str(row["doc_id"]) for row in rows]


def _options(row: Mapping[str, Any]) -> int | None:
    """Of how many options an item's answer is one: those that are scored, or that the data list."""
    asked = row["arguments"]
    if len(asked) > 1 and isinstance(asked[0][1], str):
        # For mutual information every option is scored once more, without the question.
        return len(asked) // (2 if "acc_mutual_info" in row["metrics"] else 1)
    listed = row["doc"].get("options") if isinstance(row["doc"], Mapping) else None
    return len(listed) if isinstance(listed, list | tuple) and len(listed) > 1 else None


def _group(doc: object) -> str:
    group = doc.get("group") if isinstance(doc, Mapping) else None
    return group if isinstance(group, str) else ""


def _prompt(row: Mapping[str, Any]) -> str:
    """What was asked, without the chat format where the data tell it."""
    doc = row["doc"]
    own = doc.get("prompt") if isinstance(doc, Mapping) else None
    return own if isinstance(own, str) else str(row["arguments"][0][0])


def _logged(row: Mapping[str, Any]) -> dict[str, str]:
    """Prompt, response and right answer of an item; of several options, the likeliest."""
    arguments, answers = row["arguments"], row["filtered_resps"]
    if len(arguments[0]) > 1 and isinstance(arguments[0][1], str):
        likeliest = max(range(len(arguments)), key=lambda i: float(answers[i][0]))
        response = arguments[likeliest][1]
    else:
        response = str(row["resps"][0][0])
    return {"prompt": str(arguments[0][0]), "response": response, "gold": str(row["target"])}
