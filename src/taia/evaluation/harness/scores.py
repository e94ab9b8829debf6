"""From what lm-evaluation-harness reports to items with a score each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from taia.errors import InputError, RunError
from taia.evaluation.harness.metric import aggregation, is_mean
from taia.evaluation.judge import Judge, ask
from taia.evaluation.scores.resampling import redraw
from taia.evaluation.scores.results import Sample

if TYPE_CHECKING:
    from taia.evaluation.harness.metric import Aggregate, Metric
    from taia.evaluation.harness.tasks import LmTask


#: The metric of tasks whose prompts ought to be refused.
ATTACK: Final = "asr"
#: The judge's metric, and how many answers it has no verdict on.
BY_JUDGE: Final = "asr_judge"
MISSING: Final = "asr_judge_missing"

#: How often items are drawn for a metric of all items together: where it is quick, and elsewhere,
#: as of BLEU or of a task's own function.
_QUICK_DRAWS: Final = 1000
_DRAWS: Final = 200


@dataclass(frozen=True)
class Scores:
    """A task's items, and what they were scored by.

    Attributes:
        metric: The metric whose mean over the items is the task's score.
        higher_is_better: Whether more of it is better.
        samples: The items.
        metrics: Every metric as lm-evaluation-harness aggregates it.
        documents: How many items lm-evaluation-harness counts.
        value: The main metric of all items, where it is no mean of theirs.
        drawn: That metric over items drawn with replacement.
        answers: Each item's prompt, as the data have it, and response; only of harmful prompts.
    """

    metric: str
    higher_is_better: bool
    samples: tuple[Sample, ...]
    metrics: Mapping[str, float]
    documents: int
    value: float | None = None
    drawn: tuple[float, ...] = ()
    answers: tuple[tuple[str, str], ...] = ()


def read_scores(
    found: Mapping[str, Any], name: str, task: LmTask, main: Metric, log_samples: bool
) -> Scores:
    """Read a task's scores from what ``lm_eval.evaluate`` returns.

    Where the main metric's aggregation is the mean, each item has its score; an item that the task
    gives none is left out, as it is from lm-evaluation-harness's mean. Any other metric is of all
    items together, and is drawn.

    Args:
        found: What it returned, samples and all.
        name: The task's name.
        task: The task, which tells how its metrics are aggregated.
        main: Which metric counts; where the task has none of that name, its first.
        log_samples: Whether items keep prompt, response and right answer.

    Raises:
        RunError: If the task has no such metric, or it is no number.
    """
    results = found["results"][name]
    numbers = {
        key: number
        for key in results
        if "," in key
        and "_stderr," not in key
        and (number := _float(results[key])) is not None
        and not math.isnan(number)  # a share of none: JSON has no word for it
    }
    rows, metric, label = _chosen(name, found["samples"][name], task, main)
    rows = [row for row in rows if metric in row]
    aggregate = aggregation(task, metric)
    items = [row[metric] for row in rows]
    value: float | None
    drawn: tuple[float, ...]
    if is_mean(aggregate):
        rows, scores = _means(name, label, rows, items, aggregate)
        value, drawn = None, ()
    else:
        key = label if "," in label else f"{label},none"
        value = numbers.get(key, math.nan)
        if not math.isfinite(value):
            raise RunError(
                f"The task {name} has no number as its {label}: {results.get(key)}.",
                f"Choose another of its metrics: --metric {name}=METRIC.",
            )
        scores = [_own(aggregate, item) for item in items]
        drawn = redraw(aggregate, items, _QUICK_DRAWS if _is_quick(aggregate) else _DRAWS)
    better = found["higher_is_better"][name].get(metric)
    ids = _ids(rows)
    samples = tuple(
        Sample(
            id=ids[i],
            score=scores[i],
            group=_group(row["doc"]),
            scores=_further(row, metric),
            options=_options(row),
            **(_logged(row) if log_samples else {}),
        )
        for i, row in enumerate(rows)
    )
    asked = rows if metric == ATTACK else []
    answers = tuple((_prompt(row), str(row["resps"][0][0])) for row in asked)
    documents = int(results["sample_len"])
    return Scores(label, better is not False, samples, numbers, documents, value, drawn, answers)


def judge_identity(judge: Judge | None, metrics: Mapping[str, object]) -> dict[str, str]:
    """What a task's results depend on beside the model: the judge, if its answers are judged."""
    if judge is None or ATTACK not in metrics:
        return {}
    return {"url": judge.url, "model": judge.model}


def refuse_idle_judge(tasks: Mapping[str, Any]) -> None:
    """Refuse a judge who would not be asked.

    Raises:
        InputError: If no task has answers to harmful prompts.
    """
    if not any(ATTACK in task.higher_is_better() for task in tasks.values()):
        raise InputError(
            f"A judge judges answers to harmful prompts, and {', '.join(tasks)} has none.",
            "Leave --judge away, or add the task advbench.",
        )


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
    name: str, rows: Sequence[Mapping[str, Any]], task: LmTask, main: Metric
) -> tuple[list[Mapping[str, Any]], str, str]:
    """The rows and the metric to go by, and what the two are called."""
    filters = [main.filter] if main.filter else list(dict.fromkeys(row["filter"] for row in rows))
    for filtered in filters:
        of_filter = [row for row in rows if row["filter"] == filtered]
        named = list(dict.fromkeys(metric for row in of_filter for metric in row["metrics"]))
        listed = [metric for metric in task.aggregation() if metric in named]
        for metric in [main.name] if main.is_asked else [main.name, *listed, *named]:
            if metric in named:
                label = metric if filtered == "none" else f"{metric},{filtered}"
                return of_filter, metric, label
    have = sorted({f"{metric},{row['filter']}" for row in rows for metric in row["metrics"]})
    raise RunError(
        f"The task {name} has no metric {main.name}.",
        f"It has {', '.join(have) or 'none at all'}: choose one with --metric {name}=METRIC.",
    )


def _is_quick(aggregate: Aggregate) -> bool:
    from lm_eval.api import metrics

    slow = (metrics.bleu, metrics.chrf, metrics.chrfpp, metrics.ter)
    return getattr(aggregate, "__module__", "") == metrics.__name__ and aggregate not in slow


def _means(
    name: str,
    label: str,
    rows: Sequence[Mapping[str, Any]],
    items: Sequence[object],
    aggregate: Aggregate,
) -> tuple[list[Mapping[str, Any]], list[float]]:
    """The items that a mean is over, with their numbers."""
    from lm_eval.api.metrics import nanmean

    kept, scores = [], []
    for row, item in zip(rows, items, strict=True):
        number = _float(item)
        if number is None or not math.isfinite(number):
            if number is not None and math.isnan(number) and aggregate is nanmean:
                continue
            raise RunError(
                f"The {label} of item {row['doc_id']} of the task {name} is {item!r}, no number.",
                f"Choose another of its metrics: --metric {name}=METRIC.",
            )
        kept.append(row)
        scores.append(number)
    if not kept:
        raise RunError(f"The {label} of the task {name} is of no item.", "Check the task's file.")
    return kept, scores


def _own(aggregate: Aggregate, item: object) -> float:
    """A metric of one item alone; nan where it has none."""
    try:
        return float(aggregate([item]))
    except (ArithmeticError, ValueError, TypeError, IndexError):
        return math.nan


def _float(value: object) -> float | None:
    """A number, NumPy's too; nothing of what is none."""
    try:
        return None if isinstance(value, str) else float(value)  # type: ignore[arg-type]  # tried
    except (TypeError, ValueError):
        return None


def _further(row: Mapping[str, Any], but: str) -> dict[str, float]:
    found = {metric: _float(row[metric]) for metric in row["metrics"] if metric != but}
    return {
        name: value for name, value in found.items() if value is not None and math.isfinite(value)
    }


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
    arguments, answers = row["arguments"], row["resps"]
    if len(arguments[0]) > 1 and isinstance(arguments[0][1], str):
        likeliest = max(range(len(arguments)), key=lambda i: float(answers[i][0][0]))
        response = arguments[likeliest][1]
    else:
        response = str(row["resps"][0][0])
    return {"prompt": str(arguments[0][0]), "response": response, "gold": str(row["target"])}
